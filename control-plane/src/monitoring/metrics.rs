//! What the control plane counts. Labels come from closed sets and are resolved once per stream.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};
use weft_xds_proto::resource::ResourceType;

/// What streams count.
#[derive(Debug, Clone)]
pub struct XdsMetrics {
    streams: Family<StreamLabels, Gauge>,
    pushes: Family<TypeLabels, Counter>,
    bytes: Family<TypeLabels, Counter>,
    acks: Family<TypeLabels, Counter>,
    nacks: Family<TypeLabels, Counter>,
    event_to_ack: Family<DialectLabels, Histogram, fn() -> Histogram>,
}

/// The counters of one stream. Dropping them counts the stream as gone.
#[derive(Debug)]
pub struct StreamMetrics {
    open: Gauge,
    types: [TypeMetrics; ResourceType::ALL.len()],
    event_to_ack: Histogram,
}

/// What the certificate signing service counts.
#[derive(Debug, Clone, Default)]
pub struct CsrMetrics {
    /// Certificates signed.
    pub signed: Counter,
    /// Requests refused.
    pub refused: Counter,
}

/// What happens to a root that is in a Secret.
#[derive(Debug, Clone, Default)]
pub struct CaMetrics {
    /// 1 while the Secrets, as they are, can be used.
    pub usable: Gauge,
    steps: Family<StepLabels, Counter>,
}

/// The roots in the namespaces of the mesh.
#[derive(Debug, Clone, Default)]
pub struct BundleMetrics {
    /// Namespaces that have the roots as they are.
    pub namespaces: Gauge,
    /// Writes that succeeded.
    pub writes: Counter,
    /// Writes that failed.
    pub failures: Counter,
}

/// What becomes of service account tokens.
#[derive(Debug, Clone, Default)]
pub struct ReviewMetrics {
    /// Reviewed, and good.
    pub accepted: Counter,
    /// Reviewed, and no proof.
    pub refused: Counter,
    /// The API could not tell.
    pub failed: Counter,
    /// Good a moment ago, and not reviewed again.
    pub remembered: Counter,
}

#[derive(Debug)]
struct TypeMetrics {
    pushes: Counter,
    bytes: Counter,
    acks: Counter,
    nacks: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StreamLabels {
    dialect: &'static str,
    protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabels {
    dialect: &'static str,
    resource: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DialectLabels {
    dialect: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl XdsMetrics {
    /// Metrics that the registry knows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            streams: Family::default(),
            pushes: Family::default(),
            bytes: Family::default(),
            acks: Family::default(),
            nacks: Family::default(),
            event_to_ack: Family::new_with_constructor(latency_histogram),
        };
        registry.register("xds_streams", "Open streams", metrics.streams.clone());
        registry.register(
            "xds_pushes",
            "Responses sent to proxies",
            metrics.pushes.clone(),
        );
        registry.register_with_unit(
            "xds_push",
            "Size of the responses sent to proxies",
            Unit::Bytes,
            metrics.bytes.clone(),
        );
        registry.register(
            "xds_acks",
            "Responses that a proxy accepted",
            metrics.acks.clone(),
        );
        registry.register(
            "xds_nacks",
            "Responses of which a proxy refused something",
            metrics.nacks.clone(),
        );
        registry.register_with_unit(
            "xds_event_to_ack",
            "From when a change became known to when a proxy said that it has applied it",
            Unit::Seconds,
            metrics.event_to_ack.clone(),
        );
        metrics
    }

    /// Counts a new stream.
    pub(crate) fn stream(&self, dialect: &'static str, protocol: &'static str) -> StreamMetrics {
        let open = self
            .streams
            .get_or_create_owned(&StreamLabels { dialect, protocol });
        open.inc();
        let types = ResourceType::ALL.map(|ty| {
            let labels = TypeLabels {
                dialect,
                resource: ty.label(),
            };
            TypeMetrics {
                pushes: self.pushes.get_or_create_owned(&labels),
                bytes: self.bytes.get_or_create_owned(&labels),
                acks: self.acks.get_or_create_owned(&labels),
                nacks: self.nacks.get_or_create_owned(&labels),
            }
        });
        let event_to_ack = self
            .event_to_ack
            .get_or_create_owned(&DialectLabels { dialect });
        StreamMetrics {
            open,
            types,
            event_to_ack,
        }
    }
}

impl StreamMetrics {
    /// A response was sent.
    pub(crate) fn pushed(&self, ty: ResourceType, bytes: usize) {
        let metrics = &self.types[ty as usize];
        metrics.pushes.inc();
        metrics.bytes.inc_by(bytes as u64);
    }

    /// A response was accepted, this long after the change that it told of.
    pub(crate) fn acked(&self, ty: ResourceType, since_change: Option<Duration>) {
        self.types[ty as usize].acks.inc();
        if let Some(latency) = since_change {
            self.event_to_ack.observe(latency.as_secs_f64());
        }
    }

    /// A response was refused.
    pub(crate) fn nacked(&self, ty: ResourceType) {
        self.types[ty as usize].nacks.inc();
    }
}

impl Drop for StreamMetrics {
    fn drop(&mut self) {
        self.open.dec();
    }
}

impl CsrMetrics {
    /// Metrics that the registry knows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "csr_signed",
            "Workload certificates signed",
            metrics.signed.clone(),
        );
        registry.register(
            "csr_refused",
            "Certificate requests refused",
            metrics.refused.clone(),
        );
        metrics
    }
}

