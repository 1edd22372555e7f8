//! The metrics page: every number of the proxy, merged over workers, in the OpenMetrics text format.

use super::{
    connections::{MergedConnections, Verdict},
    edge::{Direction, EdgeKey, GRPC_STATUSES, METHOD_CLASSES, MergedEdge, STATUS_CLASSES},
    histogram::BOUNDS,
    mirrors::Mirrored,
    process::Process,
    registry::Registry,
};
use crate::{error::RequestError, upstream::Ending};
use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder},
    metrics::MetricType,
};
use std::{fmt, time::Instant};

/// The content type of the page (OpenMetrics 1.0.0).
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// A number read at the moment of the scrape from a part that keeps it anyway.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The name, without `_total`.
    pub name: &'static str,
    /// What it says, in one line.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// Label names and values, from bounded sets.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// Whether a sample only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It does.
    Counter,
    /// It does not.
    Gauge,
}

/// Renders the page. `samples` of one name must follow each other.
pub fn page(registry: &Registry, samples: &[Sample], now: Instant) -> Result<String, fmt::Error> {
    let collector = Collector {
        edges: registry.edges(now),
        registry: registry.clone(),
        samples: samples.to_vec(),
        process: Process::read(),
    };
    let mut metrics = prometheus_client::registry::Registry::default();
    metrics.register_collector(Box::new(collector));
    let mut page = String::with_capacity(16 * 1024);
    prometheus_client::encoding::text::encode(&mut page, &metrics)?;
    Ok(page)
}

#[derive(Debug)]
struct Collector {
    edges: Vec<(EdgeKey, MergedEdge)>,
    registry: Registry,
    samples: Vec<Sample>,
    process: Process,
}

impl prometheus_client::collector::Collector for Collector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.requests(&mut encoder)?;
        self.durations(&mut encoder)?;
        self.opaque(&mut encoder)?;
        self.connections(&mut encoder)?;
        self.mirrored(&mut encoder)?;
        self.samples(&mut encoder)?;
        self.process(&mut encoder)
    }
}

impl Collector {
    fn requests(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "weft_requests",
            "Requests that ended, by method class and status class",
            None,
            MetricType::Counter,
        )?;
        for (labels, edge) in self.labelled() {
            for (method, counts) in METHOD_CLASSES.iter().zip(&edge.requests) {
                for (status, count) in STATUS_CLASSES.iter().zip(counts) {
                    counter(
                        &mut family,
                        &labels,
                        &[("method", method), ("status", status)],
                        *count,
                    )?;
                }
            }
        }
        let mut family = encoder.encode_descriptor(
            "weft_request_errors",
            "Requests and opaque connections that the proxy itself failed, by reason",
            None,
            MetricType::Counter,
        )?;
        for (labels, edge) in self.labelled() {
            for (error, count) in RequestError::ALL.into_iter().zip(edge.errors) {
                counter(&mut family, &labels, &[("reason", error.reason())], count)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "weft_grpc_responses",
            "gRPC calls that ended, by grpc-status",
            None,
            MetricType::Counter,
        )?;
        let statuses: [String; GRPC_STATUSES] = std::array::from_fn(|status| status.to_string());
        for (labels, edge) in self.labelled() {
            for (status, count) in statuses.iter().zip(edge.grpc) {
                counter(&mut family, &labels, &[("grpc_status", status)], count)?;
            }
        }
        self.edge_counter(
            encoder,
            "weft_request_retries",
            "Requests sent again because an attempt had failed",
            |edge| edge.retries,
        )?;
        self.edge_counter(
            encoder,
            "weft_request_hedges",
            "Requests sent again because an attempt took its time",
            |edge| edge.hedges,
        )?;
        let mut family = encoder.encode_descriptor(
            "weft_request_retry_outcomes",
            "Requests whose retry policy had something to do, by how that ended",
            None,
            MetricType::Counter,
        )?;
        for (labels, edge) in self.labelled() {
            for (ending, count) in Ending::ALL.into_iter().zip(edge.endings) {
                counter(&mut family, &labels, &[("outcome", ending.label())], count)?;
            }
        }
        Ok(())
    }

    fn durations(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "weft_request_duration_seconds",
            "From the first byte of a request to the last of its response",
            None,
            MetricType::Histogram,
        )?;
        for (labels, edge) in self.labelled() {
            if edge.duration.count() == 0 {
                continue;
            }
            let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(edge.duration.buckets).collect();
            family
                .encode_family(&labels)?
                .encode_histogram::<Labels<'_>>(
                    edge.duration.sum_micros as f64 / 1e6,
                    edge.duration.count(),
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }

