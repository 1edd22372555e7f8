mod refused;

use crate::{
    source::convert::{Verdict, object},
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
}
