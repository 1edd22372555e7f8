//! Retries: what is sent again, to whom, and what is not.

mod hedges;

use super::{
    servers::{Reply, http1_that},
    *,
};
use crate::{
    http::body::BodyError,
    net::{self, stream::Stream},
    snapshot::{
        Retry, Share,
        breaker::GrpcCodes,
        retry::{Backoff, Conditions, Hedge, RetryBudget},
    },
    tls::testing::TestCa,
};
use bytes::Bytes;
use futures_util::stream;
use http::{Response, StatusCode, header::CONTENT_LENGTH};
use http_body::Frame;
use http_body_util::StreamBody;
use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

/// Tries three times on whatever there is, at once.
fn policy() -> Retry {
    Retry {
        retries: NonZeroU32::new(2).unwrap(),
        on: Conditions {
            server_errors: true,
            retriable_4xx: true,
            grpc_codes: GrpcCodes::of(&[14]),
            ..Conditions::default()
        },
        methods: [Method::GET, Method::PUT].into(),
        per_try_timeout: None,
        backoff: Backoff {
            base: Duration::from_millis(1),
            max: Duration::from_millis(1),
            multiplier: 1.0,
            jitter: true,
        },
        retry_after: None,
        body_limit: 1_000,
        hedge: None,
    }
}

/// A cluster that never runs out of retries.
fn cluster_of(addresses: &[SocketAddr]) -> Cluster {
    Cluster {
        retry_budget: RetryBudget {
            ratio: Share::ALL,
            floor: 1_000_000,
        },
        ..cluster(addresses)
    }
}

struct Called {
    outcome: Result<Sent, Box<Failed>>,
    tries: Tries,
}

impl Called {
    fn status(&self) -> u16 {
        self.outcome.as_ref().unwrap().response.status().as_u16()
    }

    fn error(&self) -> RequestError {
        self.outcome.as_ref().unwrap_err().error
    }
}

async fn call(
    cluster: &Rc<LiveCluster>,
    version: Version,
    mut request: Request<Body>,
    retry: &Retry,
) -> Called {
    let tries = Cell::default();
    let call = Call {
        retry: Some(retry),
        tries: Some(&tries),
        ..Call::default()
    };
    let outcome = cluster.call(version, &mut request, &call).await;
    Called {
        outcome,
        tries: tries.get(),
    }
}

fn tried(attempts: u32, ending: Option<Ending>) -> Tries {
    Tries {
        attempts,
        hedges: 0,
        ending,
    }
}

/// Turns the round of two endpoints until the next request goes to this one.
fn begin_at(cluster: &LiveCluster, address: SocketAddr) {
    let turn = || cluster.pick(&balancer::Choice::default()).unwrap();
    while turn().address() == address {}
}

