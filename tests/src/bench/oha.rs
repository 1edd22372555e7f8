//! What oha writes as JSON.

use anyhow::{Context, ensure};
use serde_json::Value;
use std::time::Duration;

/// Latencies by the share of requests that were at least as fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// Requests that were measured.
    pub requests: u64,
    /// Half of the requests.
    pub p50: Duration,
    /// 90 %.
    pub p90: Duration,
    /// 99 %.
    pub p99: Duration,
    /// 99.9 %.
    pub p999: Duration,
}

/// Reads oha's report; any failed request is an error.
pub fn parse(json: &str) -> anyhow::Result<Latency> {
    let report: Value = serde_json::from_str(json).context("oha did not write JSON")?;
    let counts = |field: &str| -> anyhow::Result<Vec<(String, u64)>> {
        let counts = report[field].as_object();
        let counts = counts.with_context(|| format!("oha's report has no {field}"))?;
        let count = |(key, value): (&String, &Value)| Some((key.clone(), value.as_u64()?));
        Ok(counts.iter().filter_map(count).collect())
    };
    let statuses = counts("statusCodeDistribution")?;
    let is_answered = statuses.iter().all(|(status, _)| status == "200");
    let errors = counts("errorDistribution")?;
    ensure!(
        is_answered && errors.is_empty() && !statuses.is_empty(),
        "oha saw failures: {statuses:?} {errors:?}"
    );
    let percentile = |name: &str| {
        let seconds = report["latencyPercentiles"][name].as_f64();
        let seconds = seconds.with_context(|| format!("oha's report has no {name}"))?;
        Duration::try_from_secs_f64(seconds).context("a latency is a duration")
    };
    Ok(Latency {
        requests: statuses.iter().map(|(_, count)| count).sum(),
        p50: percentile("p50")?,
        p90: percentile("p90")?,
        p99: percentile("p99")?,
        p999: percentile("p99.9")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report() -> Value {
        json!({
            "summary": { "successRate": 1.0, "total": 8.0, "requestsPerSec": 1000.0 },
            "latencyPercentiles": {
                "p10": 0.0001, "p50": 0.000_25, "p90": 0.0005, "p99": 0.001, "p99.9": 0.004, "p99.99": 0.005,
            },
            "statusCodeDistribution": { "200": 8000 },
            "errorDistribution": {},
        })
    }

    #[test]
    fn latencies_are_read() {
        let expected = Latency {
            requests: 8000,
            p50: Duration::from_micros(250),
            p90: Duration::from_micros(500),
            p99: Duration::from_millis(1),
            p999: Duration::from_millis(4),
        };
        assert_eq!(parse(&report().to_string()).unwrap(), expected);
    }

    #[test]
    fn failures_fail_the_run() {
        let mut refused = report();
        refused["statusCodeDistribution"]["503"] = json!(1);
        let mut broken = report();
        broken["errorDistribution"]["connection closed"] = json!(2);
        for report in [refused, broken] {
            assert!(parse(&report.to_string()).is_err());
        }
    }
}
