//! The limits of clusters: connections, pending requests, requests and retries, over all workers of the proxy.
//!
//! Owns what is in use. The limits themselves are configuration and are re-read on every push; what is in
//! use survives it. Passing a limit is never held against an endpoint.

use super::budget::Budget;
use crate::snapshot::Limits;
use std::{
    collections::HashMap,
    num::NonZeroU32,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::{Notify, futures::Notified};

/// What is in use of every cluster. One per proxy, shared by its workers.
#[derive(Debug, Default)]
pub struct LimitRegistry {
    clusters: Mutex<HashMap<Arc<str>, Weak<ClusterLimits>>>,
}

impl LimitRegistry {
    /// The shared counters of a cluster. They last for as long as a worker holds them.
    pub(super) fn cluster(&self, name: &Arc<str>, limits: &Limits) -> Arc<ClusterLimits> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = clusters.get(name).and_then(Weak::upgrade) {
            return cluster;
        }
        clusters.retain(|_, cluster| cluster.strong_count() > 0);
        let cluster = Arc::new(ClusterLimits::new(limits));
        clusters.insert(name.clone(), Arc::downgrade(&cluster));
        cluster
    }
}

/// What is in use of one cluster, and how much may be.
#[derive(Debug)]
pub(super) struct ClusterLimits {
    requests: Limit,
    pending: Limit,
    connections: Limit,
    /// A connection was closed while the limit was reached.
    freed: Notify,
    /// The retries there may be.
    pub(super) retries: Budget,
}

/// What a limit is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// Open connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests whose response is not complete.
    Requests,
}

impl ClusterLimits {
    fn new(limits: &Limits) -> Self {
        Self {
            requests: Limit::new(limits.requests),
            pending: Limit::new(limits.pending),
            connections: Limit::new(limits.connections),
            freed: Notify::new(),
            retries: Budget::new(super::now()),
        }
    }

    /// Puts the configured limits in force. What is in use beyond them finishes.
    pub(super) fn configure(&self, limits: &Limits) {
        for (limit, max) in [
            (&self.requests, limits.requests),
            (&self.pending, limits.pending),
            (&self.connections, limits.connections),
        ] {
            limit.max.store(max.get(), Ordering::Relaxed);
        }
        self.freed.notify_waiters();
    }

    /// How many of a resource are in use, and how many may be.
    pub(super) fn usage(&self, resource: Resource) -> (u32, u32) {
        let limit = self.limit(resource);
        (
            limit.used.load(Ordering::Relaxed),
            limit.max.load(Ordering::Relaxed),
        )
    }

    /// Ready when a connection of the cluster, on any worker, was closed or the limits changed.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    fn limit(&self, resource: Resource) -> &Limit {
        match resource {
            Resource::Connections => &self.connections,
            Resource::Pending => &self.pending,
            Resource::Requests => &self.requests,
        }
    }
}

/// One worker's hold on the limits of a cluster: permits count references to it without touching what the
/// workers share.
#[derive(Debug, Clone)]
#[expect(
    clippy::redundant_allocation,
    reason = "every permit clones it: the count of the Rc is the worker's own, that of the Arc is not"
)]
pub(super) struct WorkerLimits {
    shared: Rc<Arc<ClusterLimits>>,
}

impl WorkerLimits {
    pub(super) fn new(shared: Arc<ClusterLimits>) -> Self {
        Self {
            shared: Rc::new(shared),
        }
    }

    /// Takes one of a resource; `None` when the limit is reached.
    pub(super) fn acquire(&self, resource: Resource) -> Option<Permit> {
        self.shared.limit(resource).acquire().then(|| Permit {
            limits: self.clone(),
            resource,
        })
    }
}

impl std::ops::Deref for WorkerLimits {
    type Target = Arc<ClusterLimits>;

    fn deref(&self) -> &Self::Target {
        &self.shared
    }
}

/// One of a resource, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    limits: WorkerLimits,
    resource: Resource,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.limit(self.resource).release();
        if self.resource == Resource::Connections {
            self.limits.freed.notify_one();
        }
    }
}

/// A count with a bound. A cache line of its own: every worker writes to it on every request.
#[derive(Debug)]
#[repr(align(64))]
struct Limit {
    used: AtomicU32,
    max: AtomicU32,
}

impl Limit {
    fn new(max: NonZeroU32) -> Self {
        Self {
            used: AtomicU32::new(0),
            max: AtomicU32::new(max.get()),
        }
    }

    fn acquire(&self) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        // Counting first and giving back when it was too much would refuse others in between, below the limit.
        self.used
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |used| {
                (used < max).then_some(used + 1)
            })
            .is_ok()
    }

    fn release(&self) {
        self.used.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, pending: u32, requests: u32) -> Limits {
        let limit = |n| NonZeroU32::new(n).unwrap();
        Limits {
            connections: limit(connections),
            pending: limit(pending),
            requests: limit(requests),
        }
    }

    #[test]
    fn a_limit_is_counted_over_all_workers_and_given_back() {
        let registry = LimitRegistry::default();
        let name: Arc<str> = "user:80".into();
        let one = WorkerLimits::new(registry.cluster(&name, &limits(1, 1, 2)));
        let other = WorkerLimits::new(registry.cluster(&name, &limits(1, 1, 2)));
        let first = one.acquire(Resource::Requests).unwrap();
        let second = other.acquire(Resource::Requests).unwrap();
        assert!(one.acquire(Resource::Requests).is_none());
        assert_eq!(one.usage(Resource::Requests), (2, 2));
        drop((first, second));
        assert_eq!(other.usage(Resource::Requests), (0, 2));
        assert!(other.acquire(Resource::Connections).is_some());
    }

    #[test]
    fn a_push_changes_the_limit_and_keeps_what_is_in_use() {
        let registry = LimitRegistry::default();
        let name: Arc<str> = "user:80".into();
        let worker = WorkerLimits::new(registry.cluster(&name, &limits(2, 1, 1)));
        let _held = [
            worker.acquire(Resource::Connections).unwrap(),
            worker.acquire(Resource::Connections).unwrap(),
        ];
        worker.configure(&limits(1, 1, 1));
        assert!(worker.acquire(Resource::Connections).is_none());
        worker.configure(&limits(3, 1, 1));
        assert!(worker.acquire(Resource::Connections).is_some());
    }

    #[tokio::test]
    async fn closing_a_connection_tells_one_who_waits_on_another_worker() {
        let registry = LimitRegistry::default();
        let name: Arc<str> = "user:80".into();
        let one = WorkerLimits::new(registry.cluster(&name, &limits(1, 1, 1)));
        let other = WorkerLimits::new(registry.cluster(&name, &limits(1, 1, 1)));
        let held = one.acquire(Resource::Connections).unwrap();
        let (freed, ()) = tokio::join!(
            async {
                other.freed().await;
                other.acquire(Resource::Connections)
            },
            async { drop(held) }
        );
        assert!(freed.is_some());
    }

    #[test]
    fn a_cluster_nobody_holds_is_forgotten() {
        let registry = LimitRegistry::default();
        let kept: Arc<str> = "user:80".into();
        drop(registry.cluster(&"gone:80".into(), &limits(1, 1, 1)));
        let _held = registry.cluster(&kept, &limits(1, 1, 1));
        let names: Vec<_> = registry.clusters.lock().unwrap().keys().cloned().collect();
        assert_eq!(names, [kept]);
    }
}
