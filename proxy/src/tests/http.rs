//! Requests through two proxies.

use crate::testing::world::{
    ORDER, USER, destination, destination_with, pair, port, proxy, scenario,
};
use crate::{
    error::RequestError,
    snapshot::{MtlsMode, Protocol},
    telemetry::Direction,
    tls::testing::TestCa,
};
use ::http::{HeaderMap, Request, Response, StatusCode, Version};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::spawn_local,
};

/// An application that answers with the header fields that it received, `/slow` after a second, and any other path
/// after as many milliseconds as `takes-ms` says.
pub(super) async fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            spawn_local(async move {
                let _ = builder
                    .serve_connection(TokioIo::new(tcp), service_fn(echo))
                    .await;
            });
        }
    });
    address
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/slow" {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if let Some(takes) = request.headers().get("takes-ms") {
        let millis = takes.to_str().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let path = request.uri().path().to_owned();
    let version = request.version();
    let mut response = Response::builder().header("seen-path", path);
    for (name, value) in request.headers() {
        response = response.header(format!("seen-{name}"), value);
    }
    let body = request.into_body().collect().await.unwrap().to_bytes();
    Ok(response
        .header("seen-version", format!("{version:?}"))
        .body(Full::new(body))
        .unwrap())
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Sends one request over a connection of its own.
pub(super) async fn call(proxy: SocketAddr, request: Request<Full<Bytes>>) -> Answer {
    let tcp = TcpStream::connect(proxy).await.unwrap();
    let response = match request.version() {
        Version::HTTP_2 => {
            let (mut send, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                    .await
                    .unwrap();
            spawn_local(connection);
            send.send_request(request).await.unwrap()
        }
        _ => {
            let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp))
                .await
                .unwrap();
            spawn_local(connection);
            send.send_request(request).await.unwrap()
        }
    };
    let (head, body) = response.into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

pub(super) fn get(version: Version, target: &str) -> ::http::request::Builder {
    let builder = Request::get(target).version(version);
    match version {
        Version::HTTP_2 => builder,
        _ => builder.header(
            "host",
            target.parse::<::http::Uri>().unwrap().host().unwrap(),
        ),
    }
}

pub(super) fn nothing() -> Full<Bytes> {
    Full::default()
}

