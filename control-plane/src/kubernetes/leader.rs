//! Which of several replicas writes: status, webhook bundle, trust bundles, a rotated root.
//!
//! Replicas compete for the Lease `weft-control-plane` in the namespace of the control plane. [`Candidate`] decides,
//! without IO; [`elect`] asks the API and tells [`Leadership`].
//!
//! Needs `get`, `create` and `update` on `leases` (`coordination.k8s.io`) in that namespace.

mod candidate;

use std::{fmt, time::Duration};

use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Cluster, FIELD_MANAGER};
use candidate::{Candidate, Claim};

/// The name of the Lease.
const LEASE: &str = "weft-control-plane";

/// How long a Lease that nobody renews stands, seen from whoever wants it. With [`RENEW_EVERY`] a leader that is killed
/// is replaced within 7 s, mostly within 6: sooner than replicas restart, and longer than an API server hesitates.
const DURATION: Duration = Duration::from_secs(5);

/// How often the leader renews, and the others look. One small request per second and replica.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// A leader that has not renewed for so long stops writing. What is left of [`DURATION`] is for requests that are on
/// their way, and for clocks that run at different speeds.
const RENEW_WITHIN: Duration = Duration::from_secs(3);

/// The longest that a shutdown waits for the Lease to be given back.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);

/// Whether this replica is the one that writes. Clones tell the same.
///
/// Registered with a registry, gives `leader`: 1 for the one that writes, else 0.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// The leadership of a replica that has no rivals, or that never leads: for where there is no election.
    pub fn settled(held: bool) -> Self {
        // No process lives for as long as this.
        let forever = Duration::from_secs(100 * 365 * 24 * 3600);
        Self(watch::channel(held.then(|| Instant::now() + forever)).1)
    }

    /// Whether this replica may write now. By the clock: it ends even while the process has no time to notice.
    pub fn is_held(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this replica may write. Never ends for one whose election has ended.
    pub async fn acquired(&mut self) {
        self.becomes(true).await;
    }

    /// Waits until this replica may no longer write: what it was about to write is another's to decide.
    pub async fn lost(&mut self) {
        self.becomes(false).await;
    }

    async fn becomes(&mut self, held: bool) {
        let wanted = |until: &Option<Instant>| until.is_some() == held;
        if self.0.wait_for(wanted).await.is_err() {
            std::future::pending().await
        }
    }
}

impl Collector for Leadership {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let metric = encoder.encode_descriptor(
            "leader",
            "Whether this replica is the one that writes to the Kubernetes API",
            None,
            MetricType::Gauge,
        )?;
        ConstGauge::new(i64::from(self.is_held())).encode(metric)
    }
}

/// Takes part in the election until shutdown, and then gives the Lease back. The future does the work.
pub fn elect(
    cluster: &Cluster,
    shutdown: CancellationToken,
) -> (Leadership, impl Future<Output = ()> + Send + 'static) {
    let (held, told) = watch::channel(None);
    let election = Election {
        api: Api::namespaced(cluster.client.clone(), &cluster.namespace),
        candidate: Candidate::new(cluster.replica.clone()),
        known: None,
        held,
        failing: false,
    };
    (Leadership(told), election.run(shutdown))
}

struct Election {
    api: Api<Lease>,
    candidate: Candidate,
    /// The Lease as this replica wrote it last: it can be renewed without asking again.
    known: Option<Lease>,
    /// Until when this replica may write.
    held: watch::Sender<Option<Instant>>,
    /// Whether the last attempt failed: a failure is told once.
    failing: bool,
}

impl Election {
    async fn run(mut self, shutdown: CancellationToken) {
        let finished = shutdown.run_until_cancelled(self.compete()).await;
        debug_assert!(finished.is_none(), "an election has no end of its own");
        self.release().await;
    }

    async fn compete(&mut self) {
        loop {
            let began = Instant::now();
            let until = *self.held.borrow();
            let patience = until.unwrap_or(began + RENEW_WITHIN);
            match timeout_at(patience, self.attempt()).await {
                Ok(Ok(())) => self.failing = false,
                Ok(Err(error)) => self.failed(&error.to_string()),
                Err(_) => self.failed("the API server does not answer"),
            }
            let next = self.candidate.next_attempt(began);
            let until = *self.held.borrow();
            sleep_until(until.map_or(next, |until| until.min(next))).await;
            self.expire();
        }
    }

    /// Looks at the Lease, and renews or takes it where it may.
    async fn attempt(&mut self) -> kube::Result<()> {
        let began = Instant::now();
        let lease = match self.known.take() {
            Some(lease) => Some(lease),
            None => self.api.get_opt(LEASE).await?,
        };
        let spec = lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let claim = self
            .candidate
            .decide(spec, Instant::now(), Timestamp::now().into());
        let spec = match claim {
            Claim::Take(spec) => spec,
            Claim::Leave => {
                self.tell(None);
                return Ok(());
            }
        };
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match lease {
            // With the version that was seen: who writes second is told, and looks again.
            Some(lease) => {
                let lease = Lease {
                    spec: Some(spec),
                    ..lease
                };
                self.api.replace(LEASE, &params, &lease).await
            }
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(LEASE.to_owned()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec),
                };
                self.api.create(&params, &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.known = Some(lease);
                // From before it was asked: others may see the Lease from then on.
                self.tell(Some(began + RENEW_WITHIN));
                Ok(())
            }
            // Another was faster, or something else touched the Lease: looked at again in a moment.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                tracing::debug!("the lease of the leader was written by another");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn release(&mut self) {
        let held = self.held.borrow().is_some();
        self.tell(None);
        if !held {
            return;
        }
        let patience = Instant::now() + RELEASE_WITHIN;
        match timeout_at(patience, self.give_back()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(
                %error,
                "cannot give the lease of the leader back; it ends by itself"
            ),
            Err(_) => {
                tracing::warn!("no time to give the lease of the leader back; it ends by itself");
            }
        }
    }

    async fn give_back(&mut self) -> kube::Result<()> {
        // An attempt may have been cut short: only the API knows what came of it.
        let Some(mut lease) = self.api.get_opt(LEASE).await? else {
            return Ok(());
        };
        let released = self
            .candidate
            .released(lease.spec.as_ref(), Timestamp::now().into());
        if released.is_some() {
            lease.spec = released;
            self.api
                .replace(LEASE, &PostParams::default(), &lease)
                .await?;
        }
        Ok(())
    }

    fn expire(&self) {
        let until = *self.held.borrow();
        if until.is_some_and(|until| until <= Instant::now()) {
            self.tell(None);
        }
    }

    fn tell(&self, until: Option<Instant>) {
        let before = self.held.send_replace(until);
        match (before, until) {
            (None, Some(_)) => tracing::info!("this replica leads: it writes to the API"),
            (Some(_), None) => tracing::info!("this replica no longer leads"),
            _ => {}
        }
    }

    fn failed(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(
                reason,
                "cannot take part in the election of the leader; tried again until it works"
            );
        }
    }
}

#[cfg(test)]
mod tests;
