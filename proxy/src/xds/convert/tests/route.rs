use super::{any, seconds};
use crate::{
    snapshot::route::{Domain, PathMatch},
    xds::convert::route::{Host, IdleTimeout, Routes, Rule, convert},
};
use std::time::Duration;
use weft_xds_proto::envoy::{
    envoy::{
        config::route::v3::{
            FilterConfig, HeaderMatcher, RedirectAction, Route, RouteAction, RouteConfiguration,
            RouteMatch, VirtualHost, WeightedCluster, route::Action,
            route_action::ClusterSpecifier, route_match::PathSpecifier, weighted_cluster,
        },
        extensions::filters::http::rbac::v3::RbacPerRoute,
    },
    google::protobuf::BoolValue,
};

const NAME: &str = "user.demo.svc.cluster.local:80";

fn action() -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster("user".to_owned())),
        ..RouteAction::default()
    }
}

fn matching(path: PathSpecifier) -> RouteMatch {
    RouteMatch {
        path_specifier: Some(path),
        ..RouteMatch::default()
    }
}

fn route(rule: RouteMatch, action: RouteAction) -> Route {
    Route {
        r#match: Some(rule),
        action: Some(Action::Route(action)),
        ..Route::default()
    }
}

fn any_path() -> RouteMatch {
    matching(PathSpecifier::Prefix("/".to_owned()))
}

fn with_routes(routes: Vec<Route>) -> RouteConfiguration {
    with_hosts(vec![VirtualHost {
        domains: vec!["*".to_owned()],
        routes,
        ..VirtualHost::default()
    }])
}

fn with_hosts(virtual_hosts: Vec<VirtualHost>) -> RouteConfiguration {
    RouteConfiguration {
        name: NAME.to_owned(),
        virtual_hosts,
        ..RouteConfiguration::default()
    }
}

fn rule() -> Rule {
    Rule {
        name: "default".into(),
        path: PathMatch::Prefix("/".into()),
        cluster: "user".into(),
        timeout: Some(Duration::from_secs(15)),
        idle_timeout: IdleTimeout::OfListener,
    }
}

#[test]
fn absent_fields_have_the_documented_defaults() {
    let config = with_routes(vec![route(any_path(), action())]);
    assert_eq!(
        *convert(NAME, &any(&config)).unwrap(),
        Routes {
            name: NAME.into(),
            virtual_hosts: vec![Host {
                domains: vec![Domain::Any],
                routes: vec![rule()],
            }],
        }
    );
}

#[test]
fn every_field_is_taken() {
    let config = with_hosts(vec![VirtualHost {
        domains: ["User.Demo", "*.demo.svc", "demo.*"]
            .map(str::to_owned)
            .into(),
        routes: vec![
            Route {
                name: "exact".to_owned(),
                ..route(
                    matching(PathSpecifier::Path("/a".to_owned())),
                    RouteAction {
                        timeout: seconds(0),
                        idle_timeout: seconds(0),
                        ..action()
                    },
                )
            },
            route(
                matching(PathSpecifier::PathSeparatedPrefix("/b".to_owned())),
                RouteAction {
                    timeout: seconds(3),
                    idle_timeout: seconds(4),
                    cluster_specifier: Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
                        clusters: vec![weighted_cluster::ClusterWeight {
                            name: "only".to_owned(),
                            ..Default::default()
                        }],
                        ..WeightedCluster::default()
                    })),
                    ..action()
                },
            ),
        ],
        ..VirtualHost::default()
    }]);
    assert_eq!(
        *convert(NAME, &any(&config)).unwrap(),
        Routes {
            name: NAME.into(),
            virtual_hosts: vec![Host {
                domains: vec![
                    Domain::Exact("user.demo".into()),
                    Domain::Suffix(".demo.svc".into()),
                    Domain::Prefix("demo.".into()),
                ],
                routes: vec![
                    Rule {
                        name: "exact".into(),
                        path: PathMatch::Exact("/a".into()),
                        timeout: None,
                        idle_timeout: IdleTimeout::Of(None),
                        ..rule()
                    },
                    Rule {
                        path: PathMatch::SegmentPrefix("/b".into()),
                        cluster: "only".into(),
                        timeout: Some(Duration::from_secs(3)),
                        idle_timeout: IdleTimeout::Of(Some(Duration::from_secs(4))),
                        ..rule()
                    },
                ],
            }],
        }
    );
}

