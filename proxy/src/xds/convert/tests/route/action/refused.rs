//! Actions with one field that is wrong.

use super::*;

#[test]
fn what_is_wrong_with_forwarding_is_named() {
    let hash = |specifier| RouteAction {
        hash_policy: vec![ProtoHashPolicy {
            policy_specifier: specifier,
            terminal: false,
        }],
        ..action()
    };
    let mirror = |policy| RouteAction {
        request_mirror_policies: vec![policy],
        ..action()
    };
    let host = |host| RouteAction {
        host_rewrite_specifier: Some(host),
        ..action()
    };
    for (action, expected) in [
        (RouteAction::default(), "cluster_specifier: is required"),
        (
            RouteAction {
                cluster_specifier: Some(ClusterSpecifier::ClusterHeader("a".to_owned())),
                ..action()
            },
            "cluster_specifier: must be a cluster or weighted clusters",
        ),
        (
            RouteAction {
                timeout: seconds(-2),
                ..action()
            },
            "timeout: must not be negative, got -2s",
        ),
        (
            weighted(&[]),
            "weighted_clusters.clusters: the sum of all weights must be > 0",
        ),
        (
            weighted(&[("a", 0), ("b", 0)]),
            "weighted_clusters.clusters: the sum of all weights must be > 0",
        ),
        (
            weighted(&[("a", u32::MAX), ("b", 1)]),
            "weighted_clusters.clusters: the sum of all weights is 4294967296, more than 4294967295",
        ),
        (
            weighted(&[("", 1)]),
            "weighted_clusters.clusters[0].name: must not be empty",
        ),
        (
            by_weight(WeightedCluster {
                clusters: vec![ClusterWeight {
                    name: "a".to_owned(),
                    ..ClusterWeight::default()
                }],
                ..WeightedCluster::default()
            }),
            "weighted_clusters.clusters[0].weight: is required",
        ),
        (
            by_weight(WeightedCluster {
                random_value_specifier: Some(RandomValueSpecifier::HeaderName("a".to_owned())),
                ..WeightedCluster::default()
            }),
            "weighted_clusters.header_name: is not supported by this proxy",
        ),
        (
            RouteAction {
                prefix_rewrite: "/a".to_owned(),
                path_rewrite: "/b".to_owned(),
                ..action()
            },
            "only one of prefix_rewrite, path_rewrite and regex_rewrite may be set",
        ),
        (
            RouteAction {
                path_rewrite: "/%REQ(a)%".to_owned(),
                ..action()
            },
            "path_rewrite: commands are not supported by this proxy, got \"/%REQ(a)%\"; \
             write %% for a percent sign",
        ),
        (
            RouteAction {
                path_rewrite: "a".to_owned(),
                ..action()
            },
            "path_rewrite: must start with a slash, got \"a\"",
        ),
        (
            RouteAction {
                regex_rewrite: Some(substitution("a", r"\1")),
                ..action()
            },
            "regex_rewrite.substitution: names group 1, which the expression does not have",
        ),
        (
            RouteAction {
                regex_rewrite: Some(substitution("(", "")),
                ..action()
            },
            "regex_rewrite.pattern.regex: is not a regular expression: unclosed group",
        ),
        (
            host(HostRewriteSpecifier::HostRewriteLiteral("a b".to_owned())),
            "host_rewrite_literal: \"a b\" is not a host",
        ),
        (
            host(HostRewriteSpecifier::AutoHostRewrite(BoolValue {
                value: true,
            })),
            "host_rewrite_specifier: must be a literal",
        ),
        (
            RouteAction {
                append_x_forwarded_host: true,
                ..action()
            },
            "append_x_forwarded_host: is not supported by this proxy",
        ),
        (
            RouteAction {
                cluster_not_found_response_code: 1,
                ..action()
            },
            "cluster_not_found_response_code: must be SERVICE_UNAVAILABLE or INTERNAL_SERVER_ERROR",
        ),
        (
            RouteAction {
                internal_redirect_policy: Some(Default::default()),
                ..action()
            },
            "internal_redirect_policy: is not supported by this proxy",
        ),
        (
            RouteAction {
                max_stream_duration: Some(MaxStreamDuration {
                    max_stream_duration: seconds(1),
                    ..MaxStreamDuration::default()
                }),
                ..action()
            },
            "max_stream_duration.max_stream_duration: is not supported by this proxy",
        ),
        (
            RouteAction {
                upgrade_configs: vec![UpgradeConfig {
                    enabled: Some(BoolValue { value: false }),
                    ..UpgradeConfig::default()
                }],
                ..action()
            },
            "upgrade_configs[0].enabled: is not supported by this proxy",
        ),
        (hash(None), "hash_policy[0].policy_specifier: is required"),
        (
            hash(Some(PolicySpecifier::FilterState(FilterState::default()))),
            "hash_policy[0].filter_state: is not supported by this proxy",
        ),
        (
            hash(Some(PolicySpecifier::ConnectionProperties(
                ConnectionProperties::default(),
            ))),
            "hash_policy[0].connection_properties.source_ip: must be true",
        ),
        (
            hash(Some(PolicySpecifier::Cookie(Cookie {
                name: "a=b".to_owned(),
                ..Cookie::default()
            }))),
            "hash_policy[0].cookie.name: \"a=b\" is not the name of a cookie",
        ),
        (
            mirror(RequestMirrorPolicy::default()),
            "request_mirror_policies[0].cluster: must not be empty",
        ),
        (
            mirror(RequestMirrorPolicy {
                cluster_header: "a".to_owned(),
                ..RequestMirrorPolicy::default()
            }),
            "request_mirror_policies[0].cluster_header: is not supported by this proxy",
        ),
        (
            mirror(RequestMirrorPolicy {
                cluster: "a".to_owned(),
                runtime_fraction: Some(RuntimeFractionalPercent::default()),
                ..RequestMirrorPolicy::default()
            }),
            "request_mirror_policies[0].runtime_fraction.default_value: is required",
        ),
    ] {
        let refused = refused(route(any_path(), action));
        let refused = refused.strip_prefix("route").unwrap();
        assert_eq!(refused.trim_start_matches(['.', ':', ' ']), expected);
    }
}

