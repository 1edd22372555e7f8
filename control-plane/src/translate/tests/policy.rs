//! What each section of a policy and of a route becomes, for a Weft proxy and for an Envoy.

use super::{C, E, L, R, difference::added, envoy, text};
use crate::{
    fixture::world,
    translate::{Dialect, names, render},
    world::World,
};
use std::fmt::Write;

/// A service of two workloads, and another one that may take its place.
const SERVICES: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: user, namespace: demo}
spec: {clusterIPs: ["10.96.3.4"], ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: user-1, namespace: demo, labels: {kubernetes.io/service-name: user}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- addresses: ["10.0.1.5"]
  targetRef: {kind: Pod, name: user-0, namespace: demo}
- addresses: ["10.0.1.6"]
  targetRef: {kind: Pod, name: user-1, namespace: demo}
---
apiVersion: v1
kind: Pod
metadata: {name: user-0, namespace: demo, annotations: {weft.dev/weight: "5"}}
spec: {serviceAccountName: user, containers: [{name: app}]}
status: {podIP: "10.0.1.5"}
---
apiVersion: v1
kind: Pod
metadata: {name: user-1, namespace: demo}
spec: {serviceAccountName: user, containers: [{name: app}]}
status: {podIP: "10.0.1.6"}
---
apiVersion: v1
kind: Service
metadata: {name: canary, namespace: demo}
spec: {clusterIPs: ["10.96.3.5"], ports: [{name: http, port: 80}]}
"#;

const USER: &str = "user.demo.svc.cluster.local:80";
const OWN: &str = "inbound/demo/user-0";

/// A policy on the service.
fn policy(sections: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: user, namespace: demo}}\nspec:\n  targetRefs: [{{kind: Service, name: user}}]\n{sections}"
    )
}

