use super::{NAME, action, any_path, converted, refused, route, with_hosts};
use crate::{
    snapshot::{
        Share,
        route::{Abort, AbortStatus, Delay, Fault, Field, HeaderMatch, ValueMatch},
    },
    xds::convert::{
        route::convert,
        tests::{any, seconds},
    },
};
use http::{HeaderName, StatusCode};
use std::time::Duration;
use weft_xds_proto::envoy::{
    envoy::{
        config::route::v3::{FilterConfig, HeaderMatcher, Route, VirtualHost},
        extensions::filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
        },
        r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
    },
    google::protobuf::Any,
};

const FILTER: &str = "envoy.filters.http.fault";

fn percent(numerator: u32, denominator: DenominatorType) -> Option<FractionalPercent> {
    Some(FractionalPercent {
        numerator,
        denominator: denominator.into(),
    })
}

fn delay(fixed: i64) -> Option<FaultDelay> {
    Some(FaultDelay {
        percentage: percent(10, DenominatorType::Hundred),
        fault_delay_secifier: seconds(fixed).map(FaultDelaySecifier::FixedDelay),
    })
}

fn abort(error: ErrorType) -> Option<FaultAbort> {
    Some(FaultAbort {
        percentage: percent(5, DenominatorType::TenThousand),
        error_type: Some(error),
        ..FaultAbort::default()
    })
}

fn with(config: Any) -> Route {
    Route {
        typed_per_filter_config: [(FILTER.to_owned(), config)].into(),
        ..route(any_path(), action())
    }
}

fn delayed() -> Fault {
    Fault {
        headers: Box::default(),
        delay: Some(Delay {
            share: Share::percent(10),
            duration: Duration::from_secs(1),
        }),
        abort: None,
    }
}

#[test]
fn every_field_is_taken() {
    let fault = HttpFault {
        delay: delay(1),
        abort: abort(ErrorType::HttpStatus(418)),
        headers: vec![HeaderMatcher {
            name: "x-test".to_owned(),
            ..HeaderMatcher::default()
        }],
        ..HttpFault::default()
    };
    assert_eq!(
        converted(with(any(&fault))).fault.as_deref(),
        Some(&Fault {
            headers: [HeaderMatch {
                field: Field::Named(HeaderName::from_static("x-test")),
                value: ValueMatch::Present,
                invert: false,
                absent_is_empty: false,
            }]
            .into(),
            abort: Some(Abort {
                share: Share::millionths(500),
                status: AbortStatus::Http(StatusCode::IM_A_TEAPOT),
            }),
            ..delayed()
        })
    );
}

#[test]
fn a_call_may_be_aborted_with_a_status_of_grpc() {
    let fault = HttpFault {
        abort: abort(ErrorType::GrpcStatus(14)),
        ..HttpFault::default()
    };
    let fault = converted(with(any(&fault))).fault.unwrap();
    assert_eq!(fault.abort.unwrap().status, AbortStatus::Grpc(14));
}

#[test]
fn without_a_percentage_nothing_goes_wrong() {
    let fault = HttpFault {
        delay: Some(FaultDelay {
            percentage: None,
            ..delay(1).unwrap()
        }),
        ..HttpFault::default()
    };
    let fault = converted(with(any(&fault))).fault.unwrap();
    assert_eq!(fault.delay.unwrap().share, Share::NONE);
}

#[test]
fn the_innermost_fault_counts_and_may_be_none() {
    let fault = HttpFault {
        delay: delay(1),
        ..HttpFault::default()
    };
    let disabled = FilterConfig {
        disabled: true,
        ..FilterConfig::default()
    };
    let wrapped = FilterConfig {
        config: Some(any(&HttpFault {
            delay: delay(2),
            ..HttpFault::default()
        })),
        is_optional: true,
        ..FilterConfig::default()
    };
    let config = with_hosts(vec![VirtualHost {
        domains: vec!["*".to_owned()],
        typed_per_filter_config: [(FILTER.to_owned(), any(&fault))].into(),
        routes: vec![
            route(any_path(), action()),
            with(any(&disabled)),
            with(any(&HttpFault::default())),
            with(any(&wrapped)),
        ],
        ..VirtualHost::default()
    }]);
    let routes = convert(NAME, &any(&config)).unwrap();
    let delays = routes.virtual_hosts[0].routes.iter().map(|rule| {
        let delay = rule.fault.as_ref().and_then(|fault| fault.delay);
        delay.map(|delay| delay.duration.as_secs())
    });
    assert_eq!(delays.collect::<Vec<_>>(), [Some(1), None, None, Some(2)]);
}

#[test]
fn what_is_wrong_with_a_fault_is_named() {
    let base = || HttpFault {
        delay: delay(1),
        ..HttpFault::default()
    };
    for (fault, expected) in [
        (
            HttpFault {
                upstream_cluster: "user".to_owned(),
                ..base()
            },
            "upstream_cluster: is not supported by this proxy",
        ),
        (
            HttpFault {
                downstream_nodes: vec!["a".to_owned()],
                ..base()
            },
            "downstream_nodes: is not supported by this proxy",
        ),
        (
            HttpFault {
                max_active_faults: super::number(1),
                ..base()
            },
            "max_active_faults: is not supported by this proxy",
        ),
        (
            HttpFault {
                response_rate_limit: Some(Default::default()),
                ..base()
            },
            "response_rate_limit: is not supported by this proxy",
        ),
        (
            HttpFault {
                delay: delay(0),
                ..base()
            },
            "delay.fixed_delay: must be > 0, got 0s",
        ),
        (
            HttpFault {
                delay: Some(FaultDelay::default()),
                ..base()
            },
            "delay.fixed_delay: is required",
        ),
        (
            HttpFault {
                delay: Some(FaultDelay {
                    fault_delay_secifier: Some(FaultDelaySecifier::HeaderDelay(Default::default())),
                    ..FaultDelay::default()
                }),
                ..base()
            },
            "delay.header_delay: is not supported by this proxy",
        ),
        (
            HttpFault {
                delay: Some(FaultDelay {
                    percentage: percent(101, DenominatorType::Hundred),
                    ..delay(1).unwrap()
                }),
                ..base()
            },
            "delay.percentage.numerator: must be <= 100, got 101",
        ),
        (
            HttpFault {
                abort: abort(ErrorType::HttpStatus(199)),
                ..base()
            },
            "abort.http_status: must be from 200 to 599, got 199",
        ),
        (
            HttpFault {
                abort: abort(ErrorType::GrpcStatus(17)),
                ..base()
            },
            "abort.grpc_status: must be a status of gRPC (0 to 16), got 17",
        ),
        (
            HttpFault {
                abort: abort(ErrorType::HeaderAbort(Default::default())),
                ..base()
            },
            "abort.header_abort: is not supported by this proxy",
        ),
        (
            HttpFault {
                abort: Some(FaultAbort::default()),
                ..base()
            },
            "abort.error_type: is required",
        ),
        (
            HttpFault {
                abort: Some(FaultAbort {
                    response_body: "no".to_owned(),
                    ..FaultAbort::default()
                }),
                ..base()
            },
            "abort.response_body: is not supported by this proxy",
        ),
    ] {
        assert_eq!(
            refused(with(any(&fault))),
            format!("typed_per_filter_config[{FILTER:?}].{expected}")
        );
    }
}
