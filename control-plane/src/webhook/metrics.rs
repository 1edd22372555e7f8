//! What the webhook counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::review::Verdict;

/// Pods, by what became of them. Label values come from closed sets.
#[derive(Debug, Clone, Default)]
pub struct InjectionMetrics(Family<Labels, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: &'static str,
    /// Why a pod was left alone; empty for other outcomes.
    reason: &'static str,
}

impl InjectionMetrics {
    /// Metrics that the registry knows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "injections",
            "Pods that the webhook was shown, by what became of them",
            metrics.0.clone(),
        );
        metrics
    }

    pub(super) fn count(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Injected => self.add("injected", ""),
            Verdict::Left(left) => self.add("left_alone", left.label()),
            Verdict::Refused(_) => self.add("refused", ""),
            Verdict::NoPod => self.add("left_alone", "no_new_pod"),
        }
    }

    /// Counts a question that is none.
    pub(super) fn unreadable(&self) {
        self.add("unreadable", "");
    }

    fn add(&self, outcome: &'static str, reason: &'static str) {
        self.0.get_or_create(&Labels { outcome, reason }).inc();
    }
}
