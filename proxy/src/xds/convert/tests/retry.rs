use super::{any, number, own_metadata, seconds};
use crate::{
    snapshot::{
        Retry,
        breaker::GrpcCodes,
        retry::{Backoff, Conditions, Hedge},
        route::Action::Forward,
    },
    xds::convert::{retry::retry, route::convert},
};
use http::{Method, StatusCode};
use std::{num::NonZeroU32, time::Duration};
use weft_xds_proto::{
    envoy::{
        envoy::config::route::v3::{
            RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
            retry_policy::{
                RateLimitedRetryBackOff, ResetHeader, ResetHeaderFormat, RetryBackOff,
                RetryHostPredicate, RetryPriority,
            },
            route::Action,
            route_action::ClusterSpecifier,
            route_match::PathSpecifier,
        },
        google::protobuf::Duration as ProtoDuration,
    },
    weft::v1::{PeakEwma, RetryExtension, retry_extension},
};

fn on(retry_on: &str) -> RetryPolicy {
    RetryPolicy {
        retry_on: retry_on.to_owned(),
        ..RetryPolicy::default()
    }
}

fn millis(millis: i32) -> Option<ProtoDuration> {
    Some(ProtoDuration {
        seconds: 0,
        nanos: millis * 1_000_000,
    })
}

fn rate_limited(name: &str, format: ResetHeaderFormat) -> Option<RateLimitedRetryBackOff> {
    Some(RateLimitedRetryBackOff {
        reset_headers: vec![ResetHeader {
            name: name.to_owned(),
            format: format.into(),
        }],
        max_interval: seconds(5),
    })
}

fn converted(policy: &RetryPolicy) -> Option<Retry> {
    retry(Some(policy), None, None).unwrap()
}

fn refused(policy: &RetryPolicy, extension: Option<&RetryExtension>) -> (String, String) {
    let metadata = extension.and_then(own_metadata);
    let fault = retry(Some(policy), None, metadata.as_ref()).unwrap_err();
    (fault.field, fault.reason)
}

#[test]
fn a_policy_with_nothing_but_a_condition_has_the_defaults() {
    let expected = Retry {
        retries: NonZeroU32::MIN,
        on: Conditions {
            server_errors: true,
            ..Conditions::default()
        },
        methods: [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::TRACE,
            Method::PUT,
            Method::DELETE,
        ]
        .into(),
        per_try_timeout: None,
        backoff: Backoff {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
            multiplier: 2.0,
            jitter: true,
        },
        retry_after: None,
        body_limit: 65_536,
        hedge: None,
    };
    assert_eq!(converted(&on("5xx")), Some(expected));
}

#[test]
fn every_field_and_every_word_is_taken() {
    let policy = RetryPolicy {
        retry_on: "connect-failure, refused-stream,reset-before-request,reset,5xx,gateway-error,\
            retriable-4xx,retriable-status-codes,http3-post-connect-failure,cancelled,\
            deadline-exceeded,internal,resource-exhausted,unavailable"
            .to_owned(),
        num_retries: number(4),
        retriable_status_codes: vec![429, 503],
        per_try_timeout: seconds(2),
        retry_back_off: Some(RetryBackOff {
            base_interval: millis(100),
            max_interval: seconds(5),
        }),
        rate_limited_retry_back_off: rate_limited("Retry-After", ResetHeaderFormat::Seconds),
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            config_type: None,
        }],
        host_selection_retry_max_attempts: 5,
        ..RetryPolicy::default()
    };
    let extension = RetryExtension {
        methods: vec!["GET".to_owned(), "POST".to_owned()],
        multiplier: Some(1.5),
        jitter: Some(false),
        body_limit: Some(1_000),
        hedge: Some(retry_extension::Hedge { delay: millis(50) }),
    };
    let expected = Retry {
        retries: NonZeroU32::new(4).unwrap(),
        on: Conditions {
            connect_failure: true,
            refused_stream: true,
            reset_before_request: true,
            reset: true,
            server_errors: true,
            gateway_error: true,
            retriable_4xx: true,
            statuses: [
                StatusCode::TOO_MANY_REQUESTS,
                StatusCode::SERVICE_UNAVAILABLE,
            ]
            .into(),
            grpc_codes: GrpcCodes::of(&[1, 4, 8, 13, 14]),
        },
        methods: [Method::GET, Method::POST].into(),
        per_try_timeout: Some(Duration::from_secs(2)),
        backoff: Backoff {
            base: Duration::from_millis(100),
            max: Duration::from_secs(5),
            multiplier: 1.5,
            jitter: false,
        },
        retry_after: Some(Duration::from_secs(5)),
        body_limit: 1_000,
        hedge: Some(Hedge {
            delay: Duration::from_millis(50),
        }),
    };
    let metadata = own_metadata(&extension);
    assert_eq!(
        retry(Some(&policy), None, metadata.as_ref()).unwrap(),
        Some(expected)
    );
}

#[test]
fn a_policy_that_never_applies_is_none() {
    assert_eq!(retry(None, None, None).unwrap(), None);
    assert_eq!(converted(&on("")), None);
    assert_eq!(converted(&on("http3-post-connect-failure")), None);
    let never = RetryPolicy {
        num_retries: number(0),
        ..on("5xx")
    };
    assert_eq!(converted(&never), None);
}

