//! Copies of requests.

use super::*;

#[tokio::test]
async fn a_mirror_gets_what_the_backend_gets_under_another_host() {
    scenario(async {
        let (app, shadow) = (app("user").await, app("shadow").await);
        let order = order(vec![forwarding(Forward {
            mirrors: mirror(shadow.address),
            path: Some(PathRewrite::Full("/new".into())),
            ..to(&app)
        })]);
        for version in VERSIONS {
            for body in ["", "hello"] {
                let request = Request::post("http://user/old")
                    .version(version)
                    .header("host", "user")
                    .body(Full::from(body))
                    .unwrap();
                let answer = call(order.outbound, request).await;
                assert_eq!(answer.header("answered-by"), Some("user"));
                let (original, copy) = (app.only().await, shadow.only().await);
                for seen in [&original, &copy] {
                    assert_eq!((&*seen.target, &*seen.body), ("/new", body.as_bytes()));
                }
                assert_eq!((&*original.host, &*copy.host), ("user", "user-shadow"));
                assert_eq!(original.headers["traceparent"], copy.headers["traceparent"]);
            }
        }
        while order.mirrored(Mirrored::Answered) < 4 {
            tokio::task::yield_now().await;
        }
        let edges = order.edges();
        assert_eq!(
            edges.len(),
            1,
            "mirrored requests are none of the caller's: {edges:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn trailers_reach_the_backend_and_the_mirror() {
    scenario(async {
        let (app, shadow) = (app("user").await, app("shadow").await);
        let order = order(vec![forwarding(Forward {
            mirrors: mirror(shadow.address),
            ..to(&app)
        })]);
        let tcp = TcpStream::connect(order.outbound).await.unwrap();
        let io = TokioIo::new(tcp);
        let (mut send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                .await
                .unwrap();
        spawn_local(connection);
        let trailers = HeaderMap::from_iter([(name("x-checksum"), value("1"))]);
        let own = trailers.clone();
        let body = Full::new(Bytes::from_static(b"hello"))
            .with_trailers(std::future::ready(Some(Ok(own))));
        let request = Request::post("http://user/")
            .version(Version::HTTP_2)
            .body(body)
            .unwrap();
        assert!(
            send.send_request(request)
                .await
                .unwrap()
                .status()
                .is_success()
        );
        for seen in [app.only().await, shadow.only().await] {
            assert_eq!(seen.body, "hello");
            assert_eq!(seen.trailers.as_ref(), Some(&trailers));
        }
    })
    .await;
}

#[tokio::test]
async fn a_mirror_that_never_answers_slows_nobody_and_is_bounded() {
    const IN_FLIGHT: u64 = 128;
    scenario(async {
        let app = app("user").await;
        // Takes connections in its backlog and nothing more.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let order = order(vec![forwarding(Forward {
            mirrors: mirror(silent.local_addr().unwrap()),
            ..to(&app)
        })]);
        let mut send = connection(&order).await;
        for _ in 0..IN_FLIGHT + 2 {
            let request = get(Version::HTTP_2, "http://user/")
                .body(nothing())
                .unwrap();
            let answer = send.send_request(request).await.unwrap();
            assert_eq!(answer.headers()["answered-by"], "user");
        }
        assert_eq!(order.mirrored(Mirrored::Busy), 2);
        assert_eq!(order.mirrored(Mirrored::Answered), 0);
    })
    .await;
}

#[tokio::test]
async fn a_long_body_reaches_the_backend_and_not_the_mirror() {
    scenario(async {
        let (app, shadow) = (app("user").await, app("shadow").await);
        let order = order(vec![forwarding(Forward {
            mirrors: mirror(shadow.address),
            ..to(&app)
        })]);
        let long = Bytes::from(vec![b'a'; 64 * 1024 + 1]);
        for version in VERSIONS {
            let request = Request::post("http://user/")
                .version(version)
                .header("host", "user")
                .body(Full::new(long.clone()))
                .unwrap();
            call(order.outbound, request).await;
            assert_eq!(app.only().await.body, long);
        }
        assert_eq!(order.mirrored(Mirrored::TooLong), 2);
        assert_eq!(shadow.count(), 0);
    })
    .await;
}
