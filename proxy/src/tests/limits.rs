//! Rate limits and concurrency limits of a workload, in front of an application.

use super::http::{Answer, application, call, get, nothing};
use crate::{
    error::RequestError,
    snapshot::{
        ConcurrencyLimit, Inbound, InboundPort, MtlsMode, Protocol, Rate, RateLimit,
        admission::{Filter, Key, Match, Rule},
        route::PathMatch,
    },
    telemetry::Direction,
    testing::world::{
        ORDER, Pair, Proxy, USER, destination, pair, port, proxy, proxy_of_workers, scenario,
        workload,
    },
    tls::testing::TestCa,
};
use ::http::{Request, StatusCode, Version};
use futures_util::future::join_all;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, num::NonZeroU32, time::Duration};
use tokio::{net::TcpStream, task::spawn_local};

const HOUR: Duration = Duration::from_secs(3600);

fn number(n: u32) -> NonZeroU32 {
    n.try_into().unwrap()
}

/// So many requests at once, and so many an hour: none comes back while a test runs.
fn hourly(requests: u32, burst: u32, by: &[Key]) -> RateLimit {
    RateLimit {
        rate: Rate::new(number(requests), HOUR, number(burst)).unwrap(),
        by: by.to_vec(),
        maximum_keys: 100.try_into().unwrap(),
    }
}

fn rule<L>(name: &str, path: Option<&str>, limit: L) -> Rule<L> {
    Rule {
        name: name.into(),
        matches: path
            .map(|path| Match {
                path: PathMatch::Prefix(path.into()),
                conditions: None,
            })
            .into_iter()
            .collect(),
        limit: Some(limit),
    }
}

fn filter<L>(name: &str, rules: Vec<Rule<L>>) -> Filter<L> {
    Filter {
        name: name.into(),
        rules,
    }
}

fn rate_limited(rules: Vec<Rule<RateLimit>>) -> InboundPort {
    let mut port = port(Protocol::Http, MtlsMode::Permissive);
    port.limits.rate = vec![filter("demo/user:80", rules)];
    port
}

fn concurrency_limited(limit: ConcurrencyLimit) -> InboundPort {
    let mut port = port(Protocol::Http, MtlsMode::Permissive);
    let rules = vec![rule("demo/user:80", None, limit)];
    port.limits.concurrency = vec![filter("demo/user:80", rules)];
    port
}

/// Of the concurrency limit: the requests in flight, and how many may be.
fn in_flight(proxy: &Proxy) -> (u64, u64) {
    let of = proxy.limits().concurrency["demo/user:80"];
    (of.in_flight, of.limit)
}

fn push(proxy: &Proxy, port: InboundPort) {
    proxy.feed.inbound(Inbound {
        zone: "".into(),
        workload: workload("user"),
        ports: Default::default(),
        other: port,
    });
}

/// A caller with a sidecar of its own.
fn caller(ca: &TestCa, identity: &str, user: &Proxy) -> Proxy {
    let caller = proxy(ca, identity, &["--mode", "explicit"]);
    let user = destination("user.demo:80", Protocol::Http, &[user.inbound], true);
    caller.feed.publish(user);
    caller
}

async fn call_path(proxy: SocketAddr, path: &str) -> Answer {
    let target = format!("http://user{path}");
    call(
        proxy,
        get(Version::HTTP_11, &target).body(nothing()).unwrap(),
    )
    .await
}

/// The statuses of so many requests, one after the other.
async fn statuses(proxy: SocketAddr, path: &str, requests: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(call_path(proxy, path).await.status.as_u16());
    }
    statuses
}

