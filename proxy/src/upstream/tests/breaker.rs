//! What breakers make of real answers, and what becomes of requests when they are open.

use super::{servers::LocalExecutor, *};
use crate::snapshot::{Breaker, LoadBalancer, Share, breaker::Failures};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{cell::Cell, convert::Infallible};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufStream},
    net::TcpStream,
    task::spawn_local,
    time::{Instant, timeout},
};

const OPEN_FOR: Duration = Duration::from_secs(30);

/// The third failure in a row ejects, and one probe admits again.
fn breaker() -> Breaker {
    Breaker {
        consecutive_failures: NonZeroU32::new(3),
        failure_ratio: None,
        failures: Failures::default(),
        open_for: OPEN_FOR,
        max_open_for: OPEN_FOR,
        jitter: Duration::ZERO,
        half_open_requests: NonZeroU32::MIN,
        max_ejected: Share::percent(50),
    }
}

fn guarded(addresses: &[SocketAddr], breaker: Breaker) -> Cluster {
    Cluster {
        breaker: Some(Arc::new(breaker)),
        ..cluster(addresses)
    }
}

/// Answers HTTP/1.1 requests without body as their path says.
///
/// - a number: with this status.
/// - `/cut`: not at all, and closes.
/// - `/half`: with half of what it announces, and closes.
/// - `/wait`: never.
async fn http1() -> (SocketAddr, Rc<servers::Observed>) {
    http1_if(Rc::new(Cell::new(true))).await
}

/// The same, while it works; otherwise all it says is 503.
async fn http1_if(works: Rc<Cell<bool>>) -> (SocketAddr, Rc<servers::Observed>) {
    servers::serve(move |tcp, _, observed| serve(tcp, observed, works.clone())).await
}

async fn serve(tcp: TcpStream, observed: Rc<servers::Observed>, works: Rc<Cell<bool>>) {
    let mut tcp = BufStream::new(tcp);
    while let Some(path) = read_path(&mut tcp).await {
        observed.count_request();
        let answer = match path.as_str() {
            _ if !works.get() => status("503"),
            "/cut" => return,
            "/half" => "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok".to_owned(),
            "/wait" => std::future::pending().await,
            path => status(&path[1..]),
        };
        let sent = tcp.write_all(answer.as_bytes()).await;
        if sent.is_err() || tcp.flush().await.is_err() || path == "/half" {
            return;
        }
    }
}

fn status(status: &str) -> String {
    format!("HTTP/1.1 {status} Some\r\ncontent-length: 0\r\n\r\n")
}

async fn read_path(tcp: &mut BufStream<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if tcp.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    head.split(' ').nth(1).map(str::to_owned)
}

/// Answers every gRPC call with a message and, in trailers, the status that its query asks for.
async fn grpc() -> SocketAddr {
    let (address, _) = servers::serve(|tcp, _, _| async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let mut trailers = HeaderMap::new();
            let status = request.uri().query().unwrap().parse().unwrap();
            trailers.insert("grpc-status", status);
            Ok::<_, Infallible>(Response::new(StreamBody::new(stream::iter([
                Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"hello"))),
                Ok(Frame::trailers(trailers)),
            ]))))
        });
        let connection = http2::Builder::new(LocalExecutor);
        let _ = connection
            .serve_connection(TokioIo::new(tcp), service)
            .await;
    })
    .await;
    address
}