/// A request whose body comes in pieces.
fn streamed(method: Method, pieces: &[&'static str]) -> Request<Body> {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    let pieces: Vec<Result<_, BodyError>> = pieces
        .iter()
        .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
        .collect();
    let body = Body::boxed(StreamBody::new(stream::iter(pieces)));
    let mut request = request(method, "/", body);
    request.headers_mut().insert(CONTENT_LENGTH, length.into());
    request
}

/// Answers all requests alike, and keeps their bodies.
async fn answering(status: u16) -> (SocketAddr, Rc<servers::Observed>, Rc<RefCell<Vec<Vec<u8>>>>) {
    let bodies = Rc::<RefCell<Vec<_>>>::default();
    let kept = bodies.clone();
    let (address, observed) = http1_that(move |body| {
        kept.borrow_mut().push(body.to_vec());
        Reply::status(status)
    })
    .await;
    (address, observed, bodies)
}

#[test]
fn an_answer_that_nobody_wants_leaves_its_place_to_the_next_attempt() {
    worker(async {
        let first = Cell::new(true);
        let (address, _) = http1_that(move |_| match first.replace(false) {
            // Its body does not come.
            true => Reply::Bytes("HTTP/1.1 503 Some\r\ncontent-length: 5\r\n\r\n".into()),
            false => Reply::status(200),
        })
        .await;
        let mut config = cluster_of(&[address]);
        config.limits.requests = NonZeroU32::MIN;
        let cluster = live(&upstreams(), config);
        let called = call(&cluster, Version::HTTP_11, get("/"), &policy()).await;
        assert_eq!(called.status(), 200);
        assert_eq!(called.tries, tried(2, Some(Ending::Success)));
    });
}

#[test]
fn what_one_endpoint_answers_badly_another_one_is_asked() {
    worker(async {
        let (bad, bad_server, _) = answering(503).await;
        let (good, good_server, _) = answering(200).await;
        let cluster = live(&upstreams(), cluster_of(&[bad, good]));
        begin_at(&cluster, bad);
        for _ in 0..10 {
            let called = call(&cluster, Version::HTTP_11, get("/"), &policy()).await;
            assert_eq!(called.status(), 200);
        }
        assert_eq!(good_server.requests.get(), 10);
        assert_eq!(bad_server.requests.get(), 10, "all began there");
        assert_eq!(bad_server.accepted.get(), 1, "its connection is used again");
    });
}

#[test]
fn what_is_left_of_a_bad_answer_is_read_for_the_sake_of_its_connection() {
    worker(async {
        let (address, server) = http1_that({
            let asked = Cell::new(0);
            move |_| {
                asked.set(asked.get() + 1);
                match asked.get() {
                    1 => Reply::Slowly(
                        "HTTP/1.1 503 Some\r\ncontent-length: 5\r\n\r\n".into(),
                        "sorry".into(),
                    ),
                    _ => Reply::status(200),
                }
            }
        })
        .await;
        let upstreams = upstreams();
        let cluster = live(&upstreams, cluster_of(&[address]));
        let patient = Retry {
            backoff: Backoff {
                base: Duration::from_millis(50),
                max: Duration::from_millis(50),
                jitter: false,
                ..policy().backoff
            },
            ..policy()
        };
        let called = call(&cluster, Version::HTTP_11, get("/"), &patient).await;
        assert_eq!(called.status(), 200);
        assert_eq!(called.tries, tried(2, Some(Ending::Success)));
        assert_eq!(server.accepted.get(), 1);
    });
}

#[test]
fn an_answer_that_stays_bad_is_passed_on_as_it_is() {
    worker(async {
        let (bad, server) = http1_that(|_| {
            Reply::Bytes("HTTP/1.1 503 Some\r\nx-mine: 1\r\ncontent-length: 5\r\n\r\nsorry".into())
        })
        .await;
        let cluster = live(&upstreams(), cluster_of(&[bad]));
        let called = call(&cluster, Version::HTTP_11, get("/"), &policy()).await;
        assert_eq!(called.tries, tried(3, Some(Ending::Exhausted)));
        assert_eq!(server.requests.get(), 3);
        let response = called.outcome.unwrap().response;
        assert_eq!(response.headers()["x-mine"], "1");
        assert_eq!(
            response.into_body().collect().await.unwrap().to_bytes(),
            "sorry"
        );
    });
}

#[test]
fn a_post_that_reached_nobody_is_sent_elsewhere_with_its_body() {
    worker(async {
        let (good, server, bodies) = answering(200).await;
        let cluster = live(&upstreams(), cluster_of(&[nobody(), good]));
        for _ in 0..2 {
            let post = streamed(Method::POST, &["one ", "two"]);
            let called = call(&cluster, Version::HTTP_11, post, &policy()).await;
            assert_eq!(called.status(), 200);
        }
        assert_eq!(server.requests.get(), 2);
        assert_eq!(*bodies.borrow(), [b"one two", b"one two"]);
    });
}

#[test]
fn a_post_that_was_answered_or_may_have_been_processed_is_not_sent_again() {
    worker(async {
        let (answers, server, _) = answering(503).await;
        let cluster = live(&upstreams(), cluster_of(&[answers]));
        let post = || request(Method::POST, "/", Body::full("pay"));
        let called = call(&cluster, Version::HTTP_11, post(), &policy()).await;
        assert_eq!(called.status(), 503);
        assert_eq!(called.tries, tried(1, Some(Ending::Unsafe)));
        assert_eq!(server.requests.get(), 1);
    });
    worker(async {
        let (cuts, server) = http1_that(|_| Reply::Cut("")).await;
        let cluster = live(&upstreams(), cluster_of(&[cuts]));
        let post = || request(Method::POST, "/", Body::full("pay"));
        let called = call(&cluster, Version::HTTP_11, post(), &policy()).await;
        assert_eq!(called.error(), RequestError::UpstreamReset);
        assert_eq!(called.tries, tried(1, Some(Ending::Unsafe)));
        assert_eq!(server.requests.get(), 1);
    });
}

/// Servers that count what each request did, and cut connections before, between and after.
#[test]
fn no_post_takes_effect_twice_over_connections_that_are_cut_at_random() {
    worker(async {
        let effects = Rc::<RefCell<HashMap<Vec<u8>, u32>>>::default();
        let rng = Rc::new(RefCell::new(fastrand::Rng::with_seed(7)));
        let mut addresses = Vec::new();
        for _ in 0..3 {
            let (effects, rng) = (effects.clone(), rng.clone());
            let (address, _) = http1_that(move |body| {
                *effects.borrow_mut().entry(body.to_vec()).or_default() += 1;
                match rng.borrow_mut().u32(..10) {
                    0 => Reply::Cut(""),
                    1 => Reply::Cut("HTTP/1.1 200 So"),
                    2 => Reply::status(503),
                    _ => Reply::status(200),
                }
            })
            .await;
            addresses.push(address);
        }
        // One that closes whatever it accepts, and one that is not there at all.
        let (closes, _) = servers::serve(|tcp, _, _| async move { drop(tcp) }).await;
        addresses.extend([closes, nobody()]);
        let cluster = live(&upstreams(), cluster_of(&addresses));
        let mut answered = 0;
        for number in 0..2_000 {
            let body = number.to_string();
            let post = request(Method::POST, "/", Body::full(body.clone()));
            let called = call(&cluster, Version::HTTP_11, post, &policy()).await;
            let good = called
                .outcome
                .is_ok_and(|sent| sent.response.status() == 200);
            answered += u32::from(good);
            if good {
                assert_eq!(effects.borrow().get(body.as_bytes()), Some(&1), "{body}");
            }
        }
        assert!(effects.borrow().values().all(|times| *times == 1));
        assert!(answered > 500, "{answered}");
    });
}

#[test]
fn a_body_is_replayed_to_the_last_byte_by_either_version() {
    worker(async {
        let (bad, _, first) = answering(503).await;
        let (good, _, second) = answering(200).await;
        let cluster = live(&upstreams(), cluster_of(&[bad, good]));
        begin_at(&cluster, bad);
        let put = streamed(Method::PUT, &["a", "bc", "def"]);
        let called = call(&cluster, Version::HTTP_11, put, &policy()).await;
        assert_eq!(called.status(), 200);
        assert_eq!(*first.borrow(), [b"abcdef"]);
        assert_eq!(*second.borrow(), [b"abcdef"]);
    });
    worker(async {
        let (bad, first) = http2_that(|_| answer(503)).await;
        let (good, second) = http2_that(|_| answer(200)).await;
        let cluster = live(&upstreams(), cluster_of(&[bad, good]));
        begin_at(&cluster, bad);
        let put = streamed(Method::PUT, &["a", "bc", "def"]);
        let called = call(&cluster, Version::HTTP_2, put, &policy()).await;
        assert_eq!(called.status(), 200);
        assert_eq!(*first.borrow(), ["PUT http://user.demo/ abcdef"]);
        assert_eq!(*second.borrow(), ["PUT http://user.demo/ abcdef"]);
    });
}

#[test]
fn a_body_beyond_the_limit_arrives_whole_and_is_not_sent_again() {
    worker(async {
        let (bad, server, bodies) = answering(503).await;
        let cluster = live(&upstreams(), cluster_of(&[bad]));
        let short = Retry {
            body_limit: 5,
            ..policy()
        };
        let mut put = streamed(Method::PUT, &["abc", "def"]);
        // Nothing says beforehand how long it is.
        put.headers_mut().remove(CONTENT_LENGTH);
        put.headers_mut().insert("content-length", 6.into());
        let called = call(&cluster, Version::HTTP_11, put, &short).await;
        assert_eq!(called.status(), 503);
        assert_eq!(called.tries, tried(1, Some(Ending::Body)));
        assert_eq!(*bodies.borrow(), [b"abcdef"]);
        assert_eq!(server.requests.get(), 1);
    });
}

#[test]
fn an_endpoint_that_asks_for_a_rest_gets_it() {
    worker(async {
        let (address, _) = http1_that({
            let asked = Cell::new(false);
            move |_| match asked.replace(true) {
                false => Reply::with(503, "retry-after: 1\r\n"),
                true => Reply::status(200),
            }
        })
        .await;
        let cluster = live(&upstreams(), cluster_of(&[address]));
        let keeps = Retry {
            retry_after: Some(Duration::from_secs(1)),
            ..policy()
        };
        let start = Instant::now();
        let called = call(&cluster, Version::HTTP_11, get("/"), &keeps).await;
        assert_eq!(called.status(), 200);
        assert!(start.elapsed() >= Duration::from_secs(1));
    });
    worker(async {
        let (address, server) = http1_that(|_| Reply::with(503, "retry-after: 2\r\n")).await;
        let cluster = live(&upstreams(), cluster_of(&[address]));
        let keeps = Retry {
            retry_after: Some(Duration::from_secs(1)),
            ..policy()
        };
        let called = call(&cluster, Version::HTTP_11, get("/"), &keeps).await;
        assert_eq!(called.status(), 503);
        assert_eq!(called.tries, tried(1, Some(Ending::RetryAfter)));
        assert_eq!(server.requests.get(), 1);
    });
}

#[test]
fn a_storm_stays_within_the_budget() {
    worker(async {
        let (bad, server, _) = answering(503).await;
        let config = Cluster {
            retry_budget: RetryBudget {
                ratio: Share::percent(20),
                floor: 0,
            },
            ..cluster(&[bad])
        };
        let cluster = live(&upstreams(), config);
        let mut refused = 0;
        for _ in 0..500 {
            let called = call(&cluster, Version::HTTP_11, get("/"), &policy()).await;
            assert_eq!(called.status(), 503);
            refused += u32::from(called.tries.ending == Some(Ending::Budget));
        }
        assert_eq!(server.requests.get(), 600);
        assert!(refused >= 400, "{refused}");
    });
}

#[test]
fn an_attempt_that_takes_too_long_is_given_up_for_another_endpoint() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        worker(async {
            let (silent, server) = servers::serve(|mut tcp, _, server| async move {
                let _ = tcp.read(&mut [0; 1_000]).await;
                server.until(|_| false).await;
            })
            .await;
            let (good, _) = match version {
                Version::HTTP_2 => servers::http2(10).await,
                _ => servers::http1().await,
            };
            let cluster = live(&upstreams(), cluster_of(&[silent, good]));
            begin_at(&cluster, silent);
            let impatient = Retry {
                per_try_timeout: Some(Duration::from_millis(50)),
                ..policy()
            };
            let called = call(&cluster, version, get("/"), &impatient).await;
            assert_eq!(called.status(), 200);
            assert_eq!(called.tries, tried(2, Some(Ending::Success)));
            assert_eq!(server.accepted.get(), 1);
        });
    }
}

