use std::{rc::Rc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::{Connection, Progress, Recycle, SendError};
use crate::{
    error::RequestError,
    http::{
        body::{Body, BodyError},
        h1::testing::{Pool, Raw, collect, endpoint, pieces},
        limits::HttpLimits,
    },
    net::stream::Stream,
};

fn get() -> Request<Body> {
    let mut request = Request::new(Body::Empty);
    request
        .headers_mut()
        .insert("host", "x".parse().expect("a host"));
    request
}

fn post(body: Body) -> Request<Body> {
    let mut request = get();
    *request.method_mut() = Method::POST;
    *request.body_mut() = body;
    request
}

async fn send(
    connection: Connection,
    mut request: Request<Body>,
    pool: &Rc<dyn Recycle>,
) -> Result<Response<Body>, SendError> {
    connection.send(&mut request, pool.clone()).await
}

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

/// Sends a GET, answers it with `response`, and reads the body.
async fn answered(response: &str) -> (Result<(StatusCode, Bytes), RequestError>, Pool) {
    let (connection, mut endpoint) = endpoint().await;
    let pool = Pool::default();
    let script = async {
        endpoint.expect(GET).await;
        endpoint.send(response).await;
        endpoint.finish().await;
    };
    let exchange = async {
        let response = connection
            .send(&mut get(), pool.recycle())
            .await
            .map_err(|error| error.error)?;
        let status = response.status();
        let (body, _) = collect(response.into_body()).await?;
        Ok((status, body))
    };
    let (result, ()) = tokio::join!(exchange, script);
    (result, pool)
}

#[tokio::test]
async fn a_connection_goes_back_to_its_pool_after_each_response() {
    let (connection, mut endpoint) = endpoint().await;
    let pool = Pool::default();
    connection.recycle(&pool);
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc",
    ] {
        let mut connection = pool.take().expect("recycled");
        assert!(connection.is_open());
        let script = async {
            endpoint.expect(GET).await;
            // A body that does not come with its head is streamed.
            let (head, body) = response.split_once("\r\n\r\n").expect("both");
            endpoint.send(format!("{head}\r\n\r\n")).await;
            tokio::task::yield_now().await;
            endpoint.send(body).await;
        };
        let exchange = async {
            let response = connection
                .send(&mut get(), pool.recycle())
                .await
                .expect("a response");
            collect(response.into_body()).await.expect("a body").0
        };
        let (body, ()) = tokio::join!(exchange, script);
        assert_eq!(body, "abc", "{response}");
        assert_eq!(pool.len(), 1, "{response}");
    }
    assert_eq!(pool.take().expect("recycled").requests(), 3);
}

#[tokio::test]
async fn every_end_of_a_response_decides_over_its_connection() {
    for (response, body, reused) in [
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            "abc",
            true,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", true),
        (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n",
            "",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc",
            "abc",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nabc", "abc", false),
        (
            "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nabc",
            "abc",
            false,
        ),
        // Unasked bytes behind a response may be the answer to a smuggled request.
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcHTTP/1.1",
            "abc",
            false,
        ),
    ] {
        let (result, pool) = answered(response).await;
        assert_eq!(result.expect(response).1, body, "{response}");
        assert_eq!(pool.len(), usize::from(reused), "{response}");
    }
}

#[tokio::test]
async fn a_response_that_breaks_off_or_breaks_http_is_an_error() {
    for (response, error) in [
        ("", RequestError::UpstreamReset),
        ("HTTP/1.1 200", RequestError::UpstreamReset),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
            RequestError::UpstreamReset,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            RequestError::UpstreamReset,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
            RequestError::UpstreamProtocolError,
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            RequestError::UpstreamProtocolError,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            RequestError::UpstreamProtocolError,
        ),
        ("SSH-2.0-x\r\n\r\n", RequestError::UpstreamProtocolError),
    ] {
        let (result, pool) = answered(response).await;
        assert_eq!(result.err(), Some(error), "{response}");
        assert_eq!(pool.len(), 0, "{response}");
    }
}

#[tokio::test]
async fn a_response_to_head_has_no_body() {
    let (connection, mut endpoint) = endpoint().await;
    let pool = Pool::default();
    let mut request = get();
    *request.method_mut() = Method::HEAD;
    let script = async {
        endpoint.expect("HEAD / HTTP/1.1\r\n").await;
        endpoint
            .send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n")
            .await;
    };
    let recycle = pool.recycle();
    let (response, ()) = tokio::join!(connection.send(&mut request, recycle.clone()), script);
    let response = response.expect("a response");
    assert_eq!(response.headers()["content-length"], "3");
    assert!(matches!(response.body(), Body::Empty));
    assert_eq!(pool.len(), 1);
}