/// Sends a request and reads the answer to its end, however that comes. The status, or why there is none.
async fn call(cluster: &Rc<LiveCluster>, path: &str) -> Result<u16, RequestError> {
    let sent = cluster.send(Version::HTTP_11, &mut get(path)).await;
    let response = sent.map_err(|failed| failed.error)?.response;
    let status = response.status().as_u16();
    let _ = response.into_body().collect().await;
    Ok(status)
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[test]
fn an_endpoint_that_fails_gets_no_requests_until_a_probe_succeeds() {
    worker(async {
        let (address, server) = http1().await;
        let cluster = live(&upstreams(), guarded(&[address], breaker()));
        for _ in 0..3 {
            assert_eq!(call(&cluster, "/503").await, Ok(503));
        }
        assert_eq!(call(&cluster, "/200").await, Err(RequestError::CircuitOpen));
        assert_eq!(server.requests.get(), 3);

        pass(OPEN_FOR).await;
        assert_eq!(call(&cluster, "/503").await, Ok(503));
        assert_eq!(call(&cluster, "/200").await, Err(RequestError::CircuitOpen));

        pass(OPEN_FOR).await;
        assert_eq!(call(&cluster, "/200").await, Ok(200));
        assert_eq!(call(&cluster, "/503").await, Ok(503));
        assert_eq!(call(&cluster, "/200").await, Ok(200));
    });
}

#[test]
fn the_others_take_what_an_ejected_endpoint_does_not() {
    worker(async {
        let (works, server) = http1().await;
        let cluster = live(&upstreams(), guarded(&[nobody(), works], breaker()));
        let mut failures = 0;
        for _ in 0..10 {
            failures += u32::from(call(&cluster, "/200").await.is_err());
        }
        assert_eq!((failures, server.requests.get()), (3, 7));
    });
}

#[test]
fn an_endpoint_that_recovered_gets_its_probes_however_slow_it_was() {
    worker(async {
        let works = Rc::new(Cell::new(false));
        let (recovers, server) = http1_if(works.clone()).await;
        let (others, _) = http1().await;
        let upstreams = upstreams();
        let cluster = Cluster {
            load_balancer: LoadBalancer::PeakEwma {
                decay: Duration::from_secs(3600),
                default_rtt: Duration::from_millis(30),
            },
            ..guarded(&[recovers, others], breaker())
        };
        let cluster = live(&upstreams, cluster);
        let ejected = || {
            cluster
                .endpoints()
                .iter()
                .any(|one| !one.gate.admits(now()))
        };
        for _ in 0..1_000 {
            if ejected() {
                break;
            }
            call(&cluster, "/200").await.unwrap();
        }
        assert!(ejected(), "a thousand calls bring three failures");
        let failed = server.requests.get();
        works.set(true);
        pass(OPEN_FOR).await;
        upstreams.sweep(now());
        assert_eq!(call(&cluster, "/200").await, Ok(200));
        assert_eq!(server.requests.get(), failed + 1);
    });
}

#[test]
fn every_way_to_fail_counts() {
    worker(async {
        let (address, _) = http1().await;
        for path in ["/503", "/cut", "/half"] {
            let cluster = live(&upstreams(), guarded(&[address], breaker()));
            for _ in 0..3 {
                assert_ne!(call(&cluster, path).await, Err(RequestError::CircuitOpen));
            }
            let outcome = call(&cluster, "/200").await;
            assert_eq!(outcome, Err(RequestError::CircuitOpen), "{path}");
        }
    });
}

#[test]
fn a_grpc_status_in_trailers_counts() {
    worker(async {
        let cluster = Cluster {
            http_version: UpstreamHttp::Http2,
            ..guarded(&[grpc().await], breaker())
        };
        let cluster = live(&upstreams(), cluster);
        for status in ["14", "0", "14", "5", "14", "14", "14"] {
            assert_eq!(call(&cluster, &format!("/?{status}")).await, Ok(200));
        }
        assert_eq!(call(&cluster, "/?0").await, Err(RequestError::CircuitOpen));
    });
}

#[test]
fn requests_that_share_a_connection_that_cannot_be_made_count_one_by_one() {
    worker(async {
        let cluster = Cluster {
            http_version: UpstreamHttp::Http2,
            ..guarded(&[nobody()], breaker())
        };
        let cluster = live(&upstreams(), cluster);
        let calls = tokio::join!(
            call(&cluster, "/"),
            call(&cluster, "/"),
            call(&cluster, "/")
        );
        let failed = Err(RequestError::UpstreamConnectFailed);
        assert_eq!(calls, (failed, failed, failed));
        assert_eq!(call(&cluster, "/").await, Err(RequestError::CircuitOpen));
    });
}

#[test]
fn opaque_connections_that_cannot_be_made_count() {
    worker(async {
        let cluster = live(&upstreams(), guarded(&[nobody()], breaker()));
        for _ in 0..3 {
            let (error, _) = failed(cluster.connect().await);
            assert_eq!(error, RequestError::UpstreamConnectFailed);
        }
        let (error, _) = failed(cluster.connect().await);
        assert_eq!(error, RequestError::CircuitOpen);
    });
}

#[test]
fn a_caller_that_gives_up_is_not_held_against_the_endpoint() {
    worker(async {
        let (address, server) = http1().await;
        let cluster = live(&upstreams(), guarded(&[address], breaker()));
        for given_up in 1..=5 {
            let call = spawn_local({
                let cluster = cluster.clone();
                async move { call(&cluster, "/wait").await }
            });
            server
                .until(|server| server.requests.get() == given_up)
                .await;
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        assert_eq!(call(&cluster, "/200").await, Ok(200));
    });
}

#[test]
fn a_request_whose_time_is_over_is_held_against_the_endpoint() {
    worker(async {
        let (address, _) = http1().await;
        let cluster = live(&upstreams(), guarded(&[address], breaker()));
        for _ in 0..3 {
            let deadline = Cell::new(Some(Instant::now() + Duration::from_millis(5)));
            let mut request = get("/wait");
            let call = Call {
                deadline: Some(&deadline),
                ..Call::default()
            };
            let sent = cluster.call(Version::HTTP_11, &mut request, &call);
            assert!(timeout(Duration::from_millis(5), sent).await.is_err());
        }
        let outcome = call(&cluster, "/200").await;
        assert_eq!(outcome, Err(RequestError::CircuitOpen));
    });
}

#[test]
fn a_limit_is_not_held_against_the_endpoint() {
    worker(async {
        let (address, server) = http1().await;
        let one = NonZeroU32::MIN;
        let cluster = Cluster {
            limits: Limits {
                connections: one,
                pending: one,
                ..Limits::default()
            },
            connect_timeout: Duration::from_millis(10),
            ..guarded(&[address], breaker())
        };
        let cluster = live(&upstreams(), cluster);
        let holds = spawn_local({
            let cluster = cluster.clone();
            async move { call(&cluster, "/wait").await }
        });
        server.until(|server| server.requests.get() == 1).await;
        for _ in 0..5 {
            let outcome = call(&cluster, "/200").await;
            assert_eq!(outcome, Err(RequestError::MaxConnections));
        }
        holds.abort();
        assert!(holds.await.unwrap_err().is_cancelled());
        assert_eq!(call(&cluster, "/200").await, Ok(200));
    });
}

#[test]
fn a_push_keeps_what_the_breakers_know() {
    worker(async {
        let (address, _) = http1().await;
        let upstreams = upstreams();
        let cluster = live(&upstreams, guarded(&[address], breaker()));
        for _ in 0..2 {
            assert_eq!(call(&cluster, "/503").await, Ok(503));
        }
        live(&upstreams, guarded(&[address, nobody()], breaker()));
        live(&upstreams, guarded(&[address], breaker()));
        assert_eq!(call(&cluster, "/503").await, Ok(503));
        assert_eq!(call(&cluster, "/200").await, Err(RequestError::CircuitOpen));

        live(&upstreams, super::cluster(&[address]));
        assert_eq!(call(&cluster, "/200").await, Ok(200));
    });
}

#[test]
fn the_summary_says_which_endpoint_is_ejected_and_why() {
    worker(async {
        let (address, _) = http1().await;
        let status = Arc::default();
        let connector = WorkloadConnector::new(Identity::new(), []);
        let upstreams = sharing(connector, &Arc::default(), &status);
        let cluster = live(&upstreams, guarded(&[address], breaker()));
        let breaker = || status.summary().remove(0).endpoints.remove(0).breaker;
        let admitted = BreakerSummary {
            state: "admit",
            workers: 1,
            reason: None,
            since: None,
            until: None,
        };
        assert_eq!(breaker(), Some(admitted));
        for _ in 0..3 {
            assert_eq!(call(&cluster, "/503").await, Ok(503));
        }
        let ejected = breaker().unwrap();
        assert!(ejected.since < ejected.until, "{ejected:?}");
        assert_eq!(
            ejected,
            BreakerSummary {
                state: "eject",
                workers: 1,
                reason: Some("3 failures in a row, the last: status 503".to_owned()),
                ..ejected.clone()
            }
        );
        let summary = status.summary().remove(0).breakers.unwrap();
        assert_eq!((summary.ejected, summary.probed), (1, 0));
        assert_eq!(
            summary.transitions[0],
            TransitionSummary {
                to: "eject",
                reason: "consecutive-failures",
                count: 1,
            }
        );

        pass(OPEN_FOR).await;
        upstreams.sweep(now());
        assert_eq!(breaker().unwrap().state, "probe");
    });
}
