//! Retries of a route as JSON, in Envoy's words.

use super::{
    route::{list, object},
    seconds,
};
use crate::snapshot::{
    Retry,
    breaker::GrpcCodes,
    retry::{Backoff, Conditions},
};
use serde_json::{Value, json};

/// How a route retries. What is not configured is left out.
pub(super) fn retry(retry: &Retry) -> Value {
    object([
        ("retries", Some(json!(retry.retries))),
        ("on", list(conditions(&retry.on).map(Value::from))),
        (
            "methods",
            list(retry.methods.iter().map(|method| json!(method.as_str()))),
        ),
        (
            "per_try_timeout",
            retry.per_try_timeout.map(|limit| json!(seconds(limit))),
        ),
        ("backoff", Some(backoff(&retry.backoff))),
        (
            "retry_after_max",
            retry.retry_after.map(|most| json!(seconds(most))),
        ),
        ("body_limit", Some(json!(retry.body_limit))),
        (
            "hedge_after",
            retry
                .hedge
                .as_ref()
                .map(|hedge| json!(seconds(hedge.delay))),
        ),
    ])
}

fn backoff(backoff: &Backoff) -> Value {
    json!({
        "base": seconds(backoff.base),
        "max": seconds(backoff.max),
        "multiplier": backoff.multiplier,
        "jitter": backoff.jitter,
    })
}

/// The conditions by their names, then the statuses and gRPC codes by number.
fn conditions(on: &Conditions) -> impl Iterator<Item = String> {
    let named = [
        ("connect-failure", on.connect_failure),
        ("refused-stream", on.refused_stream),
        ("reset-before-request", on.reset_before_request),
        ("reset", on.reset),
        ("5xx", on.server_errors),
        ("gateway-error", on.gateway_error),
        ("retriable-4xx", on.retriable_4xx),
    ];
    let named = named.into_iter().filter(|(_, set)| *set);
    let statuses = on.statuses.iter().map(|status| status.as_str().to_owned());
    named
        .map(|(name, _)| name.to_owned())
        .chain(statuses)
        .chain(grpc_codes(on.grpc_codes))
}

/// Each by its number.
pub(super) fn grpc_codes(codes: GrpcCodes) -> impl Iterator<Item = String> {
    let all = 0..32;
    all.filter(move |code| codes.contains(*code))
        .map(|code| format!("grpc-status {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::retry::Hedge;
    use http::{Method, StatusCode};
    use std::{num::NonZeroU32, time::Duration};

    #[test]
    fn a_policy_is_shown_in_the_words_that_configure_it() {
        let policy = Retry {
            retries: NonZeroU32::MIN,
            on: Conditions {
                connect_failure: true,
                server_errors: true,
                statuses: Box::new([StatusCode::TOO_MANY_REQUESTS]),
                grpc_codes: GrpcCodes::of(&[14]),
                ..Conditions::default()
            },
            methods: Box::new([Method::GET]),
            per_try_timeout: Some(Duration::from_millis(250)),
            backoff: Backoff {
                base: Duration::from_millis(25),
                max: Duration::from_millis(250),
                multiplier: 2.0,
                jitter: true,
            },
            retry_after: None,
            body_limit: 65_536,
            hedge: Some(Hedge {
                delay: Duration::from_millis(50),
            }),
        };
        assert_eq!(
            retry(&policy),
            json!({
                "retries": 1,
                "on": ["connect-failure", "5xx", "429", "grpc-status 14"],
                "methods": ["GET"],
                "per_try_timeout": "0.25s",
                "backoff": { "base": "0.025s", "max": "0.25s", "multiplier": 2.0, "jitter": true },
                "body_limit": 65_536,
                "hedge_after": "0.05s",
            })
        );
    }
}
