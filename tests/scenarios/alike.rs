//! One policy file, two proxies: what Weft and an unmodified Envoy make of it, driven by the same control plane.

mod attempts;
mod balancing;
mod both;
mod grpc;
mod limits;
mod routes;

use weft_tests::{Need, Suite};

const NEEDS: &[Need] = &[Need::Namespaces, Need::Envoy];

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test("weft_and_envoy_route_alike", NEEDS, routes::routes)
        .test(
            "weft_and_envoy_match_expressions_alike",
            NEEDS,
            routes::expressions,
        )
        .test(
            "weft_and_envoy_redirect_and_rewrite_alike",
            NEEDS,
            routes::redirects,
        )
        .test(
            "weft_and_envoy_divide_by_weight_alike",
            NEEDS,
            routes::weights,
        )
        .test(
            "weft_and_envoy_obey_the_limits_of_a_rule_alike",
            NEEDS,
            routes::limits_of_a_rule,
        )
        .test("weft_and_envoy_balance_alike", NEEDS, balancing::balancing)
        .test(
            "weft_and_envoy_balance_by_chance_alike",
            NEEDS,
            balancing::by_chance,
        )
        .test(
            "weft_and_envoy_balance_by_weight_alike",
            NEEDS,
            balancing::by_weight,
        )
        .test("weft_and_envoy_hash_alike", NEEDS, balancing::hashes)
        .test("weft_and_envoy_retry_alike", NEEDS, attempts::retries)
        .test(
            "weft_and_envoy_retry_elsewhere_alike",
            NEEDS,
            attempts::elsewhere,
        )
        .test(
            "weft_and_envoy_wait_as_asked_alike",
            NEEDS,
            attempts::retry_after,
        )
        .test("weft_and_envoy_time_out_alike", NEEDS, attempts::timeouts)
        .test(
            "weft_and_envoy_inject_faults_alike",
            NEEDS,
            attempts::faults,
        )
        .test("weft_and_envoy_mirror_alike", NEEDS, attempts::mirroring)
        .test("weft_and_envoy_eject_alike", NEEDS, limits::ejection)
        .test("weft_and_envoy_eject_by_ratio_alike", NEEDS, limits::ratio)
        .test(
            "weft_and_envoy_choose_what_is_a_failure_alike",
            NEEDS,
            limits::failures,
        )
        .test("weft_and_envoy_panic_alike", NEEDS, limits::panic)
        .test(
            "weft_and_envoy_limit_connections_alike",
            NEEDS,
            limits::connections,
        )
        .test(
            "weft_and_envoy_limit_requests_alike",
            NEEDS,
            limits::requests,
        )
        .test("weft_and_envoy_call_grpc_alike", NEEDS, grpc::calls)
}