#[test]
fn the_time_of_an_attempt_is_held_against_the_endpoint_and_may_have_been_enough_for_it() {
    worker(async {
        let (silent, server) = http1_that(|_| Reply::Nothing).await;
        let cluster = live(&upstreams(), cluster_of(&[silent]));
        let impatient = Retry {
            per_try_timeout: Some(Duration::from_millis(20)),
            ..policy()
        };
        let called = call(&cluster, Version::HTTP_11, get("/"), &impatient).await;
        assert_eq!(called.error(), RequestError::UpstreamTimeout);
        assert_eq!(called.tries, tried(3, Some(Ending::Exhausted)));
        assert_eq!(only_endpoint(&cluster).counters.failures.read(), 3);
        server.until(|server| server.open.get() == 0).await;

        let post = request(Method::POST, "/", Body::full("pay"));
        let called = call(&cluster, Version::HTTP_11, post, &impatient).await;
        assert_eq!(called.error(), RequestError::UpstreamTimeout);
        assert_eq!(called.tries, tried(1, Some(Ending::Unsafe)));
    });
}

#[test]
fn nobody_waits_for_an_attempt_beyond_the_end_of_the_request() {
    worker(async {
        let (bad, server, _) = answering(503).await;
        let cluster = live(&upstreams(), cluster_of(&[bad]));
        let slow = Retry {
            backoff: Backoff {
                base: Duration::from_secs(60),
                max: Duration::from_secs(60),
                jitter: false,
                ..policy().backoff
            },
            ..policy()
        };
        let deadline = Cell::new(Some(Instant::now() + Duration::from_secs(15)));
        let tries = Cell::default();
        let call = Call {
            retry: Some(&slow),
            deadline: Some(&deadline),
            tries: Some(&tries),
            ..Call::default()
        };
        let sent = cluster.call(Version::HTTP_11, &mut get("/"), &call).await;
        assert_eq!(sent.unwrap().response.status(), 503);
        assert_eq!(tries.get(), tried(1, Some(Ending::Late)));
        assert_eq!(server.requests.get(), 1);
    });
}

