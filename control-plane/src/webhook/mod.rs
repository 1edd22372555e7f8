//! The webhook: the API server shows every new pod of the mesh here before it is stored.
//!
//! Owns the listener's one question (`POST /inject`), the file with the injector's settings, and the roots
//! in the webhook's configuration ([`bundle`]), by which the API server knows us. Does not own what is
//! injected: [`crate::inject`].
//!
//! What the API server is told:
//!
//! | the question | the answer | what becomes of the pod |
//! |---|---|---|
//! | a pod to be injected | allowed, with a patch | it is stored with its sidecar |
//! | a pod to be left alone; something that is no new pod | allowed | it is stored as it is |
//! | a pod that cannot get a sidecar as it is | denied, with field and reason | its author is told, whatever `failurePolicy` says |
//! | no `AdmissionReview` of `admission.k8s.io/v1` | HTTP 400 | the call has failed: `failurePolicy` decides |
//!
//! Needs `get`, `list`, `watch` and `patch` on the `mutatingwebhookconfigurations`
//! (`admissionregistration.k8s.io`) named `weft-injector`. The version of the API server (`/version`) is for
//! everybody to read.

pub mod bundle;
mod metrics;
mod review;
mod settings_file;
mod version;

#[cfg(test)]
mod tests;

pub use metrics::InjectionMetrics;
pub use settings_file::{SettingsFile, SettingsFileError};
pub use version::NativeSidecars;

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use review::{Answer, Verdict};

/// The largest question. An object of the API is 3 MiB at most, as is a request to it.
const QUESTION_BYTES: usize = 4 << 20;

/// The names that the API server may call the Service by, for the certificate.
pub fn names(namespace: &str, cluster_domain: &str) -> Vec<String> {
    let service = format!("weft-control-plane.{namespace}.svc");
    vec![format!("{service}.{cluster_domain}"), service]
}

/// What the webhook answers from.
#[derive(Debug)]
pub struct Webhook {
    /// What the injector is told for all pods.
    pub settings: Arc<SettingsFile>,
    /// Whether the cluster has native sidecars.
    pub native_sidecars: NativeSidecars,
    /// What became of pods.
    pub metrics: InjectionMetrics,
}

impl Webhook {
    /// The endpoints.
    pub fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "live\n"))
            .route("/inject", post(inject))
            .layer(DefaultBodyLimit::max(QUESTION_BYTES))
            .with_state(Arc::new(self))
    }
}

async fn inject(State(webhook): State<Arc<Webhook>>, question: Bytes) -> Response {
    let native_sidecars = webhook.native_sidecars.known().await;
    let settings = webhook.settings.current();
    let Answer {
        pod,
        verdict,
        review,
    } = match review::answer(&question, native_sidecars, &settings) {
        Ok(answer) => answer,
        Err(error) => {
            tracing::warn!(%error, "a question to the injector cannot be understood");
            webhook.metrics.unreadable();
            return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response();
        }
    };
    match &verdict {
        Verdict::Injected => tracing::debug!(pod, "injected"),
        Verdict::Left(reason) => tracing::info!(pod, %reason, "left alone"),
        Verdict::Refused(invalid) => tracing::warn!(pod, %invalid, "refused"),
        Verdict::NoPod => tracing::debug!(pod, "not a new pod"),
    }
    webhook.metrics.count(&verdict);
    Json(review).into_response()
}
