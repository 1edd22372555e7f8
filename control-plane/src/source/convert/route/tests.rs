use crate::{
    source::convert::{Invalid, Verdict, object},
    world::{
        Object, ObjectKey,
        policy::{Mirror, ServiceRef, TimeLimit},
        quantity::{Created, Share},
        route::*,
    },
};
use std::{sync::Arc, time::Duration};

fn verdict(kind: &str, spec: &str) -> Verdict {
    let version = if kind == "ReferenceGrant" {
        "v1beta1"
    } else {
        "v1"
    };
    let yaml = format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: {kind}\nmetadata: {{name: r, namespace: demo}}\nspec:\n  {}\n",
        spec.replace('\n', "\n  ")
    );
    object(serde_saphyr::from_str(&yaml).unwrap(), "cluster.local").verdict
}

const PARENT: &str = "parentRefs: [{group: '', kind: Service, name: user}]\n";

fn route(kind: &str, spec: &str) -> Route {
    match verdict(kind, spec) {
        Verdict::Accepted(Object::Route(route)) => (*route).clone(),
        other => panic!("{other:?}"),
    }
}

fn refusal(kind: &str, spec: &str) -> (String, String) {
    match verdict(kind, spec) {
        Verdict::Refused {
            invalid: Invalid { field, reason },
            instead: None,
        } => (field, reason),
        other => panic!("{spec}: {other:?}"),
    }
}

fn service(namespace: &str, name: &str, port: u16) -> ServiceRef {
    ServiceRef {
        service: ObjectKey::new(namespace, name),
        port: port.try_into().unwrap(),
    }
}

fn exact(name: &str, value: &str) -> ValueMatch {
    ValueMatch {
        name: name.into(),
        value: TextMatch::Exact(value.into()),
    }
}

fn pair(name: &str, value: &str) -> (Arc<str>, Arc<str>) {
    (name.into(), value.into())
}