#[test]
fn a_stream_that_was_refused_is_sent_elsewhere_whatever_its_method() {
    worker(async {
        let (refuses, _) = servers::serve(|tcp, _, _| async move {
            let mut connection = h2::server::handshake(tcp).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        })
        .await;
        let (good, received) = http2_that(|_| answer(200)).await;
        let cluster = live(&upstreams(), cluster_of(&[refuses, good]));
        begin_at(&cluster, refuses);
        let post = streamed(Method::POST, &["on", "ce"]);
        let called = call(&cluster, Version::HTTP_2, post, &policy()).await;
        assert_eq!(called.status(), 200);
        assert_eq!(*received.borrow(), ["POST http://user.demo/ once"]);
    });
}

/// Answers every request under mutual TLS as the proxy of an application that is not there does.
async fn turning_away(
    identity: Identity,
    about: &'static str,
) -> (SocketAddr, Rc<servers::Observed>) {
    servers::serve(move |tcp, _, _| {
        let server = identity.current().unwrap().server.clone();
        async move {
            let address = tcp.local_addr().unwrap();
            let tls = net::tls::accept(Stream::tcp(tcp), server).await;
            let mut stream = tls.expect("the certificate is good");
            let about = about.replace("ITSELF", &address.to_string());
            let head =
                format!("HTTP/1.1 503 Some\r\nweft-error: {about}\r\ncontent-length: 0\r\n\r\n");
            let mut request = [0; 1_000];
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                stream.write_all(head.as_bytes()).await.unwrap();
            }
        }
    })
    .await
}

