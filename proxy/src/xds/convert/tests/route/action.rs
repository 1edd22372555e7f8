mod refused;

use super::{
    NAME, action, any_path, converted, forward, number, refused, route, rule, seconds, with_hosts,
};
use crate::{
    snapshot::{
        Share,
        pattern::Substitution,
        route::{
            Action, Backend, Backends, Field, Forward, HashCookie, HashPolicy, HashSource,
            HeaderChange, HostRewrite, IssuedCookie, Mirror, MirrorHost, PathRewrite, Redirect,
            Respond,
        },
    },
    xds::convert::{
        route::{IdleTimeout, Rule, convert},
        tests::any,
    },
};
use bytes::Bytes;
use http::{HeaderName, StatusCode};
use std::{mem, sync::Arc, time::Duration};
use weft_xds_proto::envoy::{
    envoy::{
        config::{
            common::mutation_rules::v3::{HeaderMutation, header_mutation},
            core::v3::{DataSource, RuntimeFractionalPercent, data_source::Specifier},
            route::v3::{
                DirectResponseAction, RedirectAction, Route, RouteAction, VirtualHost,
                WeightedCluster,
                redirect_action::{PathRewriteSpecifier, SchemeRewriteSpecifier},
                route::Action as ProtoAction,
                route_action::{
                    ClusterSpecifier, HashPolicy as ProtoHashPolicy, HostRewriteSpecifier,
                    MaxStreamDuration, RequestMirrorPolicy, UpgradeConfig,
                    hash_policy::{
                        ConnectionProperties, Cookie, CookieAttribute, FilterState, Header,
                        PolicySpecifier, QueryParameter,
                    },
                },
                weighted_cluster::{
                    ClusterWeight, RandomValueSpecifier,
                    cluster_weight::HostRewriteSpecifier as WeightHostRewrite,
                },
            },
        },
        r#type::{
            matcher::v3::{RegexMatchAndSubstitute, RegexMatcher},
            v3::FractionalPercent,
        },
    },
    google::protobuf::BoolValue,
};

fn forwarded(action: RouteAction) -> Forward<Arc<str>> {
    match converted(route(any_path(), action)).action {
        Action::Forward(forward) => forward,
        other => panic!("it forwards: {other:?}"),
    }
}

fn weighted(weights: &[(&str, u32)]) -> RouteAction {
    let clusters = weights.iter().map(|(name, weight)| ClusterWeight {
        name: (*name).to_owned(),
        weight: number(*weight),
        ..ClusterWeight::default()
    });
    by_weight(WeightedCluster {
        clusters: clusters.collect(),
        ..WeightedCluster::default()
    })
}

fn by_weight(weighted: WeightedCluster) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::WeightedClusters(weighted)),
        ..action()
    }
}

fn substitution(source: &str, replacement: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(RegexMatcher {
            regex: source.to_owned(),
            ..RegexMatcher::default()
        }),
        substitution: replacement.to_owned(),
    }
}

fn redirecting(redirect: RedirectAction) -> Route {
    Route {
        action: Some(ProtoAction::Redirect(redirect)),
        ..route(any_path(), action())
    }
}

fn answering(answer: DirectResponseAction) -> Route {
    Route {
        action: Some(ProtoAction::DirectResponse(answer)),
        ..route(any_path(), action())
    }
}

#[test]
fn timeouts_are_taken() {
    for (timeout, idle, expected) in [
        (
            3,
            4,
            (Some(Duration::from_secs(3)), Some(Duration::from_secs(4))),
        ),
        (0, 0, (None, None)),
    ] {
        let rule = converted(route(
            any_path(),
            RouteAction {
                timeout: seconds(timeout),
                idle_timeout: seconds(idle),
                ..action()
            },
        ));
        let expected = Rule {
            idle_timeout: IdleTimeout::Of(expected.1),
            action: Action::Forward(Forward {
                timeout: expected.0,
                ..forward()
            }),
            ..super::rule()
        };
        assert_eq!(rule, expected);
    }
}