#[tokio::test]
async fn a_closed_connection_hands_the_request_back_untouched() {
    let (mut connection, mut endpoint) = endpoint().await;
    endpoint.finish().await;
    assert!(!connection.is_open());
    // The kernel knows at once, the runtime after its next look.
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut request = post(pieces([Ok("abc")]));
    let error = connection
        .send(&mut request, Pool::default().recycle())
        .await
        .expect_err("closed");
    assert_eq!(error.error, RequestError::UpstreamReset);
    assert_eq!(error.progress, Progress::Unsent);
    let body = request.into_body();
    assert_eq!(collect(body).await.expect("untouched").0, "abc");
}

#[tokio::test]
async fn a_connection_with_unasked_bytes_is_not_used() {
    let (mut connection, mut endpoint) = endpoint().await;
    assert!(connection.is_open());
    endpoint.send("HTTP/1.1 408 Request Timeout\r\n\r\n").await;
    assert!(!connection.is_open());
    tokio::time::sleep(Duration::from_millis(1)).await;
    let recycle = Pool::default().recycle();
    let error = connection
        .send(&mut get(), recycle.clone())
        .await
        .expect_err("unasked");
    assert_eq!(error.progress, Progress::Unsent);
}

#[tokio::test]
async fn a_reused_connection_that_closes_in_silence_is_told_from_a_failed_request() {
    let (connection, mut endpoint) = endpoint().await;
    let pool = Pool::default();
    let (recycle, script) = (pool.recycle(), async {
        endpoint.expect(GET).await;
        endpoint
            .send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
    });
    tokio::join!(send(connection, get(), &recycle), script)
        .0
        .expect("a response");

    let connection = pool.take().expect("recycled");
    let script = async {
        endpoint
            .expect("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc")
            .await;
        endpoint.finish().await;
    };
    let mut request = post(Body::full("abc"));
    let (error, ()) = tokio::join!(connection.send(&mut request, recycle.clone()), script);
    let error = error.expect_err("no response");
    assert_eq!(error.progress, Progress::ReusedClosed);
    assert_eq!(collect(request.into_body()).await.expect("whole").0, "abc");

    let (connection, mut endpoint) = super::super::testing::endpoint().await;
    let script = async {
        endpoint.expect(GET).await;
        endpoint.finish().await;
    };
    let (error, ()) = tokio::join!(send(connection, get(), &recycle), script);
    assert_eq!(error.expect_err("no response").progress, Progress::Sent);
}