#[tokio::test]
async fn who_sends_too_much_is_told_so() {
    scenario(async {
        let app = application().await;
        let limits = rate_limited(vec![rule("demo/user:80", None, hourly(2, 2, &[]))]);
        let Pair { user, .. } = pair(app, "explicit", limits);
        assert_eq!(statuses(user.inbound, "/", 2).await, [200, 200]);
        let answer = call_path(user.inbound, "/").await;
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        for (field, value) in [
            ("weft-error", "rate-limited; policy=demo/user:80"),
            ("retry-after", "1800"),
            ("ratelimit-limit", "2"),
            ("ratelimit-remaining", "0"),
            ("ratelimit-reset", "3600"),
        ] {
            assert_eq!(answer.header(field), Some(value), "{field}");
        }
        let edges = user.edges();
        assert_eq!(user.limits().rate["demo/user:80"].shed, 1);
        let reason = RequestError::RateLimited;
        assert_eq!(edges[0].0.direction, Direction::Inbound);
        assert_eq!(edges[0].1.errors[reason.index()], 1);
    })
    .await;
}

#[tokio::test]
async fn a_grpc_call_too_many_is_told_when_to_come_again() {
    scenario(async {
        let app = application().await;
        let limits = rate_limited(vec![rule("demo/user:80", None, hourly(1, 1, &[]))]);
        let Pair { user, .. } = pair(app, "explicit", limits);
        let grpc = || -> Request<_> {
            get(Version::HTTP_2, "http://user/demo.User/Get")
                .header("content-type", "application/grpc")
                .body(nothing())
                .unwrap()
        };
        assert_eq!(call(user.inbound, grpc()).await.header("grpc-status"), None);
        let answer = call(user.inbound, grpc()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("grpc-status"), Some("8"));
        let pushback = answer.header("grpc-retry-pushback-ms").unwrap();
        let pushback: u64 = pushback.parse().unwrap();
        assert!((3_590_000..=3_600_000).contains(&pushback), "{pushback}");
    })
    .await;
}

#[tokio::test]
async fn each_caller_has_what_its_identity_may_have() {
    scenario(async {
        let (app, ca) = (application().await, TestCa::root("mesh"));
        let app = app.to_string();
        let user = proxy(&ca, USER, &["--mode", "explicit", "--app-address", &app]);
        let limit = hourly(2, 2, &[Key::Identity]);
        push(&user, rate_limited(vec![rule("demo/user:80", None, limit)]));
        let order = caller(&ca, ORDER, &user);
        let cart = caller(&ca, "spiffe://cluster.local/ns/demo/sa/cart", &user);
        assert_eq!(statuses(order.outbound, "/", 3).await, [200, 200, 429]);
        assert_eq!(statuses(cart.outbound, "/", 3).await, [200, 200, 429]);
    })
    .await;
}

#[tokio::test]
async fn a_limit_is_for_the_requests_that_it_names() {
    scenario(async {
        let app = application().await;
        let spared = Rule {
            limit: None,
            ..rule("demo/health", Some("/login/health"), hourly(1, 1, &[]))
        };
        let login = rule("demo/login", Some("/login"), hourly(1, 1, &[]));
        let Pair { user, .. } = pair(app, "explicit", rate_limited(vec![spared, login]));
        assert_eq!(statuses(user.inbound, "/login", 2).await, [200, 429]);
        assert_eq!(statuses(user.inbound, "/login/health", 2).await, [200, 200]);
        assert_eq!(statuses(user.inbound, "/a/../login", 1).await, [429]);
        assert_eq!(statuses(user.inbound, "/", 3).await, [200, 200, 200]);
    })
    .await;
}

#[tokio::test]
async fn who_is_refused_by_one_limit_has_used_nothing_of_another() {
    scenario(async {
        let app = application().await;
        let mut limits = rate_limited(vec![rule("demo/user:80", None, hourly(2, 2, &[]))]);
        let login = vec![rule("demo/login", Some("/login"), hourly(1, 1, &[]))];
        limits
            .limits
            .rate
            .push(filter("demo/user:80/routes", login));
        let Pair { user, .. } = pair(app, "explicit", limits);
        assert_eq!(
            statuses(user.inbound, "/login", 4).await,
            [200, 429, 429, 429]
        );
        assert_eq!(statuses(user.inbound, "/", 2).await, [200, 429]);
    })
    .await;
}