    fn opaque(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.edge_counter(
            encoder,
            "weft_tcp_connections_opened",
            "Opaque connections opened",
            |edge| edge.tcp_opened,
        )?;
        self.edge_counter(
            encoder,
            "weft_tcp_connections_closed",
            "Opaque connections ended",
            |edge| edge.tcp_closed,
        )?;
        self.edge_counter(
            encoder,
            "weft_tcp_sent_bytes",
            "Bytes of opaque connections from the caller to the workload",
            |edge| edge.tcp_sent,
        )?;
        self.edge_counter(
            encoder,
            "weft_tcp_received_bytes",
            "Bytes of opaque connections from the workload to the caller",
            |edge| edge.tcp_received,
        )
    }

    fn connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let merged = Direction::ALL
            .map(|direction| (direction.label(), self.registry.connections(direction)));
        type Total = fn(&MergedConnections) -> u64;
        let totals: [(&str, &str, Total); 4] = [
            ("weft_connections_accepted", "Connections accepted", |c| {
                c.accepted
            }),
            (
                "weft_accept_errors",
                "Connections that could not be accepted",
                |c| c.accept_errors,
            ),
            (
                "weft_plaintext_refused",
                "Connections in plaintext to a port that takes mutual TLS only",
                |c| c.plaintext_refused,
            ),
            (
                "weft_tls_handshakes_failed",
                "TLS handshakes with callers that failed",
                |c| c.tls_failed,
            ),
        ];
        for (name, help, value) in totals {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (direction, connections) in &merged {
                family
                    .encode_family(&[("direction", *direction)])?
                    .encode_counter::<Labels<'_>, _, u64>(&value(connections), None)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "weft_connections_active",
            "Connections from callers that are open",
            None,
            MetricType::Gauge,
        )?;
        for (direction, connections) in &merged {
            let active = connections.accepted.saturating_sub(connections.closed);
            family
                .encode_family(&[("direction", *direction)])?
                .encode_gauge(&active)?;
        }
        let mut family = encoder.encode_descriptor(
            "weft_protocol_detections",
            "Connections by what they speak and how that was known",
            None,
            MetricType::Counter,
        )?;
        for (direction, connections) in &merged {
            for (verdict, count) in Verdict::ALL.into_iter().zip(connections.verdicts) {
                let labels = vec![("direction", *direction)];
                counter(&mut family, &labels, &[("verdict", verdict.label())], count)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "weft_connection_errors",
            "Connections that ended before any request of theirs could be told apart, by reason",
            None,
            MetricType::Counter,
        )?;
        for (direction, connections) in &merged {
            for (error, count) in RequestError::ALL.into_iter().zip(connections.errors) {
                let labels = vec![("direction", *direction)];
                counter(&mut family, &labels, &[("reason", error.reason())], count)?;
            }
        }
        Ok(())
    }

    fn mirrored(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut family = encoder.encode_descriptor(
            "weft_mirrored_requests",
            "Requests that were to be mirrored, by what became of them",
            None,
            MetricType::Counter,
        )?;
        for mirrored in Mirrored::ALL {
            let count = self.registry.mirrored(mirrored);
            counter(&mut family, &vec![], &[("result", mirrored.label())], count)?;
        }
        Ok(())
    }

    fn samples(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for group in self.samples.chunk_by(|a, b| a.name == b.name) {
            let kind = match group[0].kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut family = encoder.encode_descriptor(group[0].name, group[0].help, None, kind)?;
            for sample in group {
                let labels: Labels<'_> = sample
                    .labels
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                if labels.is_empty() {
                    value(&mut family, sample)?;
                } else {
                    value(&mut family.encode_family(&labels)?, sample)?;
                }
            }
        }
        Ok(())
    }

    fn process(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        encoder
            .encode_descriptor(
                "process_cpu_seconds",
                "User and system time of this process",
                None,
                MetricType::Counter,
            )?
            .encode_counter::<Labels<'_>, _, f64>(&self.process.cpu.as_secs_f64(), None)?;
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Resident memory of this process",
                self.process.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory of this process",
                self.process.virtual_bytes,
            ),
            (
                "process_open_fds",
                "Open file descriptors of this process",
                self.process.open_fds,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        Ok(())
    }

    fn edge_counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        value: impl Fn(&MergedEdge) -> u64,
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, edge) in self.labelled() {
            counter(&mut family, &labels, &[], value(edge))?;
        }
        Ok(())
    }

    fn labelled(&self) -> impl Iterator<Item = (Labels<'_>, &MergedEdge)> {
        self.edges.iter().map(|(key, edge)| (labels(key), edge))
    }
}