/// An HTTPRoute on the service.
fn route(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: user, namespace: demo}}\nspec:\n  parentRefs: [{{group: \"\", kind: Service, name: user}}]\n{spec}"
    )
}

/// What Weft proxies, Envoys and gRPC clients are told because of some objects that they would not be told without.
fn told(objects: &[String]) -> String {
    let without = world(SERVICES);
    let documents: Vec<_> = [SERVICES.to_owned()]
        .into_iter()
        .chain(objects.iter().cloned())
        .collect();
    let with = world(&documents.join("\n---\n"));
    let envoy = envoy(None);
    let resources = [
        (&Dialect::Weft, C, USER),
        (&Dialect::Weft, E, USER),
        (&Dialect::Weft, R, USER),
        (&Dialect::Weft, L, OWN),
        (&envoy, C, USER),
        (&envoy, E, USER),
        (&envoy, R, "outbound"),
        (&Dialect::Grpc, C, USER),
        (&Dialect::Grpc, E, USER),
        (&Dialect::Grpc, R, USER),
    ];
    let mut told = String::new();
    for (dialect, ty, name) in resources {
        let message = |world: &World| {
            let rendered = render(world, dialect, ty, name).expect("it exists");
            text::message(ty.url(), &rendered.value)
        };
        let added = added(&message(&without), &message(&with));
        if !added.is_empty() {
            writeln!(
                told,
                "# {}: {} {name}\n{added}",
                dialect.label(),
                ty.label()
            )
            .unwrap();
        }
    }
    told
}

macro_rules! assert_told {
    ($($objects:expr),+ $(,)?) => {
        insta::assert_snapshot!(told(&[$($objects),+]))
    };
}

#[test]
fn peak_ewma() {
    assert_told!(policy(
        "  loadBalancer:
    algorithm: PeakEwma
    peakEwma: {decay: 5s, defaultRtt: 10ms}
    slowStart: {window: 30s, aggression: 1.5, minimumPercent: 20}
    zone: Prefer
    panicThreshold: 12.5
"
    ));
}

#[test]
fn weighted_round_robin() {
    assert_told!(policy(
        "  loadBalancer: {algorithm: WeightedRoundRobin, slowStart: {window: 1m}, zone: Strict}\n"
    ));
}

#[test]
fn random() {
    assert_told!(policy("  loadBalancer: {algorithm: Random}\n"));
}

#[test]
fn ring_hash() {
    assert_told!(policy(
        "  loadBalancer: {algorithm: RingHash, consistentHash: {header: X-User, minimumRingSize: 2048, maximumRingSize: 4096, boundedLoad: 125}}\n"
    ));
}

#[test]
fn maglev() {
    assert_told!(policy(
        "  loadBalancer: {algorithm: Maglev, consistentHash: {cookie: {name: session, ttl: 1h, path: /}, tableSize: 251}}\n"
    ));
}

#[test]
fn connections() {
    assert_told!(policy(
        "  connections:
    max: 500
    maxPending: 100
    maxRequests: 2000
    maxRequestsPerConnection: 10000
    connectTimeout: 1s
    idleTimeout: 30s
    tcpKeepalive: {time: 2m, interval: 30s, probes: 5}
    http2: {maxConcurrentStreams: 50, initialStreamWindow: 256Ki, initialConnectionWindow: 4Mi}
"
    ));
}

#[test]
fn breaker_of_failures_in_a_row() {
    assert_told!(policy("  circuitBreaker: {consecutiveFailures: 7}\n"));
}

#[test]
fn breaker_of_a_ratio() {
    assert_told!(policy(
        "  circuitBreaker:
    failureRatio: {ratio: 0.605, minimumRequests: 10, window: 5s}
    failures: {connectErrors: false, serverErrors: true, statuses: [429], grpcCodes: [RESOURCE_EXHAUSTED], slowerThan: 2s}
    openFor: 30s
    maxOpenFor: 2m
    jitter: 5s
    halfOpenRequests: 5
    maxEjectedPercent: 100
"
    ));
}

#[test]
fn retry() {
    assert_told!(policy(
        "  retry:
    attempts: 3
    on: [connect-failure, reset, 5xx, \"429\", unavailable]
    methods: [GET, POST]
    perTryTimeout: 2s
    backoff: {base: 100ms, max: 5s, multiplier: 3, jitter: false}
    retryAfter: {max: 10s}
    budget: {percent: 25, minimumPerSecond: 10}
    bodyLimit: 16Ki
    hedge: {delay: 50ms}
"
    ));
}

#[test]
fn timeout() {
    assert_told!(policy("  timeout: {request: 3s, idle: 0s}\n"));
}

#[test]
fn limits() {
    assert_told!(policy(
        "  rateLimit: {requests: 100, per: 1m, burst: 20, by: [Identity, SourceAddress, {header: X-Tenant}], maximumKeys: 50}
  concurrencyLimit: {adaptive: {minimum: 5, maximum: 500}}
"
    ));
}

#[test]
fn fault_and_mirror() {
    assert_told!(policy(
        "  fault:
    delay: {percent: 10, duration: 100ms}
    abort: {percent: 0.5, grpcStatus: UNAVAILABLE}
    headers: [{name: x-chaos, value: \"yes\"}]
  mirror: {backendRef: {name: canary, port: 80}, percent: 10}
"
    ));
}

#[test]
fn rules_of_a_route() {
    assert_told!(route(
        "  rules:
  - name: login
    matches:
    - {path: {type: PathPrefix, value: /login}, method: POST}
    - path: {type: RegularExpression, value: \"/u/[0-9]+\"}
      headers: [{name: X-Beta, value: \"yes\"}]
      queryParams: [{name: v, type: RegularExpression, value: \"[12]\"}]
    backendRefs: [{name: user, port: 80, weight: 9}, {name: canary, port: 80}, {name: user, port: 80, weight: 0}]
    timeouts: {request: 4s, backendRequest: 1s}
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {set: [{name: x-from, value: 100%}], add: [{name: x-more, value: a}], remove: [x-none]}
    - type: ResponseHeaderModifier
      responseHeaderModifier: {remove: [server]}
    - type: RequestMirror
      requestMirror: {backendRef: {name: canary, port: 80}, percent: 50}
  - matches: [{path: {type: Exact, value: /nobody}}]
    backendRefs: [{name: nobody, port: 80}]
  - matches: [{path: {type: Exact, value: /partly}}]
    backendRefs: [{name: user, port: 80, weight: 3}, {name: secret, namespace: other, port: 80}]
"
    ));
}

#[test]
fn rewrites_and_redirects_of_a_route() {
    assert_told!(route(
        "  rules:
  - matches: [{path: {type: PathPrefix, value: /old.x}}]
    filters: [{type: URLRewrite, urlRewrite: {hostname: new.example, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    backendRefs: [{name: canary, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /api}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /v2/}}}]
    backendRefs: [{name: canary, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /index}}}]
    backendRefs: [{name: canary, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /gone}}]
    filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 308, path: {type: ReplaceFullPath, replaceFullPath: /here}}}]
  - matches: [{path: {type: PathPrefix, value: /moved}}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: new.example, port: 8443, path: {type: ReplacePrefixMatch, replacePrefixMatch: /to}}}]
"
    ));
}

#[test]
fn hosts_of_routes() {
    let other = route("  hostnames: [\"*.demo\", shop.example]\n  rules: [{backendRefs: [{name: canary, port: 80}]}]\n")
        .replace("{name: user, namespace: demo}", "{name: shop, namespace: demo}");
    assert_told!(
        other,
        route(
            "  hostnames: [user.demo.svc.cluster.local]\n  rules: [{backendRefs: [{name: user, port: 80}]}]\n"
        ),
    );
}

#[test]
fn policies_of_rules() {
    let of_login = "
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: login, namespace: demo}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: user, sectionName: login}]
  rateLimit: {requests: 5}
  concurrencyLimit: {maximum: 10}
  retry: {attempts: 2, on: [connect-failure]}