#[test]
fn every_field_of_an_http_route_is_read() {
    let route = route(
        "HTTPRoute",
        r#"parentRefs:
- {kind: Gateway, name: public}
- {group: "", kind: Service, name: user, port: 80}
- {kind: Service, name: user, namespace: other, sectionName: http}
hostnames: [user.example.com, "*.example.org"]
rules:
- name: canary
  matches:
  - path: {type: Exact, value: /exact}
    headers: [{name: X-Canary, value: "1"}, {name: agent, type: RegularExpression, value: "curl/.*"}]
    queryParams: [{name: Version, value: "2"}]
    method: POST
  - path: {value: /prefix/}
  - path: {type: RegularExpression, value: "/users/[0-9]+"}
  filters:
  - type: RequestHeaderModifier
    requestHeaderModifier: {set: [{name: A, value: b}], add: [{name: C, value: d}], remove: [E]}
  - type: ResponseHeaderModifier
    responseHeaderModifier: {remove: [Server]}
  - type: URLRewrite
    urlRewrite: {hostname: inner.example.com, path: {type: ReplaceFullPath, replaceFullPath: /new}}
  - type: RequestMirror
    requestMirror: {backendRef: {name: shadow, port: 80}, percent: 10}
  - type: RequestMirror
    requestMirror: {backendRef: {name: shadow, namespace: lab, port: 81}, fraction: {numerator: 1, denominator: 1000}}
  backendRefs:
  - {name: user-v1, port: 80, weight: 9}
  - {group: "", kind: Service, name: user-v2, namespace: lab, port: 81}
  timeouts: {request: 10s, backendRequest: 2s}
  retry: {codes: [500, 503], attempts: 2, backoff: 100ms}
- filters:
  - type: RequestRedirect
    requestRedirect: {scheme: https, hostname: a.example.com, port: 8443, statusCode: 301, path: {type: ReplacePrefixMatch, replacePrefixMatch: ""}}
"#,
    );
    let parent = |position, namespace: &str, port, section: Option<&str>| Parent {
        position,
        service: ObjectKey::new(namespace, "user"),
        port,
        section: section.map(Into::into),
    };
    let hostname = |name: &str, wildcard| Hostname {
        name: name.into(),
        wildcard,
    };
    let simple = |path| Match {
        path,
        ..Match::everything()
    };
    let canary = Rule {
        name: Some("canary".into()),
        matches: vec![
            Match {
                path: PathMatch::Exact("/exact".into()),
                headers: vec![
                    exact("x-canary", "1"),
                    ValueMatch {
                        name: "agent".into(),
                        value: TextMatch::Regex("curl/.*".into()),
                    },
                ],
                query: vec![exact("Version", "2")],
                method: Some("POST".into()),
            },
            simple(PathMatch::Prefix("/prefix".into())),
            simple(PathMatch::Regex("/users/[0-9]+".into())),
        ],
        filters: vec![
            Filter::RequestHeaders(HeaderChanges {
                set: vec![pair("a", "b")],
                add: vec![pair("c", "d")],
                remove: vec!["e".into()],
            }),
            Filter::ResponseHeaders(HeaderChanges {
                remove: vec!["server".into()],
                ..HeaderChanges::default()
            }),
            Filter::Rewrite(Rewrite {
                hostname: Some("inner.example.com".into()),
                path: Some(PathChange::Full("/new".into())),
            }),
            Filter::Mirror(Mirror {
                from: "demo".into(),
                backend: service("demo", "shadow", 80),
                share: Share::percent(10),
            }),
            Filter::Mirror(Mirror {
                from: "demo".into(),
                backend: service("lab", "shadow", 81),
                share: Share::from_millionths(1000),
            }),
        ],
        backends: vec![
            Backend {
                service: service("demo", "user-v1", 80),
                weight: 9,
            },
            Backend {
                service: service("lab", "user-v2", 81),
                weight: 1,
            },
        ],
        request_timeout: Some(TimeLimit::After(Duration::from_secs(10))),
        backend_request_timeout: Some(TimeLimit::After(Duration::from_secs(2))),
        retry: Some(RuleRetry {
            statuses: [500, 503].into(),
            attempts: 3.try_into().ok(),
            backoff: Some(Duration::from_millis(100)),
        }),
    };
    let redirect = Rule {
        name: None,
        matches: vec![Match::everything()],
        filters: vec![Filter::Redirect(Redirect {
            scheme: Some("https".into()),
            hostname: Some("a.example.com".into()),
            path: Some(PathChange::Prefix("".into())),
            port: Some(8443),
            status: 301,
        })],
        backends: vec![],
        request_timeout: None,
        backend_request_timeout: None,
        retry: None,
    };
    assert_eq!(
        route,
        Route {
            reference: RouteRef {
                kind: RouteKind::Http,
                key: ObjectKey::new("demo", "r"),
            },
            created: Created::UNKNOWN,
            parents: vec![
                parent(1, "demo", Some(80), None),
                parent(2, "other", None, Some("http")),
            ],
            hostnames: [
                hostname("user.example.com", false),
                hostname("example.org", true)
            ]
            .into(),
            rules: vec![canary.into(), redirect.into()],
        }
    );
}

#[test]
fn a_method_of_grpc_is_a_path() {
    let path = |method: &str| {
        let spec = format!(
            "{PARENT}rules: [{{matches: [{{method: {method}}}], backendRefs: [{{name: a, port: 1}}]}}]"
        );
        route("GRPCRoute", &spec).rules[0].matches[0].path.clone()
    };
    for (method, expected) in [
        (
            "{service: demo.Users, method: Get}",
            PathMatch::Exact("/demo.Users/Get".into()),
        ),
        (
            "{service: demo.Users}",
            PathMatch::Prefix("/demo.Users".into()),
        ),
        ("{method: Get}", PathMatch::Regex("/[^/]+/Get".into())),
        (
            "{type: RegularExpression, service: 'demo[.].+', method: Get|List}",
            PathMatch::Regex("/(?:demo[.].+)/(?:Get|List)".into()),
        ),
        (
            "{type: RegularExpression, method: Get.*}",
            PathMatch::Regex("/[^/]+/(?:Get.*)".into()),
        ),
    ] {
        assert_eq!(path(method), expected, "{method}");
    }
}

