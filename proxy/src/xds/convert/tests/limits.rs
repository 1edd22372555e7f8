use super::{
    any,
    listener::{
        OWN, at, behind_tls, http, http_filter, inbound_listener, manager, others,
        outbound_listener, plaintext, refused,
    },
    seconds,
};
use crate::{
    snapshot::{
        ConcurrencyLimit, Rate, RateLimit,
        admission::{Filter, Key, Limits, Match, Rule},
        route::{Conditions, PathMatch},
    },
    xds::convert::listener::{Listener, convert},
};
use http::Method;
use std::{sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::{
        envoy::{
            config::{
                listener::v3::{FilterChain, Listener as Proto},
                route::v3::{
                    HeaderMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
                    route_match::PathSpecifier,
                },
            },
            extensions::filters::{
                http::router::v3::Router,
                network::http_connection_manager::v3::HttpConnectionManager,
            },
            r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
        },
        google::protobuf::Any,
    },
    weft::v1::{
        ConcurrencyLimit as ConcurrencyProto, RateLimit as RateProto,
        concurrency_limit::{self, Adaptive},
        rate_limit::{
            self,
            key::{Identity, Key as KeyOf, SourceAddress},
        },
    },
};

fn limited(filters: Vec<Any>) -> FilterChain {
    let filters = filters.into_iter().chain([any(&Router::default())]);
    http(HttpConnectionManager {
        http_filters: filters.map(http_filter).collect(),
        ..manager()
    })
}

fn inbound(chains: Vec<FilterChain>) -> Proto {
    inbound_listener(chains.into_iter().chain(others()).collect())
}

/// The limits of port 80, which has these filters.
fn converted(filters: Vec<Any>) -> Limits {
    let listener = inbound(vec![at(80, behind_tls(limited(filters)))]);
    match convert(OWN, &any(&listener), OWN).unwrap() {
        Listener::Inbound(inbound) => inbound.port(80).limits.clone(),
        Listener::Outbound(_) => panic!("not inbound"),
    }
}

fn number<T: TryFrom<u32, Error: std::fmt::Debug>>(n: u32) -> T {
    n.try_into().unwrap()
}

fn per_second(requests: u32) -> rate_limit::Limit {
    rate_limit::Limit {
        requests,
        ..rate_limit::Limit::default()
    }
}

fn rate_rule(name: &str, limit: Option<rate_limit::Limit>) -> rate_limit::Rule {
    rate_limit::Rule {
        name: name.to_owned(),
        limit,
        ..rate_limit::Rule::default()
    }
}

fn rate(rules: Vec<rate_limit::Rule>) -> Any {
    any(&RateProto { rules })
}

fn concurrency(limit: concurrency_limit::rule::Limit) -> Any {
    any(&ConcurrencyProto {
        rules: vec![concurrency_limit::Rule {
            name: "demo/user:80".to_owned(),
            limit: Some(limit),
            ..concurrency_limit::Rule::default()
        }],
    })
}

#[test]
fn limits_stand_in_the_order_of_the_filters() {
    let login = rate_limit::Rule {
        matches: vec![RouteMatch {
            headers: vec![HeaderMatcher {
                name: ":method".to_owned(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
                    match_pattern: Some(MatchPattern::Exact("POST".to_owned())),
                    ..StringMatcher::default()
                })),
                ..HeaderMatcher::default()
            }],
            path_specifier: Some(PathSpecifier::Prefix("/login".to_owned())),
            ..RouteMatch::default()
        }],
        ..rate_rule(
            "HTTPRoute demo/user/login",
            Some(rate_limit::Limit {
                requests: 10,
                per: seconds(60),
                burst: 5,
                by: [
                    KeyOf::Identity(Identity {}),
                    KeyOf::SourceAddress(SourceAddress {}),
                    KeyOf::Header("x-tenant".to_owned()),
                ]
                .map(|key| rate_limit::Key { key: Some(key) })
                .into(),
                maximum_keys: 50,
            }),
        )
    };
    let spared = rate_rule("HTTPRoute demo/user/rest", None);
    let filters = vec![
        rate(vec![login, spared]),
        concurrency(concurrency_limit::rule::Limit::Maximum(100)),
        rate(vec![rate_rule("demo/user:80", Some(per_second(100)))]),
        concurrency(concurrency_limit::rule::Limit::Adaptive(Adaptive::default())),
    ];
    let concurrent = |limit| Filter {
        name: "filter".into(),
        rules: vec![Rule {
            name: "demo/user:80".into(),
            matches: Vec::new(),
            limit: Some(limit),
        }],
    };
    // Two limits of one name cannot be in force at once.
    let listener = inbound(vec![at(80, behind_tls(limited(filters.clone())))]);
    assert_eq!(
        refused(&listener),
        format!(
            "Listener {OWN:?}: filter_chains: there are two limits of the name \"demo/user:80\" in filters of the name \"filter\""
        )
    );
    assert_eq!(
        converted(filters[..3].to_vec()),
        Limits {
            rate: vec![
                Filter {
                    name: "filter".into(),
                    rules: vec![
                        Rule {
                            name: "HTTPRoute demo/user/login".into(),
                            matches: vec![Match {
                                path: PathMatch::Prefix("/login".into()),
                                conditions: Some(Arc::new(Conditions {
                                    method: Some(Method::POST),
                                    ..Conditions::default()
                                })),
                            }],
                            limit: Some(RateLimit {
                                rate: Rate::new(number(10), Duration::from_secs(60), number(5))
                                    .unwrap(),
                                by: vec![
                                    Key::Identity,
                                    Key::SourceAddress,
                                    Key::Header("x-tenant".parse().unwrap()),
                                ],
                                maximum_keys: 50.try_into().unwrap(),
                            }),
                        },
                        Rule {
                            name: "HTTPRoute demo/user/rest".into(),
                            matches: Vec::new(),
                            limit: None,
                        },
                    ],
                },
                Filter {
                    name: "filter".into(),
                    rules: vec![Rule {
                        name: "demo/user:80".into(),
                        matches: Vec::new(),
                        limit: Some(RateLimit {
                            rate: Rate::new(number(100), Duration::from_secs(1), number(100))
                                .unwrap(),
                            by: Vec::new(),
                            maximum_keys: 10_000.try_into().unwrap(),
                        }),
                    }],
                },
            ],
            concurrency: vec![concurrent(ConcurrencyLimit::Fixed(number(100)))],
        }
    );
    assert_eq!(
        converted(filters[3..].to_vec()).concurrency,
        [concurrent(ConcurrencyLimit::Adaptive {
            minimum: number(10),
            maximum: number(1_000),
        })]
    );
}