#[test]
fn what_is_wrong_with_a_route_is_named() {
    let cases = [
        (
            Route {
                r#match: None,
                ..route(any_path(), action())
            },
            "match: is required",
        ),
        (
            route(RouteMatch::default(), action()),
            "match.path_specifier: is required",
        ),
        (
            route(
                RouteMatch {
                    headers: vec![HeaderMatcher::default()],
                    ..any_path()
                },
                action(),
            ),
            "match.headers: is not supported by this proxy",
        ),
        (
            route(
                RouteMatch {
                    case_sensitive: Some(BoolValue { value: false }),
                    ..any_path()
                },
                action(),
            ),
            "match.case_sensitive: is not supported by this proxy",
        ),
        (
            route(
                matching(PathSpecifier::PathSeparatedPrefix("b/".to_owned())),
                action(),
            ),
            "match.path_separated_prefix: must start with a slash and not end with one, got \"b/\"",
        ),
        (
            route(
                matching(PathSpecifier::SafeRegex(Default::default())),
                action(),
            ),
            "match.safe_regex: is not supported by this proxy",
        ),
        (
            Route {
                action: Some(Action::Redirect(RedirectAction::default())),
                ..route(any_path(), action())
            },
            "redirect: is not supported by this proxy",
        ),
        (
            route(
                any_path(),
                RouteAction {
                    timeout: seconds(-2),
                    ..action()
                },
            ),
            "route.timeout: must not be negative, got -2s",
        ),
        (
            route(any_path(), RouteAction::default()),
            "route.cluster_specifier: is required",
        ),
        (
            route(
                any_path(),
                RouteAction {
                    prefix_rewrite: "/".to_owned(),
                    ..action()
                },
            ),
            "route.prefix_rewrite: is not supported by this proxy",
        ),
        (
            Route {
                typed_per_filter_config: [("rbac".to_owned(), any(&RbacPerRoute::default()))]
                    .into(),
                ..route(any_path(), action())
            },
            "typed_per_filter_config[\"rbac\"]: the filter is not supported by this proxy",
        ),
    ];
    for (route, expected) in cases {
        let error = convert(NAME, &any(&with_routes(vec![route]))).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("RouteConfiguration {NAME:?}: virtual_hosts[0].routes[0].{expected}")
        );
    }
}

#[test]
fn settings_of_an_optional_filter_are_ignored() {
    let optional = FilterConfig {
        is_optional: true,
        ..FilterConfig::default()
    };
    let route = Route {
        typed_per_filter_config: [("rbac".to_owned(), any(&optional))].into(),
        ..route(any_path(), action())
    };
    convert(NAME, &any(&with_routes(vec![route]))).unwrap();
}

#[test]
fn what_is_wrong_with_domains_is_named() {
    let hosts = |domains: &[&[&str]]| {
        with_hosts(
            domains
                .iter()
                .map(|domains| VirtualHost {
                    domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
                    ..VirtualHost::default()
                })
                .collect(),
        )
    };
    for (config, expected) in [
        (hosts(&[&[]]), "virtual_hosts[0].domains: must not be empty"),
        (
            hosts(&[&["a.*.b"]]),
            "virtual_hosts[0].domains[0]: \"a.*.b\" has a star elsewhere than at one end",
        ),
        (
            hosts(&[&["user"], &["USER"]]),
            "virtual_hosts[1].domains[0]: \"USER\" is already in use",
        ),
        (
            hosts(&[&["a", ""]]),
            "virtual_hosts[0].domains[1]: must not be empty",
        ),
    ] {
        let error = convert(NAME, &any(&config)).unwrap_err().to_string();
        assert_eq!(error, format!("RouteConfiguration {NAME:?}: {expected}"));
    }
}
