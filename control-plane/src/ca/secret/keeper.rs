//! Reads the Secrets, follows them, and writes what [`rotation`](super::rotation) decides.

use std::{
    future::pending,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::time::Instant;

use super::{
    NAME, Names, SecretError, Settings,
    ledger::Ledger,
    rotation::{self, Advance, Policy, Step},
    supplied::{Succession, Supplied},
};
use crate::{
    ca::{
        Authority, Ca, Leaves,
        authority::{Flaw, NewRoot, rfc3339},
    },
    kubernetes::{Cluster, Leadership},
    monitoring::metrics::CaMetrics,
};

/// A start waits this long for the API and for a supplied Secret.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts of anything.
const RETRY: Duration = Duration::from_secs(2);
/// The wall clock is looked at after at most this: it may be set.
const CLOCK_CHECK: Duration = Duration::from_secs(600);

/// Keeps a [`Ca`] in line with its Secrets.
pub struct Keeper {
    secrets: Api<Secret>,
    names: Names,
    leaves: Leaves,
    supplied: Option<Arc<str>>,
    policy: Policy,
    ca: Arc<Ca>,
    own: Own,
    /// Who signs, if a supplied Secret does.
    succession: Option<Succession>,
    /// Whether the supplied Secret, as it is now, could be used.
    is_supplied_good: bool,
    metrics: CaMetrics,
}

/// The Secret `weft-ca`.
#[derive(Debug, Default)]
struct Own {
    /// As it was read last; `None` when it is not there.
    secret: Option<Secret>,
    /// What it said when it could be used last.
    ledger: Ledger,
    /// Whether it could be used when it was read last.
    is_good: bool,
}

impl Keeper {
    /// Reads the Secrets, or makes the one that is the control plane's own.
    ///
    /// Errors when what is there cannot be used, or the API does not answer in half a minute.
    pub async fn open(
        cluster: &Cluster,
        settings: Settings,
        metrics: CaMetrics,
    ) -> Result<(Arc<Ca>, Self), SecretError> {
        let began = Instant::now();
        loop {
            match Self::try_open(cluster, &settings, &metrics).await {
                Err(error) if error.may_pass() && began.elapsed() < PATIENCE => {
                    tracing::warn!(%error, "the root of the mesh is not there yet, trying again");
                    tokio::time::sleep(RETRY).await;
                }
                opened => return opened,
            }
        }
    }

    async fn try_open(
        cluster: &Cluster,
        settings: &Settings,
        metrics: &CaMetrics,
    ) -> Result<(Arc<Ca>, Self), SecretError> {
        let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
        let names = Names::new(&cluster.namespace, settings.supplied.as_deref());
        let policy = Policy {
            leaf_ttl: settings.leaves.max_ttl,
            overlap: settings.overlap,
        };
        let domain = &settings.leaves.trust_domain;
        let (own, succession) = match &settings.supplied {
            None => {
                let own = establish(&secrets, &names, &policy, domain).await?;
                (Some(own), None)
            }
            Some(name) => {
                let supplied = read(&secrets, name, names.supplied.as_deref()).await?;
                let supplied = supplied.ok_or_else(|| SecretError::Missing {
                    secret: names.supplied.clone().unwrap_or_default(),
                })?;
                let supplied = Supplied::read(&supplied)
                    .map_err(|malformed| names.malformed_supplied(malformed))?;
                let own = read(&secrets, NAME, Some(&names.own)).await?;
                (own, Some(Succession::new(supplied)))
            }
        };
        let ledger = match &own {
            Some(secret) => Ledger::read(secret).map_err(|malformed| names.malformed(malformed))?,
            None => Ledger::default(),
        };
        let authority =
            authority(&ledger, succession.as_ref(), domain).map_err(|flaw| names.flawed(flaw))?;
        let ca = Arc::new(Ca::new(settings.leaves.clone(), authority));
        metrics.usable.set(1);
        let keeper = Self {
            secrets,
            names,
            leaves: settings.leaves.clone(),
            supplied: settings.supplied.clone(),
            policy,
            ca: ca.clone(),
            own: Own {
                secret: own,
                ledger,
                is_good: true,
            },
            succession,
            is_supplied_good: true,
            metrics: metrics.clone(),
        };
        Ok((ca, keeper))
    }

    /// Takes over every change of the Secrets, and rotates the root while it leads. Never ends.
    pub async fn run(mut self, mut leadership: Leadership) {
        let mut own = pin!(watcher::watch_object(self.secrets.clone(), NAME).default_backoff());
        let mut supplied = match &self.supplied {
            Some(name) => watcher::watch_object(self.secrets.clone(), name)
                .default_backoff()
                .boxed(),
            None => stream::pending().boxed(),
        };
        let mut look_again = Instant::now();
        loop {
            let leads = leadership.is_held();
            tokio::select! {
                Some(heard) = own.next() => match heard {
                    Ok(secret) => self.heard(|keeper| keeper.take_own(secret)),
                    Err(error) => watch_failed(&self.names.own, &error),
                },
                Some(heard) = supplied.next() => match heard {
                    Ok(secret) => self.heard(|keeper| keeper.take_supplied(secret)),
                    Err(error) => watch_failed(self.names.supplied.as_deref().unwrap_or_default(), &error),
                },
                () = tokio::time::sleep_until(look_again) => {}
                () = async {
                    match leads {
                        true => pending().await,
                        false => leadership.acquired().await,
                    }
                } => {}
            }
            let wait = self.act(leadership.is_held(), SystemTime::now()).await;
            look_again = Instant::now() + wait;
        }
    }

    /// Does what the time and the Secrets ask for. Gives how long to wait before there is more to do.
    async fn act(&mut self, leads: bool, now: SystemTime) -> Duration {
        let mut due = now + CLOCK_CHECK;
        if let Some(succession) = &mut self.succession {
            succession.advance(now);
            due = succession.due().map_or(due, |next| next.min(due));
            self.heard(Self::install);
        }
        if !leads || !self.own.is_good {
            return wait(due, now);
        }
        match self.next(now) {
            Ok(Advance::Wait(until)) => wait(until.min(due), now),
            Ok(Advance::Write(ledger, step)) => match self.write(&ledger, step).await {
                Ok(()) => Duration::ZERO,
                Err(error) => {
                    tracing::warn!(%error, step = step.label(), "the root's Secret is not written, trying again");
                    RETRY
                }
            },
            Err(error) => {
                tracing::error!(%error, "the root of the mesh cannot be rotated");
                wait(due, now)
            }
        }
    }

    /// What is to be done with the Secret `weft-ca`.
    fn next(&self, now: SystemTime) -> Result<Advance, SecretError> {
        let ledger = &self.own.ledger;
        let next = match &self.succession {
            Some(succession) => {
                let roots = succession
                    .latest()
                    .bundle(&self.leaves.trust_domain, now)
                    .map_err(|flaw| self.names.flawed(flaw))?;
                rotation::record(ledger, &roots, &self.policy, now)
            }
            // Deleted: what it said is still here, and every workload relies on it.
            None if self.own.secret.is_none() => {
                return Ok(Advance::Write(Box::new(ledger.clone()), Step::Establish));
            }
            None => rotation::advance(ledger, &self.policy, now, || {
                NewRoot::generate(&self.leaves.trust_domain, now)
            }),
        };
        next.map_err(|malformed| self.names.malformed(malformed))
    }

    async fn write(&mut self, ledger: &Ledger, step: Step) -> Result<(), SecretError> {
        // Never write what no replica could use.
        authority(ledger, self.succession.as_ref(), &self.leaves.trust_domain)
            .map_err(|flaw| self.names.flawed(flaw))?;
        let written = write(&self.secrets, &self.names, self.own.secret.as_ref(), ledger).await?;
        self.metrics.step(step.label()).inc();
        tracing::info!(
            secret = self.names.own,
            step = step.label(),
            "the root's Secret is written"
        );
        self.take_own(Some(written))
    }

    /// Takes in what the Secret `weft-ca` says now.
    fn take_own(&mut self, secret: Option<Secret>) -> Result<(), SecretError> {
        let Some(secret) = secret else {
            if self.own.secret.take().is_some() {
                tracing::error!(
                    secret = self.names.own,
                    "the root's Secret was deleted; the leader makes it again from what it said"
                );
            }
            return Ok(());
        };
        self.own.is_good = false;
        let ledger = Ledger::read(&secret).map_err(|malformed| self.names.malformed(malformed))?;
        let authority = authority(&ledger, self.succession.as_ref(), &self.leaves.trust_domain)
            .map_err(|flaw| self.names.flawed(flaw))?;
        self.own = Own {
            secret: Some(secret),
            ledger,
            is_good: true,
        };
        self.replace(authority);
        Ok(())
    }

    /// Takes in what the supplied Secret says now.
    fn take_supplied(&mut self, secret: Option<Secret>) -> Result<(), SecretError> {
        self.is_supplied_good = false;
        let Some(succession) = &mut self.succession else {
            return Ok(());
        };
        let secret = secret.ok_or_else(|| SecretError::Missing {
            secret: self.names.supplied.clone().unwrap_or_default(),
        })?;
        let supplied = Supplied::read(&secret)
            .map_err(|malformed| self.names.malformed_supplied(malformed))?;
        let domain = &self.leaves.trust_domain;
        succession
            .take(supplied, &self.policy, domain, SystemTime::now())
            .map_err(|flaw| self.names.flawed(flaw))?;
        self.is_supplied_good = true;
        self.install()
    }

    fn install(&mut self) -> Result<(), SecretError> {
        let succession = self.succession.as_ref();
        let authority = authority(&self.own.ledger, succession, &self.leaves.trust_domain)
            .map_err(|flaw| self.names.flawed(flaw))?;
        self.replace(authority);
        Ok(())
    }

    fn replace(&self, authority: Authority) {
        if authority == *self.ca.authority() {
            return;
        }
        tracing::info!(
            roots = authority.roots().len(),
            signs_until = rfc3339(authority.not_after()),
            "the roots of the mesh changed"
        );
        self.ca.replace(authority);
    }

    /// Does something about a Secret; when it cannot be used, the last good one stays in force.
    fn heard(&mut self, take: impl FnOnce(&mut Self) -> Result<(), SecretError>) {
        if let Err(error) = take(self) {
            tracing::error!(%error, "the last good root of the mesh stays in force");
        }
        let is_good = self.own.is_good && self.is_supplied_good;
        self.metrics.usable.set(i64::from(is_good));
    }
}

impl SecretError {
    /// Whether waiting may help.
    fn may_pass(&self) -> bool {
        match self {
            Self::Api { error, .. } => {
                !matches!(&**error, kube::Error::Api(status) if matches!(status.code, 400..=403 | 422))
            }
            Self::Missing { .. } => true,
            Self::Content { .. } => false,
        }
    }
}

/// What signs, with what is trusted.
fn authority(
    ledger: &Ledger,
    succession: Option<&Succession>,
    trust_domain: &str,
) -> Result<Authority, Flaw> {
    let now = SystemTime::now();
    match succession {
        Some(succession) => succession.authority(ledger, trust_domain, now),
        None => ledger.authority(trust_domain, now),
    }
}

/// The Secret `weft-ca`, with a root: of several replicas that start at once one makes it, and all get that.
async fn establish(
    secrets: &Api<Secret>,
    names: &Names,
    policy: &Policy,
    trust_domain: &str,
) -> Result<Secret, SecretError> {
    loop {
        let secret = read(secrets, NAME, Some(&names.own)).await?;
        let ledger = match &secret {
            Some(secret) => Ledger::read(secret).map_err(|malformed| names.malformed(malformed))?,
            None => Ledger::default(),
        };
        let now = SystemTime::now();
        let made = rotation::establish(&ledger, policy, now, || {
            NewRoot::generate(trust_domain, now)
        });
        match (made, secret) {
            (None, Some(secret)) => return Ok(secret),
            (None, None) => unreachable!("a ledger without a Secret has no root"),
            (Some(ledger), secret) => match write(secrets, names, secret.as_ref(), &ledger).await {
                Ok(secret) => {
                    tracing::info!(secret = names.own, "a root for the mesh is made");
                    return Ok(secret);
                }
                Err(SecretError::Api { error, .. }) if is_conflict(&error) => {}
                Err(error) => return Err(error),
            },
        }
    }
}

async fn read(
    secrets: &Api<Secret>,
    name: &str,
    full_name: Option<&str>,
) -> Result<Option<Secret>, SecretError> {
    secrets
        .get_opt(name)
        .await
        .map_err(|error| api_error(full_name.unwrap_or(name), "read", error))
}

/// Makes the Secret, or replaces the one that was read: never another.
async fn write(
    secrets: &Api<Secret>,
    names: &Names,
    read: Option<&Secret>,
    ledger: &Ledger,
) -> Result<Secret, SecretError> {
    let mut secret = read.cloned().unwrap_or_default();
    ledger.write(&mut secret);
    let params = PostParams::default();
    if read.is_some() {
        let replaced = secrets.replace(NAME, &params, &secret).await;
        return replaced.map_err(|error| api_error(&names.own, "changed", error));
    }
    secret.metadata.name = Some(NAME.to_owned());
    secret.type_ = Some("Opaque".to_owned());
    let labels = [("app.kubernetes.io/part-of", "weft")];
    secret.metadata.labels = Some(
        labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    );
    let created = secrets.create(&params, &secret).await;
    created.map_err(|error| api_error(&names.own, "made", error))
}

fn api_error(secret: &str, action: &'static str, error: kube::Error) -> SecretError {
    SecretError::Api {
        secret: secret.to_owned(),
        action,
        error: Box::new(error),
    }
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

fn watch_failed(secret: &str, error: &watcher::Error) {
    tracing::warn!(secret, %error, "the Secret is not followed for a moment");
}

fn wait(until: SystemTime, now: SystemTime) -> Duration {
    until.duration_since(now).unwrap_or_default()
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper")
            .field("secret", &self.names.own)
            .field("supplied", &self.names.supplied)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
