//! What a run of the demo comes to, and whether it is good.

use std::{collections::BTreeMap, fs, time::Duration};

use serde::Serialize;

use super::{
    load,
    metrics::Counts,
    place::Mode,
    topology::{Edge, Protocol},
};

/// The result of a run; as JSON, what `--output json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Whether every edge had requests, all of which succeeded, all over mutual TLS.
    pub(super) ok: bool,
    /// What was wrong, one sentence each.
    pub(super) failures: Vec<String>,
    pub(super) mode: Mode,
    pub(super) mode_reason: String,
    pub(super) duration_seconds: f64,
    pub(super) load: LoadSummary,
    pub(super) edges: Vec<EdgeSummary>,
    pub(super) events: Vec<Event>,
    pub(super) versions: Versions,
}

/// What the caller at the edge of the mesh saw.
#[derive(Debug, Serialize)]
pub(super) struct LoadSummary {
    pub(super) requests: u64,
    pub(super) failed: u64,
    pub(super) failures: Vec<String>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// What the sidecars of the callers of an edge counted.
#[derive(Debug, Serialize)]
pub(super) struct EdgeSummary {
    pub(super) source: &'static str,
    pub(super) destination: &'static str,
    pub(super) protocol: Protocol,
    pub(super) requests: u64,
    pub(super) success: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) mtls: Option<bool>,
    pub(super) retries: u64,
    pub(super) errors: BTreeMap<String, u64>,
}

/// Something that the demo did to the mesh.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Event {
    /// Seconds since the load began.
    pub(super) at: f64,
    pub(super) what: String,
}

/// What ran.
#[derive(Debug, Serialize)]
pub(super) struct Versions {
    pub(super) weft: &'static str,
    pub(super) kernel: String,
}

impl Versions {
    /// Those of this machine.
    pub(super) fn here() -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            weft: env!("CARGO_PKG_VERSION"),
            kernel: kernel.trim().to_owned(),
        }
    }
}

impl EdgeSummary {
    /// The numbers of an edge.
    pub(super) fn new(edge: Edge, counts: &Counts) -> Self {
        let quantile = |q| counts.durations.quantile(q).map(milliseconds);
        Self {
            source: edge.source.name(),
            destination: edge.destination.name(),
            protocol: edge.protocol(),
            requests: counts.requests,
            success: counts.success(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            mtls: counts.mtls(),
            retries: counts.retries,
            errors: counts.errors.clone(),
        }
    }

    /// What is wrong with the edge.
    fn failures(&self) -> Vec<String> {
        let name = format!("{} -> {}", self.source, self.destination);
        if self.requests == 0 {
            return vec![format!("{name}: its sidecars counted no request")];
        }
        let mut failures = Vec::new();
        if let Some(success) = self.success.filter(|success| *success < 1.0) {
            let reasons: Vec<_> = self
                .errors
                .iter()
                .map(|(reason, count)| format!("{reason}: {count}"))
                .collect();
            let failed = ((1.0 - success) * self.requests as f64).round();
            failures.push(format!(
                "{name}: {failed} of {} requests failed ({})",
                self.requests,
                if reasons.is_empty() {
                    "by the application".to_owned()
                } else {
                    reasons.join(", ")
                }
            ));
        }
        if self.mtls != Some(true) {
            failures.push(format!("{name}: requests went in plaintext"));
        }
        failures
    }
}

impl LoadSummary {
    /// The numbers of a load.
    pub(super) fn new(report: load::Report) -> Self {
        let quantile = |q| report.quantile(q).map(milliseconds);
        Self {
            requests: report.requests,
            failed: report.failed,
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            failures: report.failures,
        }
    }

    fn failures(&self) -> Vec<String> {
        if self.failed == 0 {
            return Vec::new();
        }
        vec![format!(
            "load: {} of {} orders failed: {}",
            self.failed,
            self.requests,
            self.failures.join("; ")
        )]
    }
}

/// Everything that is wrong with a run.
pub(super) fn failures(load: &LoadSummary, edges: &[EdgeSummary]) -> Vec<String> {
    let mut failures = load.failures();
    failures.extend(edges.iter().flat_map(EdgeSummary::failures));
    failures
}

/// Milliseconds, to three digits after the point.
pub(super) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge() -> EdgeSummary {
        EdgeSummary {
            source: "order",
            destination: "user",
            protocol: Protocol::Http,
            requests: 10,
            success: Some(1.0),
            p50_ms: Some(1.0),
            p99_ms: Some(2.0),
            mtls: Some(true),
            retries: 3,
            errors: BTreeMap::new(),
        }
    }

    #[test]
    fn retries_are_no_failure() {
        assert_eq!(edge().failures(), Vec::<String>::new());
    }

    #[test]
    fn an_edge_without_requests_is_a_failure() {
        let edge = EdgeSummary {
            requests: 0,
            success: None,
            mtls: None,
            ..edge()
        };
        assert_eq!(
            edge.failures(),
            ["order -> user: its sidecars counted no request"]
        );
    }

    #[test]
    fn failed_and_plaintext_requests_are_told_with_their_reasons() {
        let edge = EdgeSummary {
            success: Some(0.8),
            mtls: Some(false),
            errors: BTreeMap::from([("upstream-reset".to_owned(), 2)]),
            ..edge()
        };
        assert_eq!(
            edge.failures(),
            [
                "order -> user: 2 of 10 requests failed (upstream-reset: 2)",
                "order -> user: requests went in plaintext",
            ]
        );
    }
}