#[test]
fn clusters_have_their_weights() {
    let backend = |name: &str, weight| Backend {
        weight,
        ..Backend::new(name.into())
    };
    assert_eq!(
        forwarded(weighted(&[("stable", 90), ("canary", 10), ("old", 0)])).backends,
        Backends::new(vec![
            backend("stable", 90),
            backend("canary", 10),
            backend("old", 0)
        ])
        .unwrap()
    );
}

#[test]
fn a_cluster_that_does_not_exist_may_be_an_error() {
    let action = RouteAction {
        cluster_not_found_response_code: 2,
        ..action()
    };
    let expected = Forward {
        absent_is_error: true,
        ..forward()
    };
    assert_eq!(forwarded(action), expected);
}

#[test]
fn a_host_of_a_backend_counts_before_that_of_the_route() {
    let host = |host: &str| HostRewriteSpecifier::HostRewriteLiteral(host.to_owned());
    let own = ClusterWeight {
        name: "b".to_owned(),
        weight: number(1),
        host_rewrite_specifier: Some(WeightHostRewrite::HostRewriteLiteral("own".to_owned())),
        ..ClusterWeight::default()
    };
    let mut action = weighted(&[("a", 1)]);
    if let Some(ClusterSpecifier::WeightedClusters(weighted)) = &mut action.cluster_specifier {
        weighted.clusters.push(own);
    }
    action.host_rewrite_specifier = Some(host("other:80"));
    let backends = forwarded(action).backends;
    let hosts: Vec<_> = backends
        .all()
        .iter()
        .map(|backend| backend.host.clone())
        .collect();
    assert_eq!(
        hosts,
        [HostRewrite::new("other:80"), HostRewrite::new("own")]
    );
}

#[test]
fn paths_are_rewritten_in_three_ways() {
    for (action, expected) in [
        (
            RouteAction {
                prefix_rewrite: "/b".to_owned(),
                ..action()
            },
            PathRewrite::Prefix("/b".into()),
        ),
        (
            RouteAction {
                path_rewrite: "/b%%20".to_owned(),
                ..action()
            },
            PathRewrite::Full("/b%20".into()),
        ),
        (
            RouteAction {
                regex_rewrite: Some(substitution("^/(a)", r"/b/\1")),
                ..action()
            },
            PathRewrite::Regex(Substitution::new("^/(a)", r"/b/\1").unwrap()),
        ),
    ] {
        let expected = Forward {
            path: Some(expected),
            ..forward()
        };
        assert_eq!(forwarded(action), expected);
    }
}

#[test]
fn hash_policies_are_taken() {
    let policy = |specifier| ProtoHashPolicy {
        policy_specifier: Some(specifier),
        terminal: false,
    };
    let cookie = Cookie {
        name: "session".to_owned(),
        ttl: seconds(60),
        path: "/cart".to_owned(),
        attributes: vec![
            CookieAttribute {
                name: "SameSite".to_owned(),
                value: "Lax".to_owned(),
            },
            CookieAttribute {
                name: "Secure".to_owned(),
                value: String::new(),
            },
        ],
    };
    let action = RouteAction {
        hash_policy: vec![
            ProtoHashPolicy {
                terminal: true,
                ..policy(PolicySpecifier::Header(Header {
                    header_name: "X-User".to_owned(),
                    regex_rewrite: Some(substitution("a", "b")),
                }))
            },
            policy(PolicySpecifier::Cookie(cookie)),
            policy(PolicySpecifier::QueryParameter(QueryParameter {
                name: "id".to_owned(),
            })),
            policy(PolicySpecifier::ConnectionProperties(
                ConnectionProperties { source_ip: true },
            )),
        ],
        ..action()
    };
    let expected = [
        (
            HashSource::Header(
                Field::Named(HeaderName::from_static("x-user")),
                Some(Substitution::new("a", "b").unwrap()),
            ),
            true,
        ),
        (
            HashSource::Cookie(HashCookie {
                name: "session".into(),
                issue: Some(IssuedCookie {
                    ttl: Duration::from_secs(60),
                    attributes: "; Path=/cart; SameSite=Lax; Secure".into(),
                }),
            }),
            false,
        ),
        (HashSource::QueryParameter("id".into()), false),
        (HashSource::SourceAddress, false),
    ]
    .map(|(source, terminal)| HashPolicy { source, terminal });
    assert_eq!(*forwarded(action).hash, expected);
}

