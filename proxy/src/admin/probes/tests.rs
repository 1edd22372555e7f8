use super::*;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::Request,
};
use std::net::SocketAddr;
use tokio::{io::AsyncReadExt, net::TcpStream};
use tower::ServiceExt;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Asks the health port for the one probe of container `app`.
async fn ask_for(probe: &str) -> (StatusCode, String) {
    get(
        &format!(r#"{{"app": {{"livez": {probe}}}}}"#),
        "/app-health/app/livez",
    )
    .await
}

async fn get(probes: &str, path: &str) -> (StatusCode, String) {
    let mut request = Request::get(path)
        .header("user-agent", "kube-probe/1.34")
        .body(Body::empty())
        .unwrap();
    let reached_at = ConnectInfo(ReachedAt(LOCALHOST));
    request.extensions_mut().insert(reached_at);
    let router = router(probes.parse().unwrap());
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn application(router: Router) -> SocketAddr {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn closed_port() -> u16 {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test]
async fn the_application_is_asked_as_the_kubelet_would() {
    let show = |request: Request<Body>| async move {
        let field = |name: &str| {
            let value = request.headers().get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let fields = ["host", "user-agent", "accept", "x-a"].map(field);
        format!("{} {}", request.uri(), fields.join(" "))
    };
    let address = application(Router::new().fallback(show)).await;
    let port = address.port();
    let (status, body) = ask_for(&format!(
        r#"{{"httpGet": {{"port": {port}, "path": "/live?deep=1"}}}}"#
    ))
    .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, format!("/live?deep=1 {address} kube-probe/1.34 */* "));
    let headers = r#"[{"name": "Host", "value": "a.example"}, {"name": "User-Agent", "value": "me"},
                      {"name": "x-a", "value": "1"}]"#;
    let (_, body) = ask_for(&format!(
        r#"{{"httpGet": {{"port": {port}, "httpHeaders": {headers}}}}}"#
    ))
    .await;
    assert_eq!(body, "/ a.example me */* 1");
}

#[tokio::test]
async fn a_failure_keeps_its_status_and_a_redirect_is_a_success() {
    for (answered, told) in [(204, 200), (302, 200), (399, 200), (404, 404), (503, 503)] {
        let status = StatusCode::from_u16(answered).unwrap();
        let router = Router::new().fallback(move || async move { status });
        let port = application(router).await.port();
        let (status, _) = ask_for(&format!(r#"{{"httpGet": {{"port": {port}}}}}"#)).await;
        assert_eq!(status.as_u16(), told, "{answered}");
    }
}

#[tokio::test]
async fn a_body_is_passed_on_as_far_as_the_kubelet_reads_it() {
    let router = Router::new().fallback(|| async { "x".repeat(1 << 20) });
    let port = application(router).await.port();
    let (status, body) = ask_for(&format!(r#"{{"httpGet": {{"port": {port}}}}}"#)).await;
    assert_eq!((status, body.len()), (StatusCode::OK, 10 * 1024));
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (status, _) = ask_for(&format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#)).await;
    assert_eq!(status, StatusCode::OK);
    let port = closed_port().await;
    let (status, body) = ask_for(&format!(r#"{{"tcpSocket": {{"port": {port}}}}}"#)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("cannot connect"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_answer_has_as_long_as_the_probe_says() {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let silent = tokio::spawn(async move {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.map(|_| heard)
    });
    let probe = format!(r#"{{"httpGet": {{"port": {port}}}, "timeoutSeconds": 7}}"#);
    let (status, body) = ask_for(&probe).await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(body, "no answer within 7s\n");
    // The connection is closed, not left behind.
    silent.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_good_enough_for_a_probe() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(["elsewhere.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
        let stream = acceptor.accept(stream).await.unwrap();
        let answer = hyper::service::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(http::Response::new("fine".to_owned()))
        });
        let io = hyper_util::rt::TokioIo::new(stream);
        hyper::server::conn::http1::Builder::new()
            .serve_connection(io, answer)
            .await
    });
    let probe = format!(r#"{{"httpGet": {{"port": {port}, "scheme": "HTTPS"}}}}"#);
    assert_eq!(ask_for(&probe).await, (StatusCode::OK, "fine".to_owned()));
}

/// A gRPC server of one answer: serves `up`, knows `down`, and nothing else.
async fn health(request: Request<Body>) -> axum::response::Response {
    use prost::Message;
    let body = to_bytes(request.into_body(), 1 << 10).await.unwrap();
    let asked = ask::HealthCheckRequest::decode(&body[5..]).unwrap();
    let answer = http::Response::builder().header("content-type", "application/grpc");
    let status = match asked.service.as_str() {
        "up" => ask::SERVING,
        "down" => 2,
        _ => {
            let unknown = answer.header("grpc-status", "5").body(Body::empty());
            return unknown.unwrap();
        }
    };
    let message = ask::HealthCheckResponse { status }.encode_to_vec();
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    frame.extend(message);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let body = http_body_util::Full::new(bytes::Bytes::from(frame));
    let body = http_body_util::BodyExt::with_trailers(body, async { Some(Ok(trailers)) });
    answer.body(Body::new(body)).unwrap()
}

#[tokio::test]
async fn grpc_is_fine_when_it_serves() {
    let port = application(
        Router::new().route("/grpc.health.v1.Health/Check", axum::routing::post(health)),
    )
    .await
    .port();
    let ask = |service: &str| {
        let probe = format!(r#"{{"grpc": {{"port": {port}, "service": "{service}"}}}}"#);
        async move { ask_for(&probe).await }
    };
    assert_eq!(ask("up").await, (StatusCode::OK, String::new()));
    let (status, body) = ask("down").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body, "status 2, not SERVING\n");
    let (status, _) = ask("other").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let port = closed_port().await;
    let (status, body) = ask_for(&format!(r#"{{"grpc": {{"port": {port}}}}}"#)).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("cannot connect"), "{body}");
}

#[tokio::test]
async fn only_what_is_defined_can_be_asked() {
    let probes = r#"{"app": {"livez": {"tcpSocket": {"port": 1}}}}"#;
    for path in ["/app-health/app/readyz", "/app-health/other/livez"] {
        assert_eq!(get(probes, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(
        get("{}", "/app-health/app/livez").await.0,
        StatusCode::NOT_FOUND
    );
}