#[test]
fn the_proxy_of_an_endpoint_is_believed_that_its_application_has_not_seen_a_request() {
    const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";
    for (says, attempts) in [
        ("upstream-connect-failed; endpoint=ITSELF", 3),
        ("upstream-reset; endpoint=ITSELF", 1),
        ("upstream-connect-failed; endpoint=10.0.0.1:80", 1),
        ("upstream-connect-failed", 1),
    ] {
        worker(async {
            let ca = TestCa::root("mesh");
            let identity = |id| {
                let identity = Identity::new();
                let now = std::time::SystemTime::now();
                identity.install(ca.workload(id), None, now).unwrap();
                identity
            };
            let (address, _) = turning_away(identity(USER), says).await;
            let upstreams = upstreams_as(identity("spiffe://cluster.local/ns/demo/sa/order"), &[]);
            let meshed = Endpoint {
                identity: Some(USER.parse().unwrap()),
                ..Endpoint::clone(&endpoint(address))
            };
            let config = Cluster {
                endpoints: Arc::new([Arc::new(meshed)]),
                ..cluster_of(&[])
            };
            let cluster = live(&upstreams, config);
            let post = request(Method::POST, "/", Body::full("pay"));
            let called = call(&cluster, Version::HTTP_11, post, &policy()).await;
            assert_eq!(called.status(), 503);
            assert_eq!(called.tries.attempts, attempts, "{says}");
        });
    }
    worker(async {
        let own = Rc::new(OnceCell::<SocketAddr>::new());
        let (address, _) = http1_that({
            let own = own.clone();
            move |_| {
                let own = own.get().unwrap();
                let says = format!("weft-error: upstream-connect-failed; endpoint={own}\r\n");
                Reply::with(503, &says)
            }
        })
        .await;
        own.set(address).unwrap();
        let cluster = live(&upstreams(), cluster_of(&[address]));
        let post = request(Method::POST, "/", Body::full("pay"));
        let called = call(&cluster, Version::HTTP_11, post, &policy()).await;
        assert_eq!(called.tries, tried(1, Some(Ending::Unsafe)));
    });
}