#[test]
fn mirrors_are_taken() {
    let policy = |cluster: &str| RequestMirrorPolicy {
        cluster: cluster.to_owned(),
        ..RequestMirrorPolicy::default()
    };
    let action = RouteAction {
        request_mirror_policies: vec![
            policy("a"),
            RequestMirrorPolicy {
                disable_shadow_host_suffix_append: true,
                runtime_fraction: Some(RuntimeFractionalPercent {
                    default_value: Some(FractionalPercent {
                        numerator: 10,
                        denominator: 0,
                    }),
                    ..RuntimeFractionalPercent::default()
                }),
                ..policy("b")
            },
            RequestMirrorPolicy {
                host_rewrite_literal: "other".to_owned(),
                request_headers_mutations: vec![HeaderMutation {
                    action: Some(header_mutation::Action::Remove("cookie".to_owned())),
                }],
                ..policy("c")
            },
        ],
        ..action()
    };
    let mirror = |cluster: &str| Mirror {
        cluster: cluster.into(),
        share: Share::ALL,
        host: MirrorHost::Shadow,
        headers: Arc::default(),
    };
    assert_eq!(
        *forwarded(action).mirrors,
        [
            mirror("a"),
            Mirror {
                share: Share::percent(10),
                host: MirrorHost::Same,
                ..mirror("b")
            },
            Mirror {
                host: MirrorHost::Other(HostRewrite::new("other").unwrap()),
                headers: [HeaderChange::Remove(http::header::COOKIE)].into(),
                ..mirror("c")
            },
        ]
    );
}

#[test]
fn the_mirrors_of_the_innermost_level_that_has_any_count() {
    let policy = |cluster: &str| {
        vec![RequestMirrorPolicy {
            cluster: cluster.to_owned(),
            ..RequestMirrorPolicy::default()
        }]
    };
    let own = RouteAction {
        request_mirror_policies: policy("route"),
        ..action()
    };
    let host = |mirrors| VirtualHost {
        routes: vec![route(any_path(), own.clone()), route(any_path(), action())],
        request_mirror_policies: mirrors,
        ..VirtualHost::default()
    };
    let mut config = with_hosts(vec![
        VirtualHost {
            domains: vec!["a".to_owned()],
            ..host(policy("host"))
        },
        VirtualHost {
            domains: vec!["b".to_owned()],
            ..host(Vec::new())
        },
    ]);
    config.request_mirror_policies = policy("table");
    let routes = convert(NAME, &any(&config)).unwrap();
    let mirrors = routes
        .virtual_hosts
        .iter()
        .flat_map(|host| &host.routes)
        .map(|rule| {
            let clusters: Vec<_> = rule.action.clusters().skip(1).map(|name| &**name).collect();
            clusters.concat()
        });
    assert_eq!(
        mirrors.collect::<Vec<_>>(),
        ["route", "host", "route", "table"]
    );
}

#[test]
fn what_is_wrong_with_inherited_mirrors_is_said_of_who_has_them() {
    let mut config = with_hosts(vec![VirtualHost {
        domains: vec!["*".to_owned()],
        routes: vec![route(any_path(), action())],
        request_mirror_policies: vec![RequestMirrorPolicy::default()],
        ..VirtualHost::default()
    }]);
    let refused = convert(NAME, &any(&config)).unwrap_err().to_string();
    assert!(
        refused.contains("virtual_hosts[0].request_mirror_policies[0].cluster: "),
        "{refused}"
    );
    config.request_mirror_policies =
        mem::take(&mut config.virtual_hosts[0].request_mirror_policies);
    let refused = convert(NAME, &any(&config)).unwrap_err().to_string();
    assert!(
        refused.contains(": request_mirror_policies[0].cluster: "),
        "{refused}"
    );
}