async fn through_two_proxies(version: Version) {
    let app = application().await;
    let pair = pair(app, "explicit", port(Protocol::Http, MtlsMode::Strict));
    let user = destination("user.demo:80", Protocol::Http, &[pair.user.inbound], true);
    pair.order.feed.publish(user);

    let request = get(version, "http://user/a/../b//c?d=1")
        .header("x-forwarded-client-cert", "URI=spiffe://somebody/else")
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap();
    let answer = call(pair.order.outbound, request).await;

    assert_eq!(answer.status, StatusCode::OK, "{:?}", answer.headers);
    assert_eq!(answer.body, "hello");
    assert_eq!(answer.header("seen-path"), Some("/b/c"));
    assert_eq!(
        answer.header("seen-version"),
        Some(&*format!("{version:?}"))
    );
    assert_eq!(answer.header("seen-x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(answer.header("seen-x-forwarded-proto"), Some("http"));
    assert!(answer.header("seen-traceparent").is_some());
    assert!(answer.header("seen-x-request-id").is_some());
    let caller = answer.header("seen-x-forwarded-client-cert").unwrap();
    assert!(caller.starts_with(&format!("By={USER};Hash=")), "{caller}");
    assert!(caller.ends_with(&format!("URI={ORDER}")), "{caller}");

    for (proxy, direction) in [
        (&pair.order, Direction::Outbound),
        (&pair.user, Direction::Inbound),
    ] {
        let edges = proxy.edges();
        let [(key, edge)] = &edges[..] else {
            panic!("one edge: {edges:?}");
        };
        assert_eq!(key.direction, direction);
        assert_eq!(&*key.destination.name, "user");
        assert!(key.mtls);
        assert_eq!(edge.requests.iter().flatten().sum::<u64>(), 1);
        assert_eq!(edge.errors.iter().sum::<u64>(), 0);
    }
}

#[tokio::test]
async fn http2_passes_two_proxies_with_mutual_tls() {
    scenario(through_two_proxies(Version::HTTP_2)).await;
}

#[tokio::test]
async fn http1_passes_two_proxies_with_mutual_tls() {
    scenario(through_two_proxies(Version::HTTP_11)).await;
}

#[tokio::test]
async fn what_the_mesh_does_not_know_is_not_found() {
    scenario(async {
        let order = proxy(&TestCa::root("mesh"), ORDER, &["--mode", "explicit"]);
        order.feed.unknown(&"nobody.demo:80".into(), None);
        let request = get(Version::HTTP_2, "http://nobody/")
            .body(nothing())
            .unwrap();
        let answer = call(order.outbound, request).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
        assert_eq!(answer.header("weft-error"), Some("unknown-destination"));
    })
    .await;
}

#[tokio::test]
async fn a_control_plane_that_is_silent_is_named_as_the_reason() {
    scenario(async {
        let order = proxy(&TestCa::root("mesh"), ORDER, &["--mode", "explicit"]);
        let request = get(Version::HTTP_2, "http://user/")
            .body(nothing())
            .unwrap();
        let answer = call(order.outbound, request).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("weft-error"), Some("config-unavailable"));
    })
    .await;
}

#[tokio::test]
async fn a_grpc_caller_gets_a_grpc_status() {
    scenario(async {
        let order = proxy(&TestCa::root("mesh"), ORDER, &["--mode", "explicit"]);
        order
            .feed
            .publish(destination("user.demo:80", Protocol::Http2, &[], true));
        let request = get(Version::HTTP_2, "http://user/demo.User/Get")
            .header("content-type", "application/grpc")
            .body(nothing())
            .unwrap();
        let answer = call(order.outbound, request).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("grpc-status"), Some("14"));
        assert_eq!(answer.header("weft-error"), Some("no-healthy-endpoint"));
        let edges = order.edges();
        let errors = &edges[0].1.errors;
        assert_eq!(errors[RequestError::NoHealthyEndpoint.index()], 1);
        assert_eq!(&*edges[0].0.service, "user");
    })
    .await;
}

#[tokio::test]
async fn a_response_that_takes_too_long_is_a_timeout() {
    scenario(async {
        let app = application().await;
        let order = proxy(&TestCa::root("mesh"), ORDER, &["--mode", "explicit"]);
        let timeout = Some(Duration::from_millis(50));
        order.feed.publish(destination_with(
            "user.demo:80",
            Protocol::Http2,
            &[app],
            false,
            timeout,
        ));
        let slow = |headers: &[(&str, &str)]| {
            let mut request = get(Version::HTTP_2, "http://user/slow");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            request.body(nothing()).unwrap()
        };
        let answer = call(order.outbound, slow(&[])).await;
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(answer.header("weft-error"), Some("request-timeout"));

        let grpc = ("content-type", "application/grpc");
        let answer = call(order.outbound, slow(&[grpc, ("grpc-timeout", "50m")])).await;
        assert_eq!(answer.header("grpc-status"), Some("4"));

        // A call may last for as long as its caller likes.
        let answer = call(order.outbound, slow(&[grpc])).await;
        assert_eq!(answer.header("weft-error"), None);
    })
    .await;
}