#[test]
fn a_grpc_call_that_was_answered_with_trailers_only_is_tried_again_and_told_how_long_it_has() {
    worker(async {
        let timeouts = Rc::<RefCell<Vec<String>>>::default();
        let (address, received) = http2_that({
            let timeouts = timeouts.clone();
            move |request| {
                let timeout = request.headers()["grpc-timeout"].to_str().unwrap();
                timeouts.borrow_mut().push(timeout.to_owned());
                let unavailable = timeouts.borrow().len() == 1;
                let mut answer = answer(200);
                answer
                    .headers_mut()
                    .insert("grpc-status", if unavailable { 14 } else { 0 }.into());
                answer
            }
        })
        .await;
        let cluster = live(&upstreams(), cluster_of(&[address]));
        let mut post = request(Method::POST, "/demo.User/Get", Body::full("call"));
        post.headers_mut()
            .insert("grpc-timeout", "10S".parse().unwrap());
        let deadline = Cell::new(Some(Instant::now() + Duration::from_secs(10)));
        let retry = Retry {
            methods: [Method::POST].into(),
            ..policy()
        };
        let call = Call {
            retry: Some(&retry),
            deadline: Some(&deadline),
            ..Call::default()
        };
        let sent = cluster.call(Version::HTTP_2, &mut post, &call).await;
        assert_eq!(sent.unwrap().response.headers()["grpc-status"], "0");
        assert_eq!(received.borrow().len(), 2);
        let timeouts = timeouts.borrow();
        assert_eq!(timeouts[0], "10S");
        let left: u64 = timeouts[1].strip_suffix('u').unwrap().parse().unwrap();
        assert!(left < 10_000_000, "{left}");
    });
}

fn answer(status: u16) -> Response<http_body_util::Empty<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// Answers every HTTP/2 request as the test says, and keeps them with their bodies.
async fn http2_that(
    answer: impl Fn(&Request<hyper::body::Incoming>) -> Response<http_body_util::Empty<Bytes>> + 'static,
) -> (SocketAddr, Rc<RefCell<Vec<String>>>) {
    let answer = Rc::new(answer);
    let received = Rc::<RefCell<Vec<_>>>::default();
    let kept = received.clone();
    let (address, _) = servers::serve(move |tcp, _, _| {
        let (answer, kept) = (answer.clone(), kept.clone());
        async move {
            let service =
                hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                    let (answer, kept) = (answer.clone(), kept.clone());
                    async move {
                        let response = answer(&request);
                        let line = format!("{} {}", request.method(), request.uri());
                        let body = request.into_body().collect().await?.to_bytes();
                        let text = String::from_utf8_lossy(&body);
                        kept.borrow_mut().push(format!("{line} {text}"));
                        Ok::<_, hyper::Error>(response)
                    }
                });
            // Clients of these tests break off on purpose: how a connection ends is no failure.
            let _ = hyper::server::conn::http2::Builder::new(servers::LocalExecutor)
                .serve_connection(hyper_util::rt::TokioIo::new(tcp), service)
                .await;
        }
    })
    .await;
    (address, received)
}