#[test]
fn a_route_without_a_service_among_its_parents_is_somebody_elses() {
    let spec = "parentRefs: [{name: gateway}]\nrules: [{filters: [{type: Unheard}]}]";
    assert_eq!(verdict("HTTPRoute", spec), Verdict::Unused);
}

#[test]
fn a_grant_is_for_kinds_whose_references_are_followed() {
    let spec = "from:
- {group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: demo}
- {group: weft.dev, kind: TrafficPolicy, namespace: lab}
- {group: gateway.networking.k8s.io, kind: TLSRoute, namespace: demo}
to:
- {group: '', kind: Service, name: user}
- {group: '', kind: Secret}";
    let from = |kind, namespace: &str| GrantFrom {
        kind,
        namespace: namespace.into(),
    };
    assert_eq!(
        verdict("ReferenceGrant", spec),
        Verdict::Accepted(Object::ReferenceGrant(Arc::new(ReferenceGrant {
            key: ObjectKey::new("demo", "r"),
            from: [
                from(Referrer::Route(RouteKind::Http), "demo"),
                from(Referrer::TrafficPolicy, "lab"),
            ]
            .into(),
            to: [Some("user".into())].into(),
        })))
    );
    assert_eq!(
        refusal(
            "ReferenceGrant",
            "from: []\nto: [{group: '', kind: Service}]"
        )
        .0,
        "spec.from"
    );
}

