//! What the watches of the source count, by kind.

use super::kind::Watched;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::time::SystemTime;

/// The counts of all watches.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    objects: Family<KindLabel, Gauge>,
    served: Family<KindLabel, Gauge>,
    heard: Family<KindLabel, Gauge>,
    lists: Family<KindLabel, Counter>,
    watches: Family<KindLabel, Counter>,
    errors: Family<KindLabel, Counter>,
}

/// The counts of one watch.
#[derive(Debug)]
pub(super) struct OfKind {
    /// 1 while the API knows the kind.
    pub(super) served: Gauge,
    /// Complete lists, the first included.
    pub(super) lists: Counter,
    /// Watches begun.
    pub(super) watches: Counter,
    /// Requests that failed, and watches that broke.
    pub(super) errors: Counter,
    heard: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

impl Metrics {
    /// Metrics that the registry knows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "kubernetes_objects",
            "Objects that the Kubernetes API has told of",
            metrics.objects.clone(),
        );
        registry.register(
            "kubernetes_kind_served",
            "Whether the Kubernetes API knows the kind",
            metrics.served.clone(),
        );
        registry.register(
            "kubernetes_last_heard_seconds",
            "When the Kubernetes API last said something of the kind, if only that nothing changed, in seconds since 1970",
            metrics.heard.clone(),
        );
        registry.register(
            "kubernetes_lists",
            "Complete lists that were read",
            metrics.lists.clone(),
        );
        registry.register(
            "kubernetes_watches",
            "Watches that were begun",
            metrics.watches.clone(),
        );
        registry.register(
            "kubernetes_watch_errors",
            "Lists and watches that failed",
            metrics.errors.clone(),
        );
        metrics
    }

    pub(super) fn of(&self, watched: Watched) -> OfKind {
        let label = KindLabel {
            kind: watched.name(),
        };
        OfKind {
            served: self.served.get_or_create_owned(&label),
            lists: self.lists.get_or_create_owned(&label),
            watches: self.watches.get_or_create_owned(&label),
            errors: self.errors.get_or_create_owned(&label),
            heard: self.heard.get_or_create_owned(&label),
        }
    }

    /// Sets how many objects of a kind there are.
    pub(super) fn set_objects(&self, watched: Watched, count: usize) {
        let label = KindLabel {
            kind: watched.name(),
        };
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.objects.get_or_create(&label).set(count);
    }
}

impl OfKind {
    /// The API was heard of the kind just now.
    pub(super) fn heard(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = now.map_or(0, |now| now.as_secs());
        self.heard.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}