#[test]
fn a_filter_that_is_disabled_limits_nothing() {
    let limit = rate(vec![rate_rule("demo/user:80", Some(per_second(100)))]);
    let mut disabled = http_filter(limit);
    disabled.disabled = true;
    let chain = http(HttpConnectionManager {
        http_filters: vec![disabled, http_filter(any(&Router::default()))],
        ..manager()
    });
    let listener = inbound(vec![at(80, behind_tls(chain))]);
    let Listener::Inbound(inbound) = convert(OWN, &any(&listener), OWN).unwrap() else {
        panic!("not inbound");
    };
    assert!(inbound.port(80).limits.is_empty());
}

#[test]
fn what_is_wrong_with_a_limit_is_named() {
    let with = |limit: rate_limit::Limit| rate(vec![rate_rule("demo/user:80", Some(limit))]);
    let key = |key| {
        with(rate_limit::Limit {
            by: vec![rate_limit::Key { key }],
            ..per_second(1)
        })
    };
    let rule = "rules[0]";
    let cases = [
        (
            with(per_second(0)),
            format!("{rule}.limit.requests: must be > 0, got 0"),
        ),
        (
            with(rate_limit::Limit {
                per: seconds(-1),
                ..per_second(1)
            }),
            format!("{rule}.limit.per: must be > 0, got -1s"),
        ),
        (
            with(rate_limit::Limit {
                per: seconds(315_576_000_000),
                ..per_second(1)
            }),
            format!(
                "{rule}.limit: 1 in 315576000000s with bursts of 1 is out of range: a request must have at least \
                 a nanosecond, and a burst come back within 100 years"
            ),
        ),
        (
            with(rate_limit::Limit {
                maximum_keys: 1_000_001,
                ..per_second(1)
            }),
            format!("{rule}.limit.maximum_keys: must be at most 1000000, got 1000001"),
        ),
        (key(None), format!("{rule}.limit.by[0].key: is required")),
        (
            key(Some(KeyOf::Header("x tenant".to_owned()))),
            format!("{rule}.limit.by[0].header: \"x tenant\" is not the name of a header"),
        ),
        (
            rate(vec![rate_rule("", None)]),
            format!("{rule}.name: must not be empty"),
        ),
        (
            rate(vec![rate_limit::Rule {
                matches: vec![RouteMatch::default()],
                ..rate_rule("a", None)
            }]),
            format!("{rule}.matches[0].path_specifier: is required"),
        ),
        (
            concurrency(concurrency_limit::rule::Limit::Maximum(0)),
            format!("{rule}.maximum: must be > 0, got 0"),
        ),
        (
            concurrency(concurrency_limit::rule::Limit::Adaptive(Adaptive {
                minimum: 10,
                maximum: 5,
            })),
            format!("{rule}.adaptive.maximum: must be at least the minimum of 10, got 5"),
        ),
    ];
    for (filter, expected) in cases {
        let listener = inbound(vec![at(80, behind_tls(limited(vec![filter])))]);
        let field = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config";
        assert_eq!(
            refused(&listener),
            format!("Listener {OWN:?}: {field}.{expected}")
        );
    }
}

#[test]
fn limits_are_the_same_however_a_caller_comes_and_only_where_it_is_called() {
    let limit = |requests| rate(vec![rate_rule("demo/user:80", Some(per_second(requests)))]);
    let listener = inbound(vec![
        at(80, behind_tls(limited(vec![limit(1)]))),
        at(80, plaintext(limited(vec![]))),
    ]);
    assert_eq!(
        refused(&listener),
        format!(
            "Listener {OWN:?}: filter_chains for port 80: other limits behind TLS than in plaintext"
        )
    );
    let listener = inbound(vec![
        at(80, behind_tls(limited(vec![limit(1)]))),
        at(81, behind_tls(limited(vec![limit(2)]))),
    ]);
    assert_eq!(
        refused(&listener),
        format!(
            "Listener {OWN:?}: filter_chains: there are two limits of the name \"demo/user:80\" in filters of the name \"filter\""
        )
    );
    let outbound = outbound_listener(vec![limited(vec![limit(1)])]);
    assert!(refused(&outbound).ends_with(
        "filter_chains[0].filters[0].typed_config.http_filters: limits are supported by this proxy only where it is \
         called"
    ));
}
