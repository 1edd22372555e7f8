//! What is tried again, as `RetryPolicy` and Weft's extension of it have it.

use super::{
    super::{
        dialect::Form,
        proto::{any, duration, number},
    },
    fit,
};
use crate::world::policy::{Retry, RetryCondition, RetryOn};
use envoy_types::pb::envoy::{
    config::route::v3::{
        RetryPolicy, RouteMatch,
        retry_policy::{
            RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat, RetryBackOff,
            RetryHostPredicate, retry_host_predicate,
        },
    },
    extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate,
};
use std::collections::BTreeSet;
use weft_xds_proto::weft::v1::{RetryExtension, retry_extension};

use RetryCondition as On;

/// How often another endpoint is looked for in the place of one that was tried before.
const OTHER_ENDPOINT_ATTEMPTS: i64 = 5;

/// What gRPC clients know (gRFC A44).
const GRPC: [On; 5] = [
    On::Cancelled,
    On::DeadlineExceeded,
    On::Internal,
    On::ResourceExhausted,
    On::Unavailable,
];

/// `RouteAction.retry_policy`. Absent where the dialect knows none of the conditions.
pub(super) fn policy(retry: &Retry, form: Form) -> Option<RetryPolicy> {
    let conditions = retry.on.conditions.iter();
    let mut words: Vec<_> = conditions
        .filter(|condition| form != Form::Grpc || GRPC.contains(condition))
        .map(|condition| condition.name())
        .collect();
    let policy = RetryPolicy {
        num_retries: number(retry.attempts.get() - 1),
        retry_back_off: Some(RetryBackOff {
            base_interval: Some(duration(retry.backoff.base)),
            max_interval: Some(duration(retry.backoff.max)),
        }),
        ..RetryPolicy::default()
    };
    if form == Form::Grpc {
        return (!words.is_empty()).then(|| RetryPolicy {
            retry_on: words.join(","),
            ..policy
        });
    }
    if !retry.on.statuses.is_empty() {
        words.push("retriable-status-codes");
    }
    Some(RetryPolicy {
        retry_on: words.join(","),
        retriable_status_codes: retry.on.statuses.iter().copied().map(u32::from).collect(),
        per_try_timeout: retry.per_try_timeout.map(duration),
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any(
                PreviousHostsPredicate {},
            ))),
        }],
        host_selection_retry_max_attempts: OTHER_ENDPOINT_ATTEMPTS,
        rate_limited_retry_back_off: retry.retry_after.map(|max| RateLimitedRetryBackOff {
            reset_headers: vec![ResetHeader {
                name: "Retry-After".to_owned(),
                format: ResetHeaderFormat::Seconds.into(),
            }],
            max_interval: Some(duration(max)),
        }),
        ..policy
    })
}

/// What Envoy's message has no field for.
pub(super) fn extension(retry: &Retry) -> RetryExtension {
    RetryExtension {
        methods: retry.methods.iter().map(ToString::to_string).collect(),
        multiplier: Some(retry.backoff.multiplier.as_f64()),
        jitter: Some(retry.backoff.jitter),
        body_limit: Some(retry.body_limit),
        hedge: retry.hedge.map(|delay| retry_extension::Hedge {
            delay: Some(duration(delay)),
        }),
    }
}

/// The requests of a route, apart by what may be tried again of them, for an Envoy, whose retry policies know no
/// methods: requests with one of the policy's methods, and then those that provably were not processed.
pub(super) fn by_method(
    retry: &Retry,
    fit: RouteMatch,
    method: Option<&str>,
) -> Vec<(RouteMatch, Option<Retry>)> {
    if let Some(method) = method {
        let whole = retry.methods.contains(method);
        let retry = if whole {
            Some(retry.clone())
        } else {
            unprocessed(retry)
        };
        return vec![(fit, retry)];
    }
    let rest = (fit.clone(), unprocessed(retry));
    if retry.methods.is_empty() {
        return vec![rest];
    }
    let mut allowed = fit;
    let methods = retry.methods.iter().map(|method| &**method);
    allowed.headers.insert(0, fit::one_of_methods(methods));
    vec![(allowed, Some(retry.clone())), rest]
}

/// What may be tried again of any request: failures that say that it was not processed, as far as the policy's
/// conditions include them.
fn unprocessed(retry: &Retry) -> Option<Retry> {
    let conditions = &retry.on.conditions;
    // What an Envoy takes a failure without an answer for.
    let any = [On::Reset, On::ServerError, On::GatewayError];
    let any = any.iter().any(|condition| conditions.contains(condition));
    let conditions: BTreeSet<_> = [
        On::ConnectFailure,
        On::RefusedStream,
        On::ResetBeforeRequest,
    ]
    .into_iter()
    .filter(|condition| any || conditions.contains(condition))
    .collect();
    (!conditions.is_empty()).then(|| Retry {
        on: RetryOn {
            conditions,
            statuses: BTreeSet::new(),
        },
        ..retry.clone()
    })
}
