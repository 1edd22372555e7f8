//! The breaker of a cluster as JSON. What is not configured is left out.

use super::{
    retry::grpc_codes,
    route::{list, object, percent},
    seconds,
};
use crate::snapshot::{
    Breaker,
    breaker::{FailureRatio, Failures},
};
use serde_json::{Value, json};

/// When endpoints are ejected, and for how long.
pub(super) fn breaker(breaker: &Breaker) -> Value {
    object([
        (
            "consecutive_failures",
            breaker.consecutive_failures.map(|failures| json!(failures)),
        ),
        ("failure_ratio", breaker.failure_ratio.as_ref().map(ratio)),
        ("failures", list(failures(&breaker.failures))),
        (
            "slower_than",
            breaker
                .failures
                .slower_than
                .map(|time| json!(seconds(time))),
        ),
        ("open_for", Some(json!(seconds(breaker.open_for)))),
        ("max_open_for", Some(json!(seconds(breaker.max_open_for)))),
        ("jitter", Some(json!(seconds(breaker.jitter)))),
        (
            "half_open_requests",
            Some(json!(breaker.half_open_requests)),
        ),
        ("max_ejected_percent", Some(percent(breaker.max_ejected))),
    ])
}

fn ratio(ratio: &FailureRatio) -> Value {
    json!({
        "percent": percent(ratio.ratio),
        "minimum_requests": ratio.minimum_requests,
        "window": seconds(ratio.window),
    })
}

/// What counts as a failure: by name, then the statuses and gRPC codes by number.
fn failures(failures: &Failures) -> impl Iterator<Item = Value> {
    let named = [
        ("connect-errors", failures.connect_errors),
        ("5xx", failures.server_errors),
    ];
    let named = named.into_iter().filter(|(_, counts)| *counts);
    let statuses = failures.statuses.iter();
    named
        .map(|(name, _)| name.to_owned())
        .chain(statuses.map(|status| status.as_str().to_owned()))
        .chain(grpc_codes(failures.grpc_codes))
        .map(Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{Share, breaker::GrpcCodes};
    use http::StatusCode;
    use std::{num::NonZeroU32, time::Duration};

    #[test]
    fn a_breaker_is_shown_with_what_counts_as_a_failure() {
        let config = Breaker {
            consecutive_failures: NonZeroU32::new(5),
            failure_ratio: Some(FailureRatio {
                ratio: Share::percent(50),
                minimum_requests: NonZeroU32::new(20).unwrap(),
                window: Duration::from_secs(10),
            }),
            failures: Failures {
                connect_errors: false,
                server_errors: true,
                statuses: [StatusCode::TOO_MANY_REQUESTS].into(),
                grpc_codes: GrpcCodes::of(&[14]),
                slower_than: Some(Duration::from_millis(500)),
            },
            open_for: Duration::from_secs(30),
            max_open_for: Duration::from_secs(300),
            jitter: Duration::ZERO,
            half_open_requests: NonZeroU32::MIN,
            max_ejected: Share::percent(10),
        };
        assert_eq!(
            breaker(&config),
            json!({
                "consecutive_failures": 5,
                "failure_ratio": { "percent": 50.0, "minimum_requests": 20, "window": "10s" },
                "failures": ["5xx", "429", "grpc-status 14"],
                "slower_than": "0.5s",
                "open_for": "30s",
                "max_open_for": "300s",
                "jitter": "0s",
                "half_open_requests": 1,
                "max_ejected_percent": 10.0,
            })
        );
    }
}
