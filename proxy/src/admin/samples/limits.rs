//! The numbers of the workload's rate limits and concurrency limits.

use crate::{
    admission::Summary,
    error::RequestError,
    telemetry::render::{Kind, Sample},
};

/// Of every limit. They start anew when a limit is taken away and comes back.
pub(super) fn take(limits: &Summary) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut add = |name, help, kind, policy: &str, value| {
        samples.push(Sample {
            name,
            help,
            kind,
            labels: vec![("policy", policy.to_owned())],
            value,
        });
    };
    for (policy, limit) in &limits.rate {
        let value = limit.buckets as f64;
        add(
            "weft_rate_limit_buckets_used",
            "Buckets of a rate limit that are not full",
            Kind::Gauge,
            policy,
            value,
        );
    }
    for (policy, limit) in &limits.concurrency {
        let value = limit.limit as f64;
        add(
            "weft_concurrency_limit",
            "Requests that may be in flight to the application",
            Kind::Gauge,
            policy,
            value,
        );
    }
    for (policy, limit) in &limits.concurrency {
        let value = limit.in_flight as f64;
        add(
            "weft_concurrency_limit_used",
            "Requests under a concurrency limit that are in flight",
            Kind::Gauge,
            policy,
            value,
        );
    }
    samples.extend(shed(limits));
    samples
}

fn shed(limits: &Summary) -> impl Iterator<Item = Sample> {
    let rate = limits.rate.iter();
    let rate = rate.map(|(policy, limit)| (policy, RequestError::RateLimited, limit.shed));
    let concurrency = limits.concurrency.iter();
    let concurrency =
        concurrency.map(|(policy, limit)| (policy, RequestError::Overloaded, limit.shed));
    rate.chain(concurrency)
        .map(|(policy, reason, shed)| Sample {
            name: "weft_requests_shed",
            help: "Requests that a limit of the workload did not let through",
            kind: Kind::Counter,
            labels: vec![
                ("policy", policy.to_string()),
                ("reason", reason.to_string()),
            ],
            value: shed as f64,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{ConcurrencySummary, RateSummary};

    #[test]
    fn every_sample_stands_in_the_docs() {
        let name = || "demo/user:80".into();
        let samples = take(&Summary {
            rate: [(name(), RateSummary::default())].into(),
            concurrency: [(name(), ConcurrencySummary::default())].into(),
        });
        assert_eq!(samples.len(), 5);
        let docs = include_str!("../../../../docs/reference/metrics.md");
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
