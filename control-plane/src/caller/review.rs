//! Projected service account tokens: the Kubernetes API says whose they are.
//!
//! Needs `create` on `tokenreviews` (`authentication.k8s.io`), in the whole cluster.
//!
//! The API server knows whether the pod that a token is bound to still exists, so a token ends with its
//! pod, not only with its time. What it said is remembered for a moment: when a control plane comes back,
//! every proxy of the mesh comes with it.

use std::{
    collections::{HashMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use k8s_openapi::api::authentication::v1::{
    TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo,
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{
    ca::token::{AUDIENCE, Subject},
    monitoring::metrics::ReviewMetrics,
};

/// How long an answer is taken for true without asking again.
const REMEMBERED: Duration = Duration::from_secs(10);
/// How many answers are remembered, the newest.
const CAPACITY: usize = 4096;
/// Reviews under way at a time: each costs the API server the verification of a signature, and more.
const CONCURRENT: usize = 32;
/// Waiting for a turn and for the answer, together.
const PATIENCE: Duration = Duration::from_secs(10);

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Has tokens reviewed by the Kubernetes API.
pub struct Reviewer {
    api: Api<TokenReview>,
    turns: Semaphore,
    recent: Mutex<Recent>,
    metrics: ReviewMetrics,
}

/// Why a token is no proof now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// It is no proof, whenever it is shown.
    #[error("the service account token is refused: {0}")]
    Refused(String),
    /// Nobody can tell. It may be one.
    #[error("the service account token cannot be reviewed now: {0}")]
    Unavailable(String),
}

impl Reviewer {
    /// Asks this API.
    pub fn new(client: Client, metrics: ReviewMetrics) -> Self {
        Self {
            api: Api::all(client),
            turns: Semaphore::new(CONCURRENT),
            recent: Mutex::default(),
            metrics,
        }
    }

    /// Whom a token speaks for.
    pub async fn review(&self, token: &str) -> Result<Subject, ReviewError> {
        let digest = digest(token);
        if let Some(subject) = self.recent().get(&digest, Instant::now()) {
            self.metrics.remembered.inc();
            return Ok(subject);
        }
        let reviewed = timeout(PATIENCE, self.ask(token))
            .await
            .unwrap_or_else(|_| {
                Err(ReviewError::Unavailable(format!(
                    "the Kubernetes API did not answer within {PATIENCE:?}"
                )))
            });
        match &reviewed {
            Ok(subject) => {
                self.metrics.accepted.inc();
                self.recent()
                    .insert(digest, subject.clone(), Instant::now());
            }
            Err(ReviewError::Refused(_)) => {
                self.metrics.refused.inc();
            }
            Err(ReviewError::Unavailable(_)) => {
                self.metrics.failed.inc();
            }
        }
        reviewed
    }

    async fn ask(&self, token: &str) -> Result<Subject, ReviewError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let turn = self.turns.acquire().await;
        let answer = self.api.create(&PostParams::default(), &review).await;
        drop(turn);
        let status = answer
            .map_err(|error| ReviewError::Unavailable(explain(&error)))?
            .status
            .unwrap_or_default();
        subject(status).map_err(ReviewError::Refused)
    }

    fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        // Nothing is half done in there after a panic: at worst an answer is forgotten early.
        self.recent
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").finish_non_exhaustive()
    }
}

/// What an answer of the API proves, or why nothing.
fn subject(status: TokenReviewStatus) -> Result<Subject, String> {
    if status.authenticated != Some(true) {
        let reason = status.error.filter(|reason| !reason.is_empty());
        return Err(format!(
            "{}; the proxy must show a projected token for the audience {AUDIENCE}",
            reason
                .as_deref()
                .unwrap_or("the Kubernetes API does not know it")
        ));
    }
    // An API server that knows nothing of audiences accepts tokens that were meant for others.
    let audiences = status.audiences.unwrap_or_default();
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(format!(
            "it is for the audiences {audiences:?}, not for {AUDIENCE}"
        ));
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.as_deref().unwrap_or_default();
    let Some((namespace, service_account)) = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
    else {
        return Err(format!(
            "it speaks for {name:?}, which is no service account"
        ));
    };
    let (Some(pod), Some(_)) = (extra(&user, POD_NAME), extra(&user, POD_UID)) else {
        return Err(format!(
            "it speaks for the service account {namespace}/{service_account}, but for none of its pods; \
             mount it as a projected volume (serviceAccountToken), which binds it to the pod"
        ));
    };
    Ok(Subject {
        namespace: namespace.to_owned(),
        service_account: service_account.to_owned(),
        pod: pod.to_owned(),
    })
}

/// The one value of a key that has exactly one.
fn extra<'a>(user: &'a UserInfo, key: &str) -> Option<&'a str> {
    match user.extra.as_ref()?.get(key)?.as_slice() {
        [value] if !value.is_empty() => Some(value),
        _ => None,
    }
}

fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "{}; the control plane needs the right to create tokenreviews",
            status.message
        ),
        other => other.to_string(),
    }
}

/// The name of a token that may be kept: SHA-256.
type Digest = Box<[u8]>;

fn digest(token: &str) -> Digest {
    rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256
        .tls13()
        .expect("it is a cipher suite of TLS 1.3")
        .common
        .hash_provider
        .hash(token.as_bytes())
        .as_ref()
        .into()
}

/// Answers that are new enough.
#[derive(Debug, Default)]
struct Recent {
    subjects: HashMap<Digest, Subject>,
    /// The same, oldest first, with when each is forgotten.
    order: VecDeque<(Instant, Digest)>,
}

impl Recent {
    fn get(&mut self, digest: &Digest, now: Instant) -> Option<Subject> {
        self.forget(now);
        self.subjects.get(digest).cloned()
    }

    fn insert(&mut self, digest: Digest, subject: Subject, now: Instant) {
        self.forget(now);
        // Two requests of a pod may have been under way at once.
        if self.subjects.contains_key(&digest) {
            return;
        }
        if self.order.len() == CAPACITY
            && let Some((_, oldest)) = self.order.pop_front()
        {
            self.subjects.remove(&oldest);
        }
        self.order.push_back((now + REMEMBERED, digest.clone()));
        self.subjects.insert(digest, subject);
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, digest)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            self.subjects.remove(&digest);
        }
    }
}

#[cfg(test)]
mod tests;
