//! The breaker of endpoints, as `Cluster` has it: Envoy's outlier detection, and what it cannot say.

use super::super::{
    dialect::Form,
    proto::{duration, limit_of, number, yes},
};
use crate::world::{
    policy::{Breaker, Failures},
    quantity::Share,
};
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::OutlierDetection,
            common::matcher::v3::{
                HttpHeadersMatch, MatchPredicate,
                match_predicate::{MatchSet, Rule},
            },
            route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
        },
        extensions::upstreams::http::v3::http_protocol_options,
        r#type::{
            matcher::v3::{StringMatcher, string_matcher::MatchPattern},
            v3::Int64Range,
        },
    },
    google::protobuf::UInt32Value,
};
use std::time::Duration;
use weft_xds_proto::weft::v1::{Breaker as Message, breaker};

/// How often an Envoy looks for endpoints to take back where no window says it. Its own ten seconds would
/// lengthen every ejection by as much.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is enforced always, and what never.
const ALWAYS: u32 = 100;
const NEVER: u32 = 0;

/// `Cluster.outlier_detection`. Whatever is not asked for is switched off, since Envoy's defaults are not.
pub(super) fn detection(breaker: &Breaker, form: Form) -> OutlierDetection {
    // What the endpoint answered and what happened to its connections, told apart only if just one counts.
    let (answers, connections) = (
        counts_answers(&breaker.failures),
        breaker.failures.connect_errors,
    );
    let split = form == Form::Envoy && answers != connections;
    let (answers, connections) = (!split || answers, split && connections);
    let enforced = |asked: bool| number(if asked { ALWAYS } else { NEVER });
    let consecutive = breaker.consecutive_failures;
    let ratio = breaker.failure_ratio.as_ref();
    OutlierDetection {
        split_external_local_origin_errors: split,
        consecutive_5xx: consecutive.and_then(limit_of),
        enforcing_consecutive_5xx: enforced(consecutive.is_some() && answers),
        consecutive_local_origin_failure: consecutive.filter(|_| split).and_then(limit_of),
        enforcing_consecutive_local_origin_failure: enforced(consecutive.is_some() && connections),
        enforcing_consecutive_gateway_failure: number(NEVER),
        enforcing_success_rate: number(NEVER),
        enforcing_local_origin_success_rate: number(NEVER),
        interval: Some(duration(ratio.map_or(INTERVAL, |ratio| ratio.window))),
        failure_percentage_threshold: ratio.and_then(|ratio| whole_percent(ratio.ratio)),
        failure_percentage_request_volume: ratio.and_then(|r| limit_of(r.minimum_requests)),
        failure_percentage_minimum_hosts: ratio.and_then(|_| number(1u32)),
        enforcing_failure_percentage: enforced(ratio.is_some() && answers),
        enforcing_failure_percentage_local_origin: enforced(ratio.is_some() && connections),
        base_ejection_time: Some(duration(breaker.open_for)),
        max_ejection_time: Some(duration(breaker.max_open_for)),
        max_ejection_time_jitter: Some(duration(breaker.jitter)),
        max_ejection_percent: whole_percent(breaker.max_ejected),
        always_eject_one_host: yes(),
        ..OutlierDetection::default()
    }
}

/// What a sidecar reads beside the outlier detection.
pub(super) fn breaker(breaker: &Breaker) -> Message {
    let failures = &breaker.failures;
    Message {
        failure_ratio: breaker
            .failure_ratio
            .as_ref()
            .map(|ratio| breaker::FailureRatio {
                ratio: ratio.ratio.as_percent() / 100.0,
                minimum_requests: ratio.minimum_requests.get(),
                window: Some(duration(ratio.window)),
            }),
        failures: Some(breaker::Failures {
            connect_errors: failures.connect_errors,
            server_errors: failures.server_errors,
            statuses: failures.statuses.iter().copied().map(u32::from).collect(),
            grpc_codes: failures
                .grpc_codes
                .iter()
                .map(|code| code.number().into())
                .collect(),
            slower_than: failures.slower_than.map(duration),
        }),
        half_open_requests: breaker.half_open_requests.get(),
    }
}

/// Which answers an Envoy takes for failures, where it is not just any status of 500 and above. Of gRPC it then sees
/// the status of an answer without a body.
pub(super) fn errors(failures: &Failures) -> Option<http_protocol_options::OutlierDetection> {
    if failures.server_errors && failures.statuses.is_empty() {
        return None;
    }
    let server_errors = failures.server_errors.then(|| {
        header(
            ":status",
            HeaderMatchSpecifier::RangeMatch(Int64Range {
                start: 500,
                end: 600,
            }),
        )
    });
    let statuses = failures
        .statuses
        .iter()
        .map(|status| exact(":status", status.to_string()));
    let codes = failures
        .grpc_codes
        .iter()
        .map(|code| exact("grpc-status", code.number().to_string()));
    let mut rules: Vec<_> = server_errors
        .into_iter()
        .chain(statuses)
        .chain(codes)
        .collect();
    let error_matcher = match rules.len() {
        0 => return None,
        1 => rules.pop(),
        _ => Some(MatchPredicate {
            rule: Some(Rule::OrMatch(MatchSet { rules })),
        }),
    };
    Some(http_protocol_options::OutlierDetection { error_matcher })
}

fn counts_answers(failures: &Failures) -> bool {
    failures.server_errors || !failures.statuses.is_empty() || !failures.grpc_codes.is_empty()
}

fn exact(name: &str, value: String) -> MatchPredicate {
    header(
        name,
        HeaderMatchSpecifier::StringMatch(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(value)),
            ..StringMatcher::default()
        }),
    )
}

fn header(name: &str, specifier: HeaderMatchSpecifier) -> MatchPredicate {
    MatchPredicate {
        rule: Some(Rule::HttpResponseHeadersMatch(HttpHeadersMatch {
            headers: vec![HeaderMatcher {
                name: name.to_owned(),
                header_match_specifier: Some(specifier),
                ..HeaderMatcher::default()
            }],
        })),
    }
}

/// Rounded up: never more eager than what was asked for.
fn whole_percent(share: Share) -> Option<UInt32Value> {
    number(share.millionths().div_ceil(10_000))
}