";
    assert_told!(
        of_login.to_owned(),
        policy("  rateLimit: {requests: 100}\n  timeout: {request: 1s}\n"),
        route(
            "  hostnames: [user.example]
  rules:
  - matches: [{path: {type: Exact, value: /login/status}}]
    backendRefs: [{name: user, port: 80}]
  - name: login
    matches: [{path: {type: PathPrefix, value: /login}}, {path: {type: PathPrefix, value: /logout}}]
    backendRefs: [{name: user, port: 80}]
  - backendRefs: [{name: user, port: 80}]
"
        ),
    );
}

#[test]
fn methods_of_a_grpc_route() {
    let route = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: user, namespace: demo}
spec:
  parentRefs: [{group: "", kind: Service, name: user}]
  rules:
  - matches: [{method: {service: demo.User, method: Get}}]
    backendRefs: [{name: user, port: 80, weight: 1}, {name: canary, port: 80, weight: 1}]
  - matches: [{method: {service: demo.User}, headers: [{name: x-beta, value: "1"}]}]
    backendRefs: [{name: canary, port: 80}]
"#;
    assert_told!(
        route.to_owned(),
        policy("  retry: {attempts: 4, on: [unavailable, cancelled, 5xx], methods: [POST]}\n"),
    );
}

/// What proxies look for is what the control plane says: these names are the contract between the two.
#[test]
fn everything_is_said_in_messages_and_under_names_that_proxies_know() {
    let objects = [
        policy(
            "  loadBalancer: {zone: Prefer}
  circuitBreaker: {}
  connections: {idleTimeout: 1s}
  retry: {}
  rateLimit: {requests: 1}
  concurrencyLimit: {maximum: 1}
  fault: {delay: {duration: 1s}}
",
        ),
        SERVICES.to_owned(),
    ];
    let world = world(&objects.join("\n---\n"));
    let said: Vec<u8> = [(C, USER), (E, USER), (R, USER), (L, USER), (L, OWN)]
        .into_iter()
        .flat_map(|(ty, name)| render(&world, &Dialect::Weft, ty, name).unwrap().value)
        .collect();
    let names = [
        "envoy.filters.http.fault",
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
        "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "type.googleapis.com/weft.v1.ConcurrencyLimit",
        "type.googleapis.com/weft.v1.EndpointMetadata",
        "type.googleapis.com/weft.v1.PeakEwma",
        "type.googleapis.com/weft.v1.RateLimit",
        "type.googleapis.com/weft.v1.RetryExtension",
        "type.googleapis.com/weft.v1.ServiceMetadata",
        "type.googleapis.com/weft.v1.WorkloadMetadata",
        "weft.dev",
    ];
    let is_said = |name: &&str| said.windows(name.len()).any(|part| part == name.as_bytes());
    let unsaid: Vec<_> = names.into_iter().filter(|name| !is_said(name)).collect();
    assert_eq!(unsaid, Vec::<&str>::new());
}

/// A wildcard subscription is for what routes lead to, too.
#[test]
fn an_envoy_is_told_of_every_cluster_that_its_routes_name() {
    let world = world(&format!(
        "{SERVICES}---\n{}",
        route("  rules: [{backendRefs: [{name: canary, port: 80}]}]\n")
    ));
    let clusters: Vec<String> = names(&world, &envoy(None), C)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(clusters, ["canary.demo.svc.cluster.local:80", USER]);
}
