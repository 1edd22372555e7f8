//! The clusters that a worker has in use.

use super::{
    cluster::LiveCluster, connect::Connector, limits::LimitRegistry, status::StatusRegistry,
};
use crate::{deadline::Deadlines, http::limits::HttpLimits, snapshot::Cluster};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

/// How exactly idle timeouts are kept: one timer per worker, not one per connection.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A cluster that took no request for so long is forgotten, with the latencies of its endpoints.
const UNUSED_AFTER: Duration = Duration::from_secs(300);

/// The live clusters of one worker.
pub struct Upstreams {
    shared: Rc<Shared>,
    clusters: RefCell<HashMap<Arc<str>, Rc<LiveCluster>>>,
}

/// What all clusters of a worker are made with.
pub(super) struct Shared {
    pub(super) connector: Box<dyn Connector>,
    pub(super) http: HttpLimits,
    pub(super) limits: Arc<LimitRegistry>,
    pub(super) status: Arc<StatusRegistry>,
    pub(super) deadlines: Deadlines,
    /// The zone of this proxy; empty when unknown.
    pub(super) zone: RefCell<Arc<str>>,
    /// As of the last sweep: exact enough for how long a cluster is unused, and costs a request nothing.
    pub(super) swept: Cell<Instant>,
}

impl Upstreams {
    /// Without clusters yet: each appears with the first request to it. `limits` and `status` are shared by
    /// the workers of the proxy; `deadlines` are those of the worker.
    pub fn new(
        connector: impl Connector + 'static,
        http: HttpLimits,
        limits: Arc<LimitRegistry>,
        status: Arc<StatusRegistry>,
        deadlines: Deadlines,
    ) -> Rc<Self> {
        Rc::new(Self {
            shared: Rc::new(Shared {
                connector: Box::new(connector),
                http,
                limits,
                status,
                deadlines,
                zone: RefCell::new("".into()),
                swept: Cell::new(super::now()),
            }),
            clusters: RefCell::default(),
        })
    }

    /// The live state of a cluster, configured as the given snapshot says, unless a newer one was seen.
    pub fn cluster(&self, config: &Arc<Cluster>) -> Rc<LiveCluster> {
        let mut clusters = self.clusters.borrow_mut();
        if let Some(cluster) = clusters.get(&config.name) {
            cluster.reconcile(config);
            return cluster.clone();
        }
        let cluster = LiveCluster::new(self.shared.clone(), config);
        clusters.insert(config.name.clone(), cluster.clone());
        cluster
    }

    /// Takes in which zone this proxy is in.
    pub fn locate(&self, zone: &Arc<str>) {
        if *self.shared.zone.borrow() == *zone {
            return;
        }
        self.shared.zone.replace(zone.clone());
        for cluster in self.clusters.borrow().values() {
            cluster.relocate();
        }
    }

    /// Sweeps for as long as the worker runs.
    pub async fn run(self: Rc<Self>) {
        let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = sweeps.tick().await;
            self.sweep(now.into_std());
        }
    }

    /// Closes connections that have been idle for too long, and forgets clusters that nobody uses.
    pub fn sweep(&self, now: Instant) {
        self.shared.swept.set(now);
        self.clusters.borrow_mut().retain(|_, cluster| {
            cluster.sweep(now);
            let keep = cluster.in_use() || now - cluster.last_used() < UNUSED_AFTER;
            if !keep {
                cluster.retire();
            }
            keep
        });
    }
}