fn labels(key: &EdgeKey) -> Labels<'_> {
    vec![
        ("direction", key.direction.label()),
        ("source_workload", &key.source.name),
        ("source_namespace", &key.source.namespace),
        ("destination_workload", &key.destination.name),
        ("destination_namespace", &key.destination.namespace),
        ("destination_service", &key.service),
        ("route", &key.route),
        ("mtls", if key.mtls { "true" } else { "false" }),
    ]
}

fn value(metric: &mut MetricEncoder<'_>, sample: &Sample) -> fmt::Result {
    match sample.kind {
        Kind::Counter => metric.encode_counter::<Labels<'_>, _, f64>(&sample.value, None),
        Kind::Gauge => metric.encode_gauge(&sample.value),
    }
}

/// Writes a counter unless it never counted: most combinations of labels never occur.
fn counter(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<'_>,
    more: &[(&'static str, &str)],
    count: u64,
) -> fmt::Result {
    if count == 0 {
        return Ok(());
    }
    let labels: Labels<'_> = labels.iter().chain(more).copied().collect();
    family
        .encode_family(&labels)?
        .encode_counter::<Labels<'_>, _, u64>(&count, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::WorkloadName,
        telemetry::{
            Outcome,
            registry::{DEFAULT_EDGE_IDLE, DEFAULT_MAX_EDGES},
        },
        upstream::Tries,
    };
    use http::{Method, StatusCode};
    use std::{num::NonZeroUsize, time::Duration};

    #[test]
    fn a_request_and_a_sample_stand_on_the_page() {
        let registry = Registry::new(NonZeroUsize::MIN, DEFAULT_MAX_EDGES, DEFAULT_EDGE_IDLE);
        let workload = |name: &str| WorkloadName {
            name: name.into(),
            namespace: "demo".into(),
        };
        let edge = registry.worker(0).edge(&EdgeKey {
            direction: Direction::Outbound,
            source: workload("order"),
            destination: workload("user"),
            service: "user".into(),
            route: "default".into(),
            mtls: true,
        });
        edge.request(&Outcome {
            method: &Method::GET,
            status: StatusCode::OK,
            error: None,
            grpc_status: None,
            duration: Duration::from_millis(2),
        });
        edge.tried(&Tries {
            attempts: 3,
            hedges: 1,
            ending: Some(Ending::Success),
        });
        let samples = [Sample {
            name: "weft_config_age_seconds",
            help: "Age",
            kind: Kind::Gauge,
            labels: vec![],
            value: 1.5,
        }];
        let page = page(&registry, &samples, Instant::now()).unwrap();
        let labels = r#"direction="outbound",source_workload="order",source_namespace="demo",destination_workload="user",destination_namespace="demo",destination_service="user",route="default",mtls="true""#;
        for line in [
            format!(r#"weft_requests_total{{{labels},method="GET",status="2xx"}} 1"#),
            format!(r#"weft_request_duration_seconds_count{{{labels}}} 1"#),
            format!(r#"weft_request_duration_seconds_bucket{{le="0.002",{labels}}} 1"#),
            format!(r#"weft_request_duration_seconds_bucket{{le="0.001",{labels}}} 0"#),
            format!("weft_request_retries_total{{{labels}}} 1"),
            format!("weft_request_hedges_total{{{labels}}} 1"),
            format!(r#"weft_request_retry_outcomes_total{{{labels},outcome="success"}} 1"#),
            "weft_config_age_seconds 1.5".into(),
            "# EOF".into(),
        ] {
            assert!(page.lines().any(|l| l == line), "{line}\nnot in\n{page}");
        }
        assert!(
            !page.contains(r#"status="5xx""#),
            "empty series are left out"
        );

        let docs = include_str!("../../../docs/reference/metrics.md");
        for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            let suffix = if kind == "counter" { "_total" } else { "" };
            let row = format!("| `{name}{suffix}` | {kind} |");
            assert!(
                docs.contains(&row),
                "docs/reference/metrics.md has no row {row}"
            );
        }
    }
}