impl CaMetrics {
    /// Metrics that the registry knows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "ca_secret_usable",
            "Whether the Secret of the mesh's root, as it is now, can be used",
            metrics.usable.clone(),
        );
        registry.register(
            "ca_rotation_steps",
            "Changes that this replica made to the Secret of the mesh's root",
            metrics.steps.clone(),
        );
        metrics
    }

    /// Counts changes of a kind.
    pub(crate) fn step(&self, step: &'static str) -> Counter {
        self.steps.get_or_create_owned(&StepLabels { step })
    }
}

impl BundleMetrics {
    /// Metrics that the registry knows.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "trust_bundle_namespaces",
            "Namespaces that have the roots of the mesh as they are, as the leader knows",
            metrics.namespaces.clone(),
        );
        registry.register(
            "trust_bundle_writes",
            "Trust bundles written",
            metrics.writes.clone(),
        );
        registry.register(
            "trust_bundle_failures",
            "Trust bundles that could not be written",
            metrics.failures.clone(),
        );
        metrics
    }
}

impl ReviewMetrics {
    /// Metrics that the registry knows.
    pub fn register(registry: &mut Registry) -> Self {
        let outcomes = Family::<OutcomeLabels, Counter>::default();
        registry.register(
            "token_reviews",
            "Service account tokens shown, by what became of them",
            outcomes.clone(),
        );
        let counter = |outcome| outcomes.get_or_create_owned(&OutcomeLabels { outcome });
        Self {
            accepted: counter("accepted"),
            refused: counter("refused"),
            failed: counter("failed"),
            remembered: counter("remembered"),
        }
    }
}

/// From half a millisecond to half a minute.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 2.0, 17))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_identity_stands_in_the_docs() {
        let mut registry = Registry::with_prefix("weft");
        CaMetrics::register(&mut registry).step("promote").inc();
        BundleMetrics::register(&mut registry);
        ReviewMetrics::register(&mut registry).accepted.inc();
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let docs = include_str!("../../../docs/reference/control-plane.md");
        let mut names = 0;
        for series in text.lines().filter(|line| !line.starts_with('#')) {
            let name = series.split(['{', ' ']).next().unwrap_or_default();
            assert!(docs.contains(&format!("| `{name}` |")), "no row of {name}");
            names += 1;
        }
        assert_eq!(names, 9);
    }
}