#[tokio::test]
async fn a_held_body_waits_for_continue() {
    let (connection, mut endpoint) = endpoint().await;
    let mut request = post(Body::full("abc"));
    request
        .headers_mut()
        .insert("expect", "100-continue".parse().expect("a value"));
    let script = async {
        endpoint
            .expect(
                "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
            )
            .await;
        let mut none = [0];
        let early = tokio::time::timeout(Duration::from_millis(50), endpoint.0.read(&mut none));
        assert!(early.await.is_err(), "the body is held back");
        endpoint.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        endpoint.expect("abc").await;
        endpoint
            .send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let pool = Pool::default();
    let recycle = pool.recycle();
    let (response, ()) = tokio::join!(connection.send(&mut request, recycle.clone()), script);
    assert_eq!(response.expect("a response").status(), StatusCode::OK);
    assert_eq!(pool.len(), 1);
}

#[tokio::test]
async fn a_held_body_is_sent_after_a_while_and_dropped_after_a_refusal() {
    let expecting = || {
        let mut request = post(Body::full("abc"));
        request
            .headers_mut()
            .insert("expect", "100-continue".parse().expect("a value"));
        request
    };
    let limits = HttpLimits {
        continue_timeout: Duration::from_millis(20),
        ..HttpLimits::default()
    };
    let pool = Pool::default();
    let recycle = pool.recycle();

    let (near, far) = Stream::pair().await;
    let script = async {
        let mut endpoint = Raw(far);
        endpoint.expect("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc").await;
        endpoint
            .send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let connection = Connection::new(near, &limits);
    tokio::join!(send(connection, expecting(), &recycle), script)
        .0
        .expect("a response");

    pool.take();
    let (connection, mut endpoint) = endpoint().await;
    let script = async {
        endpoint
            .expect(
                "POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
            )
            .await;
        endpoint
            .send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n")
            .await;
        assert_eq!(
            endpoint.rest().await,
            "",
            "the connection can't be used again"
        );
    };
    let (response, ()) = tokio::join!(send(connection, expecting(), &recycle), script);
    assert_eq!(
        response.expect("a response").status(),
        StatusCode::EXPECTATION_FAILED
    );
    assert_eq!(pool.len(), 0);
}

#[tokio::test]
async fn bodies_of_unknown_length_go_out_in_chunks_with_trailers() {
    let (connection, mut endpoint) = endpoint().await;
    let mut trailers = http::HeaderMap::new();
    trailers.insert("a", "b".parse().expect("a value"));
    let mut request = post(pieces([Ok("abc"), Ok("de")]).with_trailers(trailers));
    let script = async {
        endpoint
            .expect("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        endpoint
            .expect("3\r\nabc\r\n2\r\nde\r\n0\r\na: b\r\n\r\n")
            .await;
        endpoint
            .send(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nc: d\r\n\r\n",
            )
            .await;
    };
    let recycle = Pool::default().recycle();
    let (response, ()) = tokio::join!(connection.send(&mut request, recycle.clone()), script);
    let (body, trailers) = collect(response.expect("a response").into_body())
        .await
        .expect("a body");
    assert_eq!(
        (&body[..], &trailers.expect("trailers")["c"]),
        (&b"x"[..], &"d".parse().expect("a value"))
    );
}

#[tokio::test]
async fn an_early_response_does_not_stop_the_upload() {
    let (connection, mut endpoint) = endpoint().await;
    let pool = Pool::default();
    let recycle = pool.recycle();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let body = Body::boxed(http_body_util::StreamBody::new(futures_util::stream::once(
        async move {
            receiver.await.map_err(|_| BodyError::Internal)?;
            Ok(http_body::Frame::data(Bytes::from_static(b"late")))
        },
    )));
    let script = async {
        endpoint
            .expect("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        endpoint
            .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
            .await;
        sender.send(()).expect("the upload goes on");
        endpoint.expect("4\r\nlate\r\n0\r\n\r\n").await;
        endpoint.send("1\r\nb\r\n0\r\n\r\n").await;
    };
    let exchange = async {
        let response = connection
            .send(&mut post(body), recycle.clone())
            .await
            .expect("a response");
        collect(response.into_body()).await.expect("a body").0
    };
    assert_eq!(tokio::join!(exchange, script).0, "ab");
    assert_eq!(pool.len(), 1);
}

#[tokio::test]
async fn a_response_that_is_over_before_the_upload_ends_the_connection() {
    let (connection, mut endpoint) = endpoint().await;
    let pool = Pool::default();
    let recycle = pool.recycle();
    let body = Body::boxed(http_body_util::StreamBody::new(
        futures_util::stream::pending(),
    ));
    let script = async {
        endpoint
            .expect("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        endpoint
            .send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig")
            .await;
        assert_eq!(endpoint.rest().await, "");
    };
    let exchange = async {
        let response = connection
            .send(&mut post(body), recycle.clone())
            .await
            .expect("a response");
        collect(response.into_body()).await.expect("a body").0
    };
    assert_eq!(tokio::join!(exchange, script).0, "big");
    assert_eq!(pool.len(), 0);
}

#[tokio::test]
async fn a_failed_upload_fails_the_request() {
    let (connection, mut endpoint) = endpoint().await;
    let body = pieces([Ok("abc"), Err(BodyError::DownstreamReset)]);
    let recycle = Pool::default().recycle();
    let error = connection
        .send(&mut post(body), recycle.clone())
        .await
        .expect_err("no response");
    assert_eq!(error.error, RequestError::DownstreamReset);
    let mut sent = String::new();
    let _ = endpoint.0.read_to_string(&mut sent).await;
    assert!(!sent.ends_with("0\r\n\r\n"), "{sent}");
}

#[tokio::test]
async fn a_switched_connection_keeps_what_was_read_too_far() {
    let (connection, mut endpoint) = endpoint().await;
    let mut request = get();
    request
        .headers_mut()
        .insert("connection", "upgrade".parse().expect("a value"));
    request
        .headers_mut()
        .insert("upgrade", "x".parse().expect("a value"));
    let script = async {
        endpoint
            .expect("GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n")
            .await;
        endpoint.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nearly").await;
    };
    let recycle = Pool::default().recycle();
    let (response, ()) = tokio::join!(connection.send(&mut request, recycle.clone()), script);
    let upgrade = response
        .expect("a response")
        .into_body()
        .take_upgrade()
        .expect("one");
    let mut stream = Raw(upgrade.into_upstream().expect("a stream"));
    stream.expect("early").await;
}

#[tokio::test]
async fn dropping_a_response_closes_its_connection() {
    let (connection, mut endpoint) = endpoint().await;
    let pool = Pool::default();
    let recycle = pool.recycle();
    let script = async {
        endpoint.expect(GET).await;
        endpoint
            .send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
            .await;
        assert_eq!(endpoint.rest().await, "");
    };
    let exchange = async {
        drop(
            connection
                .send(&mut get(), recycle.clone())
                .await
                .expect("a response"),
        );
    };
    tokio::join!(exchange, script);
    assert_eq!(pool.len(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_from_an_endpoint_make_it_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just("HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
                Just("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_owned()),
                Just("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_owned()),
                Just("3\r\nabc\r\n".to_owned()),
                Just("0\r\n\r\n".to_owned()),
                ".{0,20}",
            ],
            0..6,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (_, pool) = runtime.block_on(answered(&pieces.concat()));
        prop_assert!(pool.len() <= 1);
    }
}
