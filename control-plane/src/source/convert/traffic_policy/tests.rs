mod bounds;
mod refused;

use crate::{
    source::convert::{Outcome, Verdict, object},
    world::{
        Object, ObjectKey,
        policy::*,
        quantity::{Created, Factor, Share},
        route::{RouteKind, RouteRef, TextMatch, ValueMatch},
    },
};
use std::{num::NonZeroU32, time::Duration};

fn outcome(metadata: &str, spec: &str) -> Outcome {
    let yaml = format!(
        "apiVersion: weft.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: p, namespace: demo{metadata}}}\nspec:\n  {}\n",
        spec.replace('\n', "\n  ")
    );
    object(serde_saphyr::from_str(&yaml).unwrap(), "cluster.local")
}

fn policy(spec: &str) -> TrafficPolicy {
    match outcome("", spec).verdict {
        Verdict::Accepted(Object::TrafficPolicy(policy)) => (*policy).clone(),
        other => panic!("{other:?}"),
    }
}

/// Of a policy for a service.
fn settings(spec: &str) -> Settings {
    policy(&format!(
        "targetRefs: [{{kind: Service, name: user}}]\n{spec}"
    ))
    .settings
}

fn n(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn every_field_is_read() {
    let settings = settings(
        r#"
loadBalancer:
  algorithm: RingHash
  consistentHash: {cookie: {name: session, ttl: 1h, path: /}, minimumRingSize: 4096, maximumRingSize: 8192, boundedLoad: 125}
  zone: Prefer
  panicThreshold: 30
connections:
  max: 1
  maxPending: 2
  maxRequests: 3
  maxRequestsPerConnection: 4
  connectTimeout: 1s
  idleTimeout: 30s
  tcpKeepalive: {time: 2m, interval: 30s, probes: 5}
  http2: {maxConcurrentStreams: 50, initialStreamWindow: 256Ki, initialConnectionWindow: 1048576}
circuitBreaker:
  consecutiveFailures: 7
  failureRatio: {ratio: 0.6, minimumRequests: 3, window: 20s}
  failures: {connectErrors: false, serverErrors: false, statuses: [429], grpcCodes: [UNAVAILABLE], slowerThan: 2s}
  openFor: 10s
  maxOpenFor: 1m
  jitter: 1s
  halfOpenRequests: 5
  maxEjectedPercent: 33.5
retry:
  attempts: 4
  on: [5xx, "503", 409, unavailable]
  methods: [GET, POST]
  perTryTimeout: 2s
  backoff: {base: 100ms, max: 5s, multiplier: 1.5, jitter: false}
  retryAfter: {max: 0s}
  budget: {percent: 10, minimumPerSecond: 1}
  bodyLimit: 1Mi
  hedge: {delay: 50ms}
timeout: {request: 0s, idle: 1h}
rateLimit: {requests: 100, per: 1m, burst: 10, by: [Identity, SourceAddress, {header: X-Tenant}], maximumKeys: 5}
concurrencyLimit: {adaptive: {minimum: 5, maximum: 50}}
fault:
  delay: {percent: 0.5, duration: 100ms}
  abort: {percent: 1, grpcStatus: UNAVAILABLE}
  headers: [{name: X-Chaos, value: "yes"}]
mirror: {backendRef: {name: shadow, namespace: lab, port: 80}, percent: 10}"#,
    );
    let expected = Settings {
        load_balancer: Some(
            LoadBalancing {
                algorithm: Some(Algorithm::RingHash {
                    hash: ConsistentHash {
                        key: HashKey::Cookie {
                            name: "session".into(),
                            ttl: Some(ms(3_600_000)),
                            path: Some("/".into()),
                        },
                        bounded_load: Some(n(125)),
                    },
                    minimum_size: n(4096),
                    maximum_size: n(8192),
                }),
                slow_start: None,
                zone: Zone::Prefer,
                panic_threshold: Share::percent(30),
            }
            .into(),
        ),
        connections: Some(
            Connections {
                maximum: Some(n(1)),
                pending: Some(n(2)),
                requests: Some(n(3)),
                connect_timeout: Some(ms(1000)),
                transport: Transport {
                    requests_per_connection: Some(n(4)),
                    idle_timeout: Some(ms(30_000)),
                    tcp_keepalive: Some(TcpKeepalive {
                        time: ms(120_000),
                        interval: ms(30_000),
                        probes: n(5),
                    }),
                    http2: Http2 {
                        concurrent_streams: Some(n(50)),
                        stream_window: Some(n(256 << 10)),
                        connection_window: Some(n(1 << 20)),
                    },
                },
            }
            .into(),
        ),
        breaker: Some(
            Breaker {
                consecutive_failures: Some(n(7)),
                failure_ratio: Some(FailureRatio {
                    ratio: Share::percent(60),
                    minimum_requests: n(3),
                    window: ms(20_000),
                }),
                failures: Failures {
                    connect_errors: false,
                    server_errors: false,
                    statuses: [429].into(),
                    grpc_codes: [GrpcCode::UNAVAILABLE].into(),
                    slower_than: Some(ms(2000)),
                },
                open_for: ms(10_000),
                max_open_for: ms(60_000),
                jitter: ms(1000),
                half_open_requests: n(5),
                max_ejected: Share::from_millionths(335_000),
            }
            .into(),
        ),
        retry: Some(
            Retry {
                attempts: n(4),
                on: RetryOn {
                    conditions: [RetryCondition::ServerError, RetryCondition::Unavailable].into(),
                    statuses: [409, 503].into(),
                },
                methods: ["GET".into(), "POST".into()].into(),
                per_try_timeout: Some(ms(2000)),
                backoff: Backoff {
                    base: ms(100),
                    max: ms(5000),
                    multiplier: Factor::from_thousandths(1500),
                    jitter: false,
                },
                retry_after: None,
                budget: RetryBudget {
                    ratio: Share::percent(10),
                    floor: 1,
                },
                body_limit: 1 << 20,
                hedge: Some(ms(50)),
            }
            .into(),
        ),
        timeouts: Some(Timeouts {
            request: Some(TimeLimit::Never),
            idle: Some(TimeLimit::After(ms(3_600_000))),
        }),
        rate_limit: Some(
            RateLimit {
                requests: n(100),
                per: ms(60_000),
                burst: n(10),
                by: vec![
                    RateLimitKey::Identity,
                    RateLimitKey::SourceAddress,
                    RateLimitKey::Header("x-tenant".into()),
                ],
                maximum_keys: n(5),
            }
            .into(),
        ),
        concurrency_limit: Some(ConcurrencyLimit::Adaptive {
            minimum: n(5),
            maximum: n(50),
        }),
        fault: Some(
            Fault {
                delay: Some(Delay {
                    share: Share::from_millionths(5000),
                    duration: ms(100),
                }),
                abort: Some(Abort {
                    share: Share::percent(1),
                    status: AbortStatus::Grpc(GrpcCode::UNAVAILABLE),
                }),
                headers: vec![ValueMatch {
                    name: "x-chaos".into(),
                    value: TextMatch::Exact("yes".into()),
                }],
            }
            .into(),
        ),
        mirror: Some(
            Mirror {
                from: "demo".into(),
                backend: ServiceRef {
                    service: ObjectKey::new("lab", "shadow"),
                    port: 80.try_into().unwrap(),
                },
                share: Share::percent(10),
            }
            .into(),
        ),
    };
    assert_eq!(settings, expected);
}

#[test]
fn an_empty_section_is_its_defaults() {
    let settings = settings(
        "loadBalancer: {}\nconnections: {}\ncircuitBreaker: {}\nretry: {}\ntimeout: {}\nrateLimit: {requests: 7}",
    );
    let expected = Settings {
        load_balancer: Some(LoadBalancing::default().into()),
        connections: Some(Connections::default().into()),
        breaker: Some(
            Breaker {
                consecutive_failures: Some(n(5)),
                failure_ratio: None,
                failures: Failures {
                    connect_errors: true,
                    server_errors: true,
                    statuses: [].into(),
                    grpc_codes: [
                        GrpcCode::UNKNOWN,
                        GrpcCode::INTERNAL,
                        GrpcCode::UNAVAILABLE,
                        GrpcCode::DATA_LOSS,
                    ]
                    .into(),
                    slower_than: None,
                },
                open_for: ms(30_000),
                max_open_for: ms(300_000),
                jitter: ms(0),
                half_open_requests: n(1),
                max_ejected: Share::percent(50),
            }
            .into(),
        ),
        retry: Some(Retry::default().into()),
        timeouts: Some(Timeouts::default()),
        rate_limit: Some(
            RateLimit {
                requests: n(7),
                per: ms(1000),
                burst: n(7),
                by: vec![],
                maximum_keys: n(10_000),
            }
            .into(),
        ),
        ..Settings::default()
    };
    assert_eq!(settings, expected);
}

#[test]
fn a_section_that_is_left_out_or_null_is_left_to_others() {
    assert_eq!(settings("retry:\nfault: null"), Settings::default());
}

#[test]
fn a_failure_ratio_stands_alone_unless_consecutive_failures_are_asked_for() {
    let breaker = |spec: &str| {
        let breaker = settings(&format!("circuitBreaker: {spec}"))
            .breaker
            .unwrap();
        (
            breaker.consecutive_failures,
            breaker.failure_ratio.is_some(),
            breaker.max_open_for,
        )
    };
    assert_eq!(
        breaker("{failureRatio: {ratio: 0.6}, openFor: 10m}"),
        (None, true, ms(600_000))
    );
    assert_eq!(
        breaker("{failureRatio: {ratio: 0.6}, consecutiveFailures: 9}"),
        (Some(n(9)), true, ms(300_000))
    );
}

#[test]
fn targets_are_services_routes_and_parts_of_them() {
    let policy = policy(
        "targetRefs:
- {kind: Service, name: user}
- {group: '', kind: Service, name: user, sectionName: '80'}
- {kind: Service, name: user, sectionName: http}
- {group: gateway.networking.k8s.io, kind: HTTPRoute, name: user.v1, sectionName: canary}
- {kind: GRPCRoute, name: rpc}",
    );
    let service = |port| Target::Service {
        service: ObjectKey::new("demo", "user"),
        port,
    };
    let route = |kind, name: &str, rule: Option<&str>| Target::Route {
        route: RouteRef {
            kind,
            key: ObjectKey::new("demo", name),
        },
        rule: rule.map(Into::into),
    };
    assert_eq!(
        policy.targets,
        [
            service(None),
            service(Some(PortRef::Number(80))),
            service(Some(PortRef::Name("http".into()))),
            route(RouteKind::Http, "user.v1", Some("canary")),
            route(RouteKind::Grpc, "rpc", None),
        ]
    );
}

#[test]
fn the_time_of_creation_is_read() {
    let created = |metadata: &str| {
        let outcome = outcome(metadata, "targetRefs: [{kind: Service, name: user}]");
        match outcome.verdict {
            Verdict::Accepted(Object::TrafficPolicy(policy)) => Ok(policy.created),
            Verdict::Refused { invalid, .. } => Err(invalid.field),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(created(""), Ok(Created::UNKNOWN));
    assert_eq!(
        created(", creationTimestamp: '1970-01-01T00:01:00Z'"),
        Ok(Created::at(60))
    );
    assert_eq!(
        created(", creationTimestamp: yesterday"),
        Err("metadata.creationTimestamp".to_owned())
    );
}
