//! The numbers that other parts keep for themselves, as metrics.

mod limits;

use crate::{
    telemetry::render::{Kind, Sample},
    tls::{self, Authorities, Identity},
    upstream::{CircuitSummary, ClusterSummary, ConnectionSummary, StatusRegistry, Usage},
    xds::{self, Destinations},
};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use weft_xds_proto::resource::ResourceType;

/// Everything that is not counted by a worker, at this moment.
pub fn take(
    destinations: &Destinations,
    identity: &Identity,
    authorities: &Authorities,
    clusters: &StatusRegistry,
) -> Vec<Sample> {
    let mut samples = configuration(&destinations.status(), Instant::now());
    samples.extend(certificates(&identity.status(), authorities.failures()));
    let clusters = clusters.summary();
    samples.extend(pools(&clusters));
    samples.extend(breakers(&clusters));
    samples.extend(limits::take(&destinations.admission().summary()));
    samples
}

fn configuration(status: &xds::Status, now: Instant) -> Vec<Sample> {
    let connected = f64::from(u8::from(status.connected_to.is_some()));
    let mut samples = vec![
        gauge(
            "weft_xds_connected",
            "Whether the control plane is connected",
            connected,
        ),
        counter(
            "weft_xds_connections",
            "Connections made to the control plane",
            status.connections as f64,
        ),
        gauge(
            "weft_config_age_seconds",
            "How old the configuration may be: zero while the control plane is connected",
            status.age(now).as_secs_f64(),
        ),
    ];
    for (name, help, kind, count) in [
        (
            "weft_xds_resources",
            "Resources held",
            Kind::Gauge,
            (|counts| counts.held as f64) as fn(&xds::Counts) -> f64,
        ),
        (
            "weft_xds_resources_received",
            "Resources taken from the control plane, removals included",
            Kind::Counter,
            |counts| counts.applied as f64,
        ),
        (
            "weft_xds_resources_refused",
            "Resources refused as invalid; /config_dump has the reasons",
            Kind::Counter,
            |counts| counts.refused as f64,
        ),
    ] {
        for ty in ResourceType::ALL {
            samples.push(Sample {
                name,
                help,
                kind,
                labels: vec![("type", ty.label().to_owned())],
                value: count(&status.types[ty as usize]),
            });
        }
    }
    samples
}

fn certificates(status: &tls::Status, ca_failures: u64) -> Vec<Sample> {
    let mut samples = vec![
        counter(
            "weft_certificate_rotations",
            "Certificates taken into use",
            status.rotations as f64,
        ),
        counter(
            "weft_certificate_failures",
            "Attempts to get a certificate that failed",
            status.failures as f64,
        ),
        counter(
            "weft_xds_ca_failures",
            "How often the file of --xds-ca became unusable",
            ca_failures as f64,
        ),
    ];
    if let Some(certificate) = &status.certificate {
        samples.push(gauge(
            "weft_certificate_not_after_timestamp_seconds",
            "When the workload's certificate expires",
            timestamp(certificate.not_after),
        ));
    }
    let first_root = status.roots.iter().map(|root| root.not_after).min();
    if let Some(not_after) = first_root {
        samples.push(gauge(
            "weft_root_not_after_timestamp_seconds",
            "When the first of the trusted roots expires",
            timestamp(not_after),
        ));
    }
    samples
}