#[test]
fn redirects_are_taken() {
    let nowhere = Redirect {
        scheme: None,
        host: None,
        port: None,
        path: None,
        status: StatusCode::MOVED_PERMANENTLY,
        strip_query: false,
        headers: Arc::default(),
    };
    for (redirect, expected) in [
        (RedirectAction::default(), nowhere.clone()),
        (
            RedirectAction {
                scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::HttpsRedirect(true)),
                host_redirect: "other".to_owned(),
                port_redirect: 8443,
                path_rewrite_specifier: Some(PathRewriteSpecifier::PathRedirect(
                    "/new?a=1".to_owned(),
                )),
                response_code: 4,
                strip_query: true,
            },
            Redirect {
                scheme: Some("https".into()),
                host: Some("other".into()),
                port: 8443.try_into().ok(),
                path: Some(PathRewrite::Full("/new?a=1".into())),
                status: StatusCode::PERMANENT_REDIRECT,
                strip_query: true,
                headers: Arc::default(),
            },
        ),
        (
            RedirectAction {
                scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::SchemeRedirect(
                    "HTTP".to_owned(),
                )),
                path_rewrite_specifier: Some(PathRewriteSpecifier::PrefixRewrite(
                    "/new".to_owned(),
                )),
                response_code: 1,
                ..RedirectAction::default()
            },
            Redirect {
                scheme: Some("http".into()),
                path: Some(PathRewrite::Prefix("/new".into())),
                status: StatusCode::FOUND,
                ..nowhere
            },
        ),
    ] {
        let expected = Rule {
            action: Action::Redirect(Arc::new(expected)),
            ..rule()
        };
        assert_eq!(converted(redirecting(redirect)), expected);
    }
}

#[test]
fn direct_responses_are_taken() {
    let body = |specifier| {
        Some(DataSource {
            specifier: Some(specifier),
            ..DataSource::default()
        })
    };
    for (body, expected) in [
        (None, Bytes::new()),
        (
            body(Specifier::InlineString("closed".to_owned())),
            "closed".into(),
        ),
        (
            body(Specifier::InlineBytes(b"closed".to_vec())),
            "closed".into(),
        ),
    ] {
        let answer = DirectResponseAction {
            status: 503,
            body,
            ..DirectResponseAction::default()
        };
        let expected = Respond {
            status: StatusCode::SERVICE_UNAVAILABLE,
            body: expected,
            headers: Arc::default(),
        };
        let expected = Rule {
            action: Action::Respond(Arc::new(expected)),
            ..rule()
        };
        assert_eq!(converted(answering(answer)), expected);
    }
}

#[test]
fn the_longest_that_a_grpc_call_may_take_is_kept_to() {
    let limits = MaxStreamDuration {
        grpc_timeout_header_max: seconds(3),
        ..MaxStreamDuration::default()
    };
    let action = RouteAction {
        max_stream_duration: Some(limits),
        ..action()
    };
    let expected = Forward {
        grpc_timeout_max: Some(Duration::from_secs(3)),
        ..forward()
    };
    assert_eq!(forwarded(action), expected);
}

#[test]
fn limits_that_change_nothing_are_taken() {
    let zero = MaxStreamDuration {
        grpc_timeout_header_max: seconds(0),
        ..MaxStreamDuration::default()
    };
    let websocket = UpgradeConfig {
        upgrade_type: "websocket".to_owned(),
        ..UpgradeConfig::default()
    };
    let action = RouteAction {
        max_stream_duration: Some(zero),
        upgrade_configs: vec![websocket],
        ..action()
    };
    assert_eq!(forwarded(action), forward());
}
