//! RouteConfigurations: what is around the routes. What is in them has a file for each part.

mod action;
mod fault;
mod headers;
mod matches;

use super::{any, number, seconds};
use crate::{
    snapshot::route::{Action, Domain, Forward, PathMatch},
    xds::convert::route::{Host, IdleTimeout, Routes, Rule, convert},
};
use std::sync::Arc;
use weft_xds_proto::envoy::envoy::{
    config::route::v3::{
        FilterConfig, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
        route::Action as ProtoAction, route_action::ClusterSpecifier, route_match::PathSpecifier,
    },
    extensions::filters::http::rbac::v3::RbacPerRoute,
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
        action: Some(ProtoAction::Route(action)),
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

fn forward() -> Forward<Arc<str>> {
    Forward::to("user".into())
}

fn rule() -> Rule {
    Rule {
        name: "default".into(),
        path: PathMatch::Prefix("/".into()),
        conditions: None,
        fault: None,
        idle_timeout: IdleTimeout::OfListener,
        action: Action::Forward(forward()),
    }
}

/// The one rule that a route becomes.
fn converted(route: Route) -> Rule {
    let routes = convert(NAME, &any(&with_routes(vec![route]))).unwrap();
    routes.virtual_hosts[0].routes[0].clone()
}

/// Why a route is refused, from the field on.
fn refused(route: Route) -> String {
    let error = convert(NAME, &any(&with_routes(vec![route]))).unwrap_err();
    let error = error.to_string();
    let start = format!("RouteConfiguration {NAME:?}: virtual_hosts[0].routes[0].");
    error.strip_prefix(&start).unwrap_or(&error).to_owned()
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
fn hosts_and_names_are_taken() {
    let config = with_hosts(vec![VirtualHost {
        domains: ["User.Demo", "*.demo.svc", "demo.*"]
            .map(str::to_owned)
            .into(),
        routes: vec![Route {
            name: "all".to_owned(),
            ..route(any_path(), action())
        }],
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
                routes: vec![Rule {
                    name: "all".into(),
                    ..rule()
                }],
            }],
        }
    );
}

#[test]
fn a_route_must_say_what_it_is_for_and_what_to_do() {
    let matchless = Route {
        r#match: None,
        ..route(any_path(), action())
    };
    assert_eq!(refused(matchless), "match: is required");
    let idle = Route {
        action: None,
        ..route(any_path(), action())
    };
    assert_eq!(refused(idle), "action: is required");
    for (action, expected) in [
        (
            ProtoAction::FilterAction(Default::default()),
            "filter_action: is not supported by this proxy",
        ),
        (
            ProtoAction::NonForwardingAction(Default::default()),
            "non_forwarding_action: is not supported by this proxy",
        ),
    ] {
        let other = Route {
            action: Some(action),
            ..route(any_path(), self::action())
        };
        assert_eq!(refused(other), expected);
    }
}

#[test]
fn what_is_not_honoured_of_the_whole_is_refused() {
    let whole = || with_routes(Vec::new());
    for (config, field) in [
        (
            RouteConfiguration {
                vhost_header: "x-host".to_owned(),
                ..whole()
            },
            "vhost_header",
        ),
        (
            RouteConfiguration {
                ignore_port_in_host_matching: true,
                ..whole()
            },
            "ignore_port_in_host_matching",
        ),
        (
            RouteConfiguration {
                ignore_path_parameters_in_path_matching: true,
                ..whole()
            },
            "ignore_path_parameters_in_path_matching",
        ),
        (
            RouteConfiguration {
                vhds: Some(Default::default()),
                ..whole()
            },
            "vhds",
        ),
        (
            with_hosts(vec![VirtualHost {
                domains: vec!["*".to_owned()],
                matcher: Some(Default::default()),
                ..VirtualHost::default()
            }]),
            "virtual_hosts[0].matcher",
        ),
        (
            with_hosts(vec![VirtualHost {
                domains: vec!["*".to_owned()],
                require_tls: 1,
                ..VirtualHost::default()
            }]),
            "virtual_hosts[0].require_tls",
        ),
    ] {
        let error = convert(NAME, &any(&config)).unwrap_err();
        assert_eq!(
            (error.field.as_str(), error.reason.as_str()),
            (field, "is not supported by this proxy")
        );
    }
}

#[test]
fn settings_of_an_optional_filter_are_ignored() {
    let optional = FilterConfig {
        is_optional: true,
        ..FilterConfig::default()
    };
    let with = |config| Route {
        typed_per_filter_config: [("rbac".to_owned(), config)].into(),
        ..route(any_path(), action())
    };
    assert_eq!(converted(with(any(&optional))), rule());
    assert_eq!(
        refused(with(any(&RbacPerRoute::default()))),
        "typed_per_filter_config[\"rbac\"]: the filter is not supported by this proxy"
    );
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