#[test]
fn what_is_wrong_with_a_rule_is_refused_by_field_with_the_way_out() {
    let backend = "backendRefs: [{name: a, port: 1}]";
    for (rule, field, reason) in [
        ("{}", "backendRefs", "is empty"),
        (
            "{backendRefs: [{name: a, port: 1, weight: 0}, {name: b, port: 1, weight: 0}]}",
            "backendRefs",
            "have a weight of 0 all",
        ),
        (
            "{backendRefs: [{name: a, port: 1, weight: -1}]}",
            "backendRefs[0].weight",
            "write 0 to 1000000",
        ),
        (
            "{backendRefs: [{name: a}]}",
            "backendRefs[0].port",
            "is missing",
        ),
        (
            "{backendRefs: [{name: a, port: 70000}]}",
            "backendRefs[0].port",
            "70000 is not a port",
        ),
        (
            "{backendRefs: [{name: a_b, port: 1}]}",
            "backendRefs[0].name",
            "RFC 1123",
        ),
        (
            "{backendRefs: [{kind: Bucket, name: a, port: 1}]}",
            "backendRefs[0].kind",
            "write a Service",
        ),
        (
            "{backendRefs: [{name: a, port: 1, filters: [{type: RequestMirror}]}]}",
            "backendRefs[0].filters",
            "put them in the rule",
        ),
        (
            "{matches: [{path: {value: users}}]}",
            "matches[0].path.value",
            "begins with a slash",
        ),
        (
            "{matches: [{path: {value: /a//b}}]}",
            "matches[0].path.value",
            "has \"//\" in it",
        ),
        (
            "{matches: [{path: {value: /a%2fb}}]}",
            "matches[0].path.value",
            "has \"%2f\" in it",
        ),
        (
            "{matches: [{path: {value: /a/..}}]}",
            "matches[0].path.value",
            "ends with \"/..\"",
        ),
        (
            "{matches: [{path: {value: '/a b'}}]}",
            "matches[0].path.value",
            "percent-encoded",
        ),
        (
            "{matches: [{path: {type: Glob, value: /a}}]}",
            "matches[0].path.type",
            "write Exact, PathPrefix or RegularExpression",
        ),
        (
            "{matches: [{path: {type: RegularExpression, value: '/a('}}]}",
            "matches[0].path.value",
            "unclosed group",
        ),
        (
            "{matches: [{headers: [{name: a, type: RegularExpression, value: '[z-a]'}]}]}",
            "matches[0].headers[0].value",
            "not a regular expression",
        ),
        (
            "{matches: [{headers: [{name: a, type: RegularExpression, value: '(a{1000}){1000}'}]}]}",
            "matches[0].headers[0].value",
            "is too large",
        ),
        (
            "{matches: [{headers: [{name: 'a b', value: c}]}]}",
            "matches[0].headers[0].name",
            "not the name of a header",
        ),
        (
            "{matches: [{headers: [{name: A, value: b}, {name: a, value: c}]}]}",
            "matches[0].headers[1].name",
            "matched twice",
        ),
        (
            "{matches: [{queryParams: [{name: '', value: b}]}]}",
            "matches[0].queryParams[0].name",
            "is empty",
        ),
        (
            "{matches: [{method: FETCH}]}",
            "matches[0].method",
            "\"FETCH\" is not a method",
        ),
        (
            "{filters: [{type: Unheard}]}",
            "filters[0].type",
            "\"Unheard\" is not a filter that Weft has",
        ),
        (
            "{filters: [{type: ExtensionRef, extensionRef: {group: g, kind: k, name: n}}]}",
            "filters[0].type",
            "\"ExtensionRef\" is not a filter that Weft has",
        ),
        (
            "{filters: [{type: CORS, cors: {}}]}",
            "filters[0].type",
            "\"CORS\" is not a filter that Weft has",
        ),
        (
            "{filters: [{type: RequestMirror}]}",
            "filters[0].requestMirror",
            "is missing",
        ),
        (
            "{filters: [{type: RequestMirror, urlRewrite: {}}]}",
            "filters[0].urlRewrite",
            "is not of type RequestMirror",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 101}}]}",
            "filters[0].requestMirror.percent",
            "write 0 to 100",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, percent: 1, fraction: {numerator: 1}}}]}",
            "filters[0].requestMirror.fraction",
            "remove one of them",
        ),
        (
            "{filters: [{type: RequestMirror, requestMirror: {backendRef: {name: a, port: 1}, fraction: {numerator: 2, denominator: 1}}}]}",
            "filters[0].requestMirror.fraction",
            "is no share",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {}}]}",
            "filters[0].requestHeaderModifier",
            "changes nothing",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [A]}}]}",
            "filters[0].requestHeaderModifier.remove[0]",
            "changed twice",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: b}]}}]}",
            "filters[0].requestHeaderModifier.set[0].name",
            "URLRewrite with hostname",
        ),
        (
            "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: \"b\\nc\"}]}}]}",
            "filters[0].requestHeaderModifier.set[0].value",
            "leave out line breaks",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {hostname: a}}, {type: URLRewrite, urlRewrite: {hostname: a}}]}",
            "filters[1]",
            "stands in the rule before",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {}}]}",
            "filters[0].urlRewrite",
            "changes nothing",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {hostname: 10.0.0.1}}]}",
            "filters[0].urlRewrite.hostname",
            "is an address",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]}",
            "filters[0].urlRewrite.path.replaceFullPath",
            "is missing",
        ),
        (
            "{filters: [{type: URLRewrite, urlRewrite: {path: {type: Replace}}}]}",
            "filters[0].urlRewrite.path.type",
            "write ReplaceFullPath or ReplacePrefixMatch",
        ),
        (
            "{matches: [{path: {type: Exact, value: /a}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}]}",
            "filters[0].urlRewrite.path.replacePrefixMatch",
            "needs a prefix",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 200}}]}",
            "filters[0].requestRedirect.statusCode",
            "write 301, 302",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {scheme: ftp}}]}",
            "filters[0].requestRedirect.scheme",
            "write http or https",
        ),
        (
            "{filters: [{type: RequestRedirect, requestRedirect: {}}]}",
            "backendRefs",
            "stands beside RequestRedirect",
        ),
        (
            "{timeouts: {request: 1s, backendRequest: 2s}}",
            "timeouts.backendRequest",
            "no more than timeouts.request",
        ),
        (
            "{timeouts: {request: 1}}",
            "timeouts.request",
            "expected a string",
        ),
        (
            "{retry: {codes: [200]}}",
            "retry.codes[0]",
            "write 400 to 599",
        ),
        ("{retry: {attempts: -1}}", "retry.attempts", "write 0 to 99"),
        ("{retry: {backoff: 0s}}", "retry.backoff", "is 0s"),
        (
            "{sessionPersistence: {}}",
            "sessionPersistence",
            "is not supported; write a TrafficPolicy",
        ),
        ("{name: A_b}", "name", "RFC 1123"),
        ("{macthes: []}", "macthes", "unknown field"),
    ] {
        let rule = match rule.contains("backendRefs") || rule == "{}" {
            true => rule.to_owned(),
            false => rule.replacen('{', &format!("{{{backend}, "), 1),
        };
        let (found_field, found_reason) = refusal("HTTPRoute", &format!("{PARENT}rules: [{rule}]"));
        assert_eq!(
            found_field,
            format!("spec.rules[0].{field}"),
            "{rule}: {found_reason}"
        );
        assert!(found_reason.contains(reason), "{rule}: {found_reason}");
    }
}