#[tokio::test]
async fn a_push_that_changes_the_rate_does_not_refill_and_is_in_force_on_open_connections() {
    scenario(async {
        let app = application().await;
        let limits = |requests, burst| {
            rate_limited(vec![rule(
                "demo/user:80",
                None,
                hourly(requests, burst, &[]),
            )])
        };
        let Pair { user, .. } = pair(app, "explicit", limits(3, 3));
        let tcp = TcpStream::connect(user.inbound).await.unwrap();
        let (mut send, connection) = http1::handshake(TokioIo::new(tcp)).await.unwrap();
        spawn_local(connection);
        let mut status = async || {
            let request = get(Version::HTTP_11, "http://user/")
                .body(nothing())
                .unwrap();
            let response = send.send_request(request).await.unwrap();
            let status = response.status().as_u16();
            response.into_body().collect().await.unwrap();
            status
        };
        assert_eq!([status().await, status().await], [200, 200]);
        push(&user, limits(10, 20));
        assert_eq!([status().await, status().await], [200, 429]);
        push(&user, port(Protocol::Http, MtlsMode::Permissive));
        assert_eq!([status().await, status().await], [200, 200]);
    })
    .await;
}

#[tokio::test]
async fn all_workers_of_a_proxy_share_a_bucket() {
    scenario(async {
        let (app, ca) = (application().await, TestCa::root("mesh"));
        let app = app.to_string();
        let flags = ["--mode", "explicit", "--app-address", &app];
        let workers = 3.try_into().unwrap();
        let (user, inbounds) = proxy_of_workers(workers, &ca, USER, &flags);
        let limit = hourly(4, 4, &[]);
        push(&user, rate_limited(vec![rule("demo/user:80", None, limit)]));
        let mut admitted = Vec::new();
        for inbound in inbounds {
            admitted.extend(statuses(inbound, "/", 2).await);
        }
        assert_eq!(admitted, [200, 200, 200, 200, 429, 429]);
    })
    .await;
}

#[tokio::test]
async fn requests_beyond_what_may_be_in_flight_are_shed() {
    scenario(async {
        let app = application().await;
        let limits = concurrency_limited(ConcurrencyLimit::Fixed(NonZeroU32::MIN));
        let Pair { user, .. } = pair(app, "explicit", limits);
        let inbound = user.inbound;
        let slow = spawn_local(async move { call_path(inbound, "/slow").await });
        // The first must be on its way to the application.
        while in_flight(&user).0 == 0 {
            tokio::task::yield_now().await;
        }
        let answer = call_path(inbound, "/").await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            answer.header("weft-error"),
            Some("overloaded; policy=demo/user:80")
        );
        assert_eq!(slow.await.unwrap().status, StatusCode::OK);
        assert_eq!(call_path(inbound, "/").await.status, StatusCode::OK);
    })
    .await;
}

#[tokio::test]
async fn an_application_that_becomes_slow_is_sent_less() {
    scenario(async {
        let app = application().await;
        let Pair { user, .. } = pair(
            app,
            "explicit",
            concurrency_limited(ConcurrencyLimit::Adaptive {
                minimum: number(2),
                maximum: number(128),
            }),
        );
        statuses(user.inbound, "/", 10).await;
        let (_, before) = in_flight(&user);
        assert_eq!(before, 16);
        let slow = || async {
            let request = get(Version::HTTP_11, "http://user/").header("takes-ms", "200");
            let request = request.body(nothing()).unwrap();
            call(user.inbound, request).await.status.as_u16()
        };
        while in_flight(&user).1 >= before {
            let answers = join_all((0..before).map(|_| slow())).await;
            assert!(answers.contains(&200));
        }
        let answers = join_all((0..before).map(|_| slow())).await;
        assert!(answers.contains(&503), "{answers:?}");
    })
    .await;
}
