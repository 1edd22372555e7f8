//! What is counted of the writing of status.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// What became of writes.
#[derive(Debug, Clone)]
pub struct StatusMetrics {
    /// The API took it.
    pub(super) written: Counter,
    /// The object had changed meanwhile, and is looked at again.
    pub(super) conflicts: Counter,
    /// It failed, and is tried again later.
    pub(super) failed: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl StatusMetrics {
    /// Metrics that the registry knows.
    pub fn register(registry: &mut Registry) -> Self {
        let writes = Family::<ResultLabel, Counter>::default();
        registry.register(
            "status_writes",
            "Statuses of objects written to the Kubernetes API",
            writes.clone(),
        );
        let of = |result| writes.get_or_create_owned(&ResultLabel { result });
        Self {
            written: of("written"),
            conflicts: of("conflict"),
            failed: of("failed"),
        }
    }
}