#[test]
fn what_is_wrong_with_an_answer_is_named() {
    let path = |specifier| {
        redirecting(RedirectAction {
            path_rewrite_specifier: Some(specifier),
            ..RedirectAction::default()
        })
    };
    for (route, expected) in [
        (
            redirecting(RedirectAction {
                host_redirect: "a/b".to_owned(),
                ..RedirectAction::default()
            }),
            "redirect.host_redirect: \"a/b\" is not a host",
        ),
        (
            redirecting(RedirectAction {
                port_redirect: 65_536,
                ..RedirectAction::default()
            }),
            "redirect.port_redirect: must be a port, got 65536",
        ),
        (
            redirecting(RedirectAction {
                response_code: 9,
                ..RedirectAction::default()
            }),
            "redirect.response_code: is unknown",
        ),
        (
            path(PathRewriteSpecifier::PathRedirect("a".to_owned())),
            "redirect.path_redirect: must start with a slash, got \"a\"",
        ),
        (
            redirecting(RedirectAction {
                scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::SchemeRedirect(
                    "a b".to_owned(),
                )),
                ..RedirectAction::default()
            }),
            "redirect.scheme_redirect: \"a b\" is not a scheme",
        ),
        (
            answering(DirectResponseAction::default()),
            "direct_response.status: must be from 200 to 599, got 0",
        ),
        (
            answering(DirectResponseAction {
                status: 200,
                body: Some(DataSource {
                    specifier: Some(Specifier::Filename("/etc/passwd".to_owned())),
                    ..DataSource::default()
                }),
                ..DirectResponseAction::default()
            }),
            "direct_response.body: must be inline",
        ),
        (
            answering(DirectResponseAction {
                status: 200,
                body_format: Some(Default::default()),
                ..DirectResponseAction::default()
            }),
            "direct_response.body_format: is not supported by this proxy",
        ),
    ] {
        assert_eq!(refused(route), expected);
    }
}