/// Numbers of upstream clusters. They start anew when a cluster that nobody used is forgotten.
fn pools(clusters: &[ClusterSummary]) -> Vec<Sample> {
    let per_cluster = |name, help, kind, value: fn(&ClusterSummary) -> f64| {
        clusters.iter().map(move |cluster| Sample {
            name,
            help,
            kind,
            labels: vec![("cluster", cluster.name.clone())],
            value: value(cluster),
        })
    };
    let mut samples: Vec<_> = per_cluster(
        "weft_upstream_endpoints",
        "Endpoints of a cluster",
        Kind::Gauge,
        |cluster| cluster.endpoints.len() as f64,
    )
    .collect();
    samples.extend(per_cluster(
        "weft_upstream_connect_failures",
        "Connections to endpoints that could not be made",
        Kind::Counter,
        |cluster| {
            let failures = cluster.endpoints.iter().map(|e| e.connect_failures);
            failures.sum::<u64>() as f64
        },
    ));
    for cluster in clusters {
        let total = |count: fn(&ConnectionSummary) -> u64| {
            let counts = cluster.endpoints.iter().map(|e| count(&e.connections));
            counts.sum::<u64>() as f64
        };
        for (protocol, state, value) in [
            ("http1", "active", total(|c| c.http1_active)),
            ("http1", "idle", total(|c| c.http1_idle)),
            ("http2", "active", total(|c| c.http2_active)),
            ("http2", "idle", total(|c| c.http2_idle)),
            ("tcp", "active", total(|c| c.tcp)),
        ] {
            samples.push(Sample {
                name: "weft_upstream_connections",
                help: "Open connections to endpoints",
                kind: Kind::Gauge,
                labels: vec![
                    ("cluster", cluster.name.clone()),
                    ("protocol", protocol.to_owned()),
                    ("state", state.to_owned()),
                ],
                value,
            });
        }
    }
    for (name, help, value) in [
        (
            "weft_upstream_limit",
            "The limits of a cluster",
            (|usage| usage.limit) as fn(&Usage) -> u32,
        ),
        (
            "weft_upstream_limit_used",
            "How much of the limits of a cluster is in use",
            |usage| usage.used,
        ),
    ] {
        for cluster in clusters {
            for (limit, usage) in [
                ("connections", &cluster.connections),
                ("pending", &cluster.pending),
                ("requests", &cluster.requests),
            ] {
                samples.push(Sample {
                    name,
                    help,
                    kind: Kind::Gauge,
                    labels: vec![
                        ("cluster", cluster.name.clone()),
                        ("limit", limit.to_owned()),
                    ],
                    value: f64::from(value(usage)),
                });
            }
        }
    }
    samples
}

/// Of the clusters that have breakers.
fn breakers(clusters: &[ClusterSummary]) -> Vec<Sample> {
    let with_breakers: Vec<_> = clusters
        .iter()
        .filter_map(|cluster| Some((&cluster.name, cluster.breakers.as_ref()?)))
        .collect();
    let mut samples = Vec::new();
    for (name, help, kind, value) in [
        (
            "weft_upstream_ejected_endpoints",
            "Endpoints that the breaker of at least one worker has ejected",
            Kind::Gauge,
            (|breakers| breakers.ejected as f64) as fn(&CircuitSummary) -> f64,
        ),
        (
            "weft_upstream_ejections_withheld",
            "Ejections that came to nothing because as many endpoints were ejected as may be",
            Kind::Counter,
            |breakers| breakers.withheld as f64,
        ),
    ] {
        samples.extend(with_breakers.iter().map(|(cluster, breakers)| Sample {
            name,
            help,
            kind,
            labels: vec![("cluster", (*cluster).clone())],
            value: value(breakers),
        }));
    }
    for (cluster, breakers) in with_breakers {
        let counted = breakers.transitions.iter().filter(|t| t.count > 0);
        samples.extend(counted.map(|transition| Sample {
            name: "weft_upstream_breaker_transitions",
            help: "Changes of state of the breakers of a cluster, over all workers",
            kind: Kind::Counter,
            labels: vec![
                ("cluster", cluster.clone()),
                ("state", transition.to.to_owned()),
                ("reason", transition.reason.to_owned()),
            ],
            value: transition.count as f64,
        }));
    }
    samples
}

fn gauge(name: &'static str, help: &'static str, value: f64) -> Sample {
    Sample {
        name,
        help,
        kind: Kind::Gauge,
        labels: Vec::new(),
        value,
    }
}

fn counter(name: &'static str, help: &'static str, value: f64) -> Sample {
    Sample {
        kind: Kind::Counter,
        ..gauge(name, help, value)
    }
}

fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_sample_stands_in_the_docs() {
        let (destinations, _feed) = Destinations::new("inbound/demo/a".into(), Duration::ZERO);
        let authorities = Authorities::at("absent.pem".into());
        let clusters = StatusRegistry::default();
        let mut samples = take(&destinations, &Identity::new(), &authorities, &clusters);
        let mut circuit = CircuitSummary::default();
        circuit.transitions[0].count = 1;
        let clusters = [ClusterSummary {
            name: "user".into(),
            breakers: Some(circuit),
            ..ClusterSummary::default()
        }];
        samples.extend(pools(&clusters));
        samples.extend(breakers(&clusters));
        let docs = include_str!("../../../docs/reference/metrics.md");
        for sample in samples {
            let row = match sample.kind {
                Kind::Counter => format!("| `{}_total` | counter |", sample.name),
                Kind::Gauge => format!("| `{}` | gauge |", sample.name),
            };
            assert!(
                docs.contains(&row),
                "docs/reference/metrics.md has no row {row}"
            );
        }
    }
}