#[test]
fn a_route_has_its_own_policy_or_that_of_its_virtual_host() {
    let with = |policy| Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(Action::Route(RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster("user".to_owned())),
            retry_policy: policy,
            ..RouteAction::default()
        })),
        ..Route::default()
    };
    let config = RouteConfiguration {
        name: "user".to_owned(),
        virtual_hosts: vec![VirtualHost {
            domains: vec!["*".to_owned()],
            routes: vec![with(Some(on("reset"))), with(None)],
            retry_policy: Some(on("5xx")),
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    };
    let routes = convert("user", &any(&config)).unwrap();
    let retries = routes.virtual_hosts[0]
        .routes
        .iter()
        .map(|rule| match &rule.action {
            Forward(forward) => forward.retry.as_deref().cloned(),
            other => panic!("a route to a cluster, not {other:?}"),
        });
    assert_eq!(
        retries.collect::<Vec<_>>(),
        [converted(&on("reset")), converted(&on("5xx"))]
    );
}

#[test]
fn what_is_wrong_with_an_inherited_policy_is_said_of_who_has_it() {
    let config = RouteConfiguration {
        name: "user".to_owned(),
        virtual_hosts: vec![VirtualHost {
            domains: vec!["*".to_owned()],
            retry_policy: Some(on("sometimes")),
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    };
    let refused = convert("user", &any(&config)).unwrap_err().to_string();
    assert!(
        refused.contains("virtual_hosts[0].retry_policy.retry_on: \"sometimes\" is not one of"),
        "{refused}"
    );
}

#[test]
fn a_word_that_is_not_known_is_refused_with_those_that_are() {
    let (field, reason) = refused(&on("5xx,sometimes"), None);
    assert_eq!(field, "route.retry_policy.retry_on");
    assert_eq!(
        reason,
        "\"sometimes\" is not one of connect-failure, refused-stream, reset-before-request, reset, 5xx, \
         gateway-error, retriable-4xx, retriable-status-codes, http3-post-connect-failure, cancelled, \
         deadline-exceeded, internal, resource-exhausted, unavailable"
    );
}

#[test]
fn a_wrong_field_is_named() {
    let with_backoff = |base, max| RetryPolicy {
        retry_back_off: Some(RetryBackOff {
            base_interval: base,
            max_interval: max,
        }),
        ..on("5xx")
    };
    let negative = Some(ProtoDuration {
        seconds: -1,
        nanos: 0,
    });
    for (policy, field) in [
        (
            RetryPolicy {
                per_try_timeout: negative,
                ..on("5xx")
            },
            "per_try_timeout",
        ),
        (
            RetryPolicy {
                per_try_idle_timeout: seconds(1),
                ..on("5xx")
            },
            "per_try_idle_timeout",
        ),
        (
            RetryPolicy {
                retry_priority: Some(RetryPriority::default()),
                ..on("5xx")
            },
            "retry_priority",
        ),
        (
            RetryPolicy {
                retry_host_predicate: vec![RetryHostPredicate {
                    name: "envoy.retry_host_predicates.omit_canary_hosts".to_owned(),
                    config_type: None,
                }],
                ..on("5xx")
            },
            "retry_host_predicate[0]",
        ),
        (
            RetryPolicy {
                retriable_status_codes: vec![503, 99],
                ..on("retriable-status-codes")
            },
            "retriable_status_codes[1]",
        ),
        (with_backoff(None, None), "retry_back_off.base_interval"),
        (
            with_backoff(seconds(0), None),
            "retry_back_off.base_interval",
        ),
        (
            with_backoff(seconds(2), seconds(1)),
            "retry_back_off.max_interval",
        ),
        (
            RetryPolicy {
                rate_limited_retry_back_off: rate_limited(
                    "x-ratelimit-reset",
                    ResetHeaderFormat::Seconds,
                ),
                ..on("5xx")
            },
            "rate_limited_retry_back_off.reset_headers[0].name",
        ),
        (
            RetryPolicy {
                rate_limited_retry_back_off: rate_limited(
                    "retry-after",
                    ResetHeaderFormat::UnixTimestamp,
                ),
                ..on("5xx")
            },
            "rate_limited_retry_back_off.reset_headers[0].format",
        ),
        (
            RetryPolicy {
                rate_limited_retry_back_off: Some(RateLimitedRetryBackOff::default()),
                ..on("5xx")
            },
            "rate_limited_retry_back_off.reset_headers",
        ),
    ] {
        assert_eq!(
            refused(&policy, None).0,
            format!("route.retry_policy.{field}")
        );
    }

    for (extension, field) in [
        (
            RetryExtension {
                methods: vec!["GET".to_owned(), "G T".to_owned()],
                ..RetryExtension::default()
            },
            "methods[1]",
        ),
        (
            RetryExtension {
                multiplier: Some(0.5),
                ..RetryExtension::default()
            },
            "multiplier",
        ),
        (
            RetryExtension {
                multiplier: Some(f64::NAN),
                ..RetryExtension::default()
            },
            "multiplier",
        ),
        (
            RetryExtension {
                hedge: Some(retry_extension::Hedge { delay: None }),
                ..RetryExtension::default()
            },
            "hedge.delay",
        ),
    ] {
        assert_eq!(
            refused(&on("5xx"), Some(&extension)).0,
            format!("metadata.typed_filter_metadata[\"weft.dev\"].{field}")
        );
    }
}

#[test]
fn metadata_of_another_kind_is_refused() {
    let metadata = own_metadata(&PeakEwma::default());
    let fault = retry(None, None, metadata.as_ref()).unwrap_err();
    assert_eq!(fault.field, "metadata.typed_filter_metadata[\"weft.dev\"]");
    assert!(fault.reason.contains(&any(&PeakEwma::default()).type_url));
}