#[test]
fn what_is_wrong_with_the_rest_of_a_route_is_refused_by_field() {
    let rules = "rules: [{name: a, backendRefs: [{name: a, port: 1}]}, {name: a, backendRefs: [{name: a, port: 1}]}]";
    let rule = "rules: [{backendRefs: [{name: a, port: 1}]}]";
    for (kind, spec, field) in [
        (
            "HTTPRoute",
            format!("{PARENT}{rules}"),
            "spec.rules[1].name",
        ),
        (
            "HTTPRoute",
            format!("{PARENT}hostnames: [10.0.0.1]\n{rule}"),
            "spec.hostnames[0]",
        ),
        (
            "HTTPRoute",
            format!("{PARENT}hostnames: ['*.*.a']\n{rule}"),
            "spec.hostnames[0]",
        ),
        (
            "HTTPRoute",
            format!("{PARENT}hostnames: [A.example]\n{rule}"),
            "spec.hostnames[0]",
        ),
        (
            "HTTPRoute",
            "parentRefs: [{kind: Service, name: user, port: 0}]".to_owned(),
            "spec.parentRefs[0].port",
        ),
        (
            "HTTPRoute",
            "parentRefs: [{kind: Service, name: a.b}]".to_owned(),
            "spec.parentRefs[0].name",
        ),
        (
            "HTTPRoute",
            "parentRefs: [{kind: Service, name: a}, {kind: Service, name: a}]".to_owned(),
            "spec.parentRefs[1]",
        ),
        (
            "GRPCRoute",
            format!(
                "{PARENT}rules: [{{matches: [{{method: {{}}}}], backendRefs: [{{name: a, port: 1}}]}}]"
            ),
            "spec.rules[0].matches[0].method",
        ),
        (
            "GRPCRoute",
            format!(
                "{PARENT}rules: [{{matches: [{{method: {{service: a/b}}}}], backendRefs: [{{name: a, port: 1}}]}}]"
            ),
            "spec.rules[0].matches[0].method.service",
        ),
        (
            "GRPCRoute",
            format!(
                "{PARENT}rules: [{{filters: [{{type: URLRewrite}}], backendRefs: [{{name: a, port: 1}}]}}]"
            ),
            "spec.rules[0].filters[0].type",
        ),
    ] {
        let (found, reason) = refusal(kind, &spec);
        assert_eq!(found, field, "{spec}: {reason}");
    }
}