#[tokio::test]
async fn every_hop_holds_a_grpc_call_to_what_is_left_of_its_time() {
    scenario(async {
        let app = application().await;
        let pair = pair(app, "explicit", port(Protocol::Http, MtlsMode::Permissive));
        let user = destination("user.demo:80", Protocol::Http2, &[pair.user.inbound], true);
        pair.order.feed.publish(user);
        let grpc = |path: &str, timeout: &str| {
            get(Version::HTTP_2, &format!("http://user{path}"))
                .header("content-type", "application/grpc")
                .header("grpc-timeout", timeout)
                .body(nothing())
                .unwrap()
        };
        let answer = call(pair.order.outbound, grpc("/", "10S")).await;
        let left = answer.header("seen-grpc-timeout").unwrap();
        let left: u64 = left.strip_suffix('u').unwrap().parse().unwrap();
        assert!(left < 10_000_000, "{left}");

        let answer = call(pair.user.inbound, grpc("/slow", "50m")).await;
        assert_eq!(answer.header("grpc-status"), Some("4"));
        let error = answer.header("weft-error").unwrap();
        assert!(error.starts_with("request-timeout"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_path_that_can_be_read_in_two_ways_is_refused() {
    scenario(async {
        let app = application().await;
        let order = proxy(&TestCa::root("mesh"), ORDER, &["--mode", "explicit"]);
        order
            .feed
            .publish(destination("user.demo:80", Protocol::Http2, &[app], false));
        let request = get(Version::HTTP_2, "http://user/public/..%2fadmin")
            .body(nothing())
            .unwrap();
        let answer = call(order.outbound, request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.header("weft-error"), Some("bad-request"));
    })
    .await;
}

#[tokio::test]
async fn plaintext_is_taken_where_permitted_and_tells_no_identity() {
    scenario(async {
        let app = application().await;
        let pair = pair(app, "explicit", port(Protocol::Http, MtlsMode::Permissive));
        let request = get(Version::HTTP_2, "http://user/")
            .header("x-forwarded-client-cert", "URI=spiffe://somebody/else")
            .body(nothing())
            .unwrap();
        let answer = call(pair.user.inbound, request).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("seen-x-forwarded-client-cert"), None);
        assert!(!pair.user.edges()[0].0.mtls);
    })
    .await;
}

#[tokio::test]
async fn plaintext_is_refused_where_it_is_not_permitted() {
    scenario(async {
        let app = application().await;
        let pair = pair(app, "explicit", port(Protocol::Http, MtlsMode::Strict));
        let tcp = TcpStream::connect(pair.user.inbound).await.unwrap();
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                .await
                .unwrap();
        spawn_local(connection);
        let request = get(Version::HTTP_2, "http://user/")
            .body(Empty::<Bytes>::new())
            .unwrap();
        assert!(send.send_request(request).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_of_another_identity_is_not_spoken_to() {
    scenario(async {
        let app = application().await;
        let ca = TestCa::root("mesh");
        let order = proxy(&ca, ORDER, &["--mode", "explicit"]);
        let impostor = proxy(
            &ca,
            ORDER,
            &["--mode", "explicit", "--app-address", &app.to_string()],
        );
        let user = destination("user.demo:80", Protocol::Http2, &[impostor.inbound], true);
        order.feed.publish(user);
        let request = get(Version::HTTP_2, "http://user/")
            .body(nothing())
            .unwrap();
        let answer = call(order.outbound, request).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        let error = answer.header("weft-error").unwrap();
        assert!(
            error.starts_with("upstream-identity-mismatch; endpoint="),
            "{error}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight() {
    scenario(async {
        let app = application().await;
        let pair = pair(app, "explicit", port(Protocol::Http, MtlsMode::Strict));
        let user = destination("user.demo:80", Protocol::Http2, &[pair.user.inbound], true);
        pair.order.feed.publish(user);
        let request = get(Version::HTTP_2, "http://user/slow")
            .body(nothing())
            .unwrap();
        let outbound = pair.order.outbound;
        let in_flight = spawn_local(async move { call(outbound, request).await });
        while pair.user.drain.in_flight() == 0 {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        pair.user.drain.start();
        pair.order.drain.start();
        assert_eq!(in_flight.await.unwrap().status, StatusCode::OK);
        pair.user.drain.all_done().await;
        pair.order.drain.all_done().await;
    })
    .await;
}
