//! The numbers of the workload's rate limits and concurrency limits.

use crate::{
    admission::{LimitSummary, LimitUsage},
    error::RequestError,
    telemetry::render::{Kind, Sample},
};

/// Of every limit. They start anew when a limit is taken away and comes back.
pub(super) fn take(limits: &[LimitSummary]) -> Vec<Sample> {
    let sample = |name, help, kind, limit: &LimitSummary, value| Sample {
        name,
        help,
        kind,
        labels: vec![("policy", limit.name.to_string())],
        value,
    };
    let shed = limits.iter().map(|limit| {
        let mut shed = sample(
            "weft_requests_shed",
            "Requests that a limit of the workload did not let through",
            Kind::Counter,
            limit,
            limit.shed as f64,
        );
        let reason = match limit.usage {
            LimitUsage::Rate { .. } => RequestError::RateLimited,
            LimitUsage::Concurrency { .. } => RequestError::Overloaded,
        };
        shed.labels.push(("reason", reason.to_string()));
        shed
    });
    let buckets = limits.iter().filter_map(|limit| match limit.usage {
        LimitUsage::Rate { buckets } => Some(sample(
            "weft_rate_limit_buckets_used",
            "Buckets of a rate limit that are not full",
            Kind::Gauge,
            limit,
            buckets as f64,
        )),
        LimitUsage::Concurrency { .. } => None,
    });
    let concurrency = |name, help, value: fn(u32, u32) -> u32| {
        limits.iter().filter_map(move |limit| match limit.usage {
            LimitUsage::Concurrency {
                in_flight,
                limit: most,
            } => {
                let value = f64::from(value(in_flight, most));
                Some(sample(name, help, Kind::Gauge, limit, value))
            }
            LimitUsage::Rate { .. } => None,
        })
    };
    let most = concurrency(
        "weft_concurrency_limit",
        "Requests that may be in flight to the application",
        |_, most| most,
    );
    let in_flight = concurrency(
        "weft_concurrency_limit_used",
        "Requests under a concurrency limit that are in flight",
        |in_flight, _| in_flight,
    );
    shed.chain(buckets).chain(most).chain(in_flight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_stands_in_the_docs() {
        let limit = |usage| LimitSummary {
            name: "demo/user:80".into(),
            shed: 1,
            usage,
        };
        let samples = take(&[
            limit(LimitUsage::Rate { buckets: 1 }),
            limit(LimitUsage::Concurrency {
                in_flight: 1,
                limit: 2,
            }),
        ]);
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
