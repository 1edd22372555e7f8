use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use proptest::prelude::*;
use tokio::io::AsyncReadExt;

use super::{Handler, ServeEnd, serve};
use crate::{
    drain::Drain,
    error::RequestError,
    http::{
        body::{Body, BodyError},
        h1::{
            Upgrade, informational,
            testing::{Answer, Raw, collect, pieces},
        },
        limits::HttpLimits,
    },
    net::stream::Stream,
};

type Answered = Result<Response<Body>, RequestError>;

/// Serves one connection to a caller who follows `script`.
async fn conversation(handler: impl Handler, script: impl AsyncFnOnce(&mut Raw)) -> ServeEnd {
    let (caller, server) = Stream::pair().await;
    let limits = HttpLimits {
        header_timeout: Duration::from_millis(200),
        unread_body_bytes: 1000,
        ..HttpLimits::default()
    };
    let drain = Drain::new();
    let script = async {
        let mut caller = Raw(caller);
        script(&mut caller).await;
    };
    tokio::join!(serve(server, &limits, &drain, &handler), script).0
}

fn ok(body: impl Into<Bytes>) -> Answered {
    Ok(Response::new(Body::full(body)))
}

/// Answers with the method and the path, reading nothing.
async fn path(request: Request<Body>) -> Answered {
    ok(format!("{} {}", request.method(), request.uri().path()))
}

/// Answers with the request's body.
async fn echo(request: Request<Body>) -> Answered {
    Ok(Response::new(request.into_body()))
}

/// Answers with the request's body once it is all there.
async fn echo_whole(request: Request<Body>) -> Answered {
    ok(collect(request.into_body()).await?.0)
}

#[tokio::test]
async fn a_connection_carries_one_request_after_the_other() {
    let end = conversation(Answer(path), async |caller| {
        for _ in 0..3 {
            caller.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
            caller
                .expect("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nGET /a")
                .await;
        }
        caller.finish().await;
    })
    .await;
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let end = conversation(Answer(echo_whole), async |caller| {
        caller
            .send(
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none\
                 POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n\
                 POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthree",
            )
            .await;
        caller.expect("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await;
        caller.expect("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ntwo").await;
        caller
            .expect("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nthree")
            .await;
        assert_eq!(caller.rest().await, "");
    })
    .await;
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn head_and_body_leave_in_one_piece() {
    conversation(Answer(path), async |caller| {
        caller.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut first = [0; 1000];
        let read = caller.0.read(&mut first).await.expect("a response");
        assert!(first[..read].ends_with(b"\r\n\r\nGET /a"));
        caller.finish().await;
    })
    .await;
}

#[tokio::test]
async fn continue_is_said_when_the_handler_wants_the_body() {
    conversation(Answer(echo_whole), async |caller| {
        caller
            .send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
            .await;
        caller.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
        caller.send("abc").await;
        caller
            .expect("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc")
            .await;
        caller.finish().await;
    })
    .await;
}

#[tokio::test]
async fn continue_is_not_said_for_a_body_that_nobody_wants() {
    let end = conversation(Answer(path), async |caller| {
        caller
            .send(
                "POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
            )
            .await;
        caller
            .expect("HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nPOST /a")
            .await;
        assert_eq!(caller.rest().await, "");
        caller.finish().await;
    })
    .await;
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn hints_reach_callers_that_know_them() {
    let handler = Answer(|request| async {
        let mut headers = HeaderMap::new();
        headers.insert("link", HeaderValue::from_static("</a>"));
        informational::forward(StatusCode::EARLY_HINTS, &headers);
        tokio::task::yield_now().await;
        path(request).await
    });
    conversation(handler, async |caller| {
        caller.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        caller
            .expect("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n")
            .await;
        caller.expect("content-length: 5\r\n\r\nGET /").await;
        caller.send("GET / HTTP/1.0\r\n\r\n").await;
        caller.expect("HTTP/1.1 200 OK\r\n").await;
        caller.finish().await;
    })
    .await;
}

#[tokio::test]
async fn trailers_come_and_go() {
    let handler = Answer(|request: Request<Body>| async {
        let (body, trailers) = collect(request.into_body()).await?;
        let trailers = trailers.expect("the caller sent some");
        Ok(Response::new(Body::full(body).with_trailers(trailers)))
    });
    conversation(handler, async |caller| {
        caller
            .send("POST / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        caller.send("2\r\nab\r\n0\r\nx-a: b\r\n\r\n").await;
        caller
            .expect("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-a: b\r\n\r\n")
            .await;
        caller.finish().await;
    })
    .await;
}

#[tokio::test]
async fn responses_without_body_say_what_they_may() {
    let handler = Answer(|request: Request<Body>| async move {
        let status = request.uri().path()[1..].parse().expect("a status");
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = status;
        if request.method() == Method::HEAD || status == 304 {
            response
                .headers_mut()
                .insert("content-length", HeaderValue::from_static("9"));
        }
        Ok(response)
    });
    conversation(handler, async |caller| {
        for (line, response) in [
            ("HEAD /200", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"),
            ("GET /200", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            ("GET /204", "HTTP/1.1 204 No Content\r\n\r\n"),
            (
                "GET /304",
                "HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n",
            ),
        ] {
            caller
                .send(format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n"))
                .await;
            caller.expect(response).await;
        }
        caller.finish().await;
    })
    .await;
}

#[tokio::test]
async fn http10_is_answered_in_its_own_terms() {
    let handler = Answer(|request: Request<Body>| async move {
        match request.uri().path() {
            "/known" => ok("abc"),
            _ => Ok(Response::new(pieces([Ok("abc"), Ok("def")]))),
        }
    });
    let end = conversation(handler, async |caller| {
        caller
            .send("GET /known HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .await;
        caller
            .expect("HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\nabc")
            .await;
        caller
            .send("GET /unknown HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .await;
        assert_eq!(
            caller.rest().await,
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabcdef"
        );
    })
    .await;
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn a_caller_that_has_finished_sending_still_gets_its_answer() {
    let handler = Answer(|request| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        path(request).await
    });
    let end = conversation(handler, async |caller| {
        caller.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        caller.finish().await;
        assert_eq!(
            caller.rest().await,
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nGET /a"
        );
    })
    .await;
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn a_caller_that_resets_ends_the_handler() {
    struct Dropped(Rc<Cell<bool>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let dropped = Rc::new(Cell::new(false));
    let handler = Answer(|_: Request<Body>| async {
        let _guard = Dropped(dropped.clone());
        std::future::pending().await
    });
    let (caller, server) = Stream::pair().await;
    let (limits, drain) = (HttpLimits::default(), Drain::new());
    let script = async {
        let mut caller = Raw(caller);
        caller.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        tokio::task::yield_now().await;
        caller.0.reset_on_drop().expect("a socket");
        drop(caller);
    };
    let (end, ()) = tokio::join!(serve(server, &limits, &drain, &handler), script);
    assert_eq!(end, ServeEnd::Aborted(RequestError::DownstreamReset));
    assert!(dropped.get());
}

#[tokio::test]
async fn a_request_that_breaks_off_is_no_request() {
    let seen = RefCell::new(None);
    let handler = Answer(|request: Request<Body>| async {
        let error = collect(request.into_body()).await.expect_err("truncated");
        seen.replace(Some(error));
        Err(error.into())
    });
    let end = conversation(handler, async |caller| {
        caller
            .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")
            .await;
        caller.finish().await;
    })
    .await;
    assert_eq!(end, ServeEnd::Aborted(RequestError::DownstreamReset));
    assert_eq!(seen.take(), Some(BodyError::DownstreamReset));
}

#[tokio::test]
async fn a_broken_chunk_is_answered_and_ends_the_connection() {
    let end = conversation(Answer(echo_whole), async |caller| {
        caller
            .send(
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\nX\r\n0\r\n\r\n",
            )
            .await;
        let response = caller.rest().await;
        assert!(
            response.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{response}"
        );
        assert!(
            response.contains("\r\nweft-error: bad-request\r\n"),
            "{response}"
        );
        assert!(response.contains("\r\nconnection: close\r\n"), "{response}");
    })
    .await;
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn a_response_that_breaks_off_never_ends_cleanly() {
    let broken = |_| async {
        Ok(Response::new(pieces([
            Ok("abc"),
            Err(BodyError::UpstreamReset),
        ])))
    };
    let end = conversation(Answer(broken), async |caller| {
        caller.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let mut read = Vec::new();
        let _ = caller.0.read_to_end(&mut read).await;
        assert!(!read.ends_with(b"0\r\n\r\n"));
    })
    .await;
    assert_eq!(end, ServeEnd::Aborted(RequestError::UpstreamReset));

    conversation(Answer(broken), async |caller| {
        caller.send("GET / HTTP/1.0\r\n\r\n").await;
        let error = caller
            .0
            .read_to_end(&mut Vec::new())
            .await
            .expect_err("a reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_another_length_than_its_field_aborts() {
    let handler = Answer(|_| async {
        let mut response = Response::new(pieces([Ok("abc")]));
        response
            .headers_mut()
            .insert("content-length", HeaderValue::from_static("9"));
        Ok(response)
    });
    let end = conversation(handler, async |caller| {
        caller.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let _ = caller.0.read_to_end(&mut Vec::new()).await;
    })
    .await;
    assert_eq!(end, ServeEnd::Aborted(RequestError::UpstreamProtocolError));
}

#[tokio::test]
async fn an_upgraded_connection_keeps_what_was_read_too_far() {
    let handler = Answer(|_| async {
        let mut response = Response::new(Body::Upgrade(Upgrade::then(async |stream| {
            let mut stream = Raw(stream);
            stream.expect("early").await;
            stream.send("late").await;
        })));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert("connection", HeaderValue::from_static("upgrade"));
        headers.insert("upgrade", HeaderValue::from_static("x"));
        Ok(response)
    });
    let end = conversation(handler, async |caller| {
        caller
            .send("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly")
            .await;
        assert_eq!(
            caller.rest().await,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nlate"
        );
    })
    .await;
    assert_eq!(end, ServeEnd::Upgraded);
}

#[tokio::test]
async fn a_tunnel_joins_both_connections() {
    let (upstream, target) = Stream::pair().await;
    let upstream = RefCell::new(Some(upstream));
    let handler = Answer(|request: Request<Body>| {
        assert_eq!(request.uri(), "target:1");
        let upstream = upstream.take().expect("one request");
        async { Ok(Response::new(Body::Upgrade(Upgrade::to(upstream)))) }
    });
    let end = conversation(handler, async |caller| {
        let mut target = Raw(target);
        caller
            .send("CONNECT target:1 HTTP/1.1\r\nHost: target:1\r\n\r\nping")
            .await;
        target.expect("ping").await;
        target.send("pong").await;
        target.finish().await;
        caller.expect("HTTP/1.1 200 OK\r\n\r\npong").await;
        caller.finish().await;
    })
    .await;
    assert_eq!(end, ServeEnd::Upgraded);
}

#[tokio::test]
async fn a_small_rest_of_a_request_is_read_and_the_connection_goes_on() {
    conversation(Answer(path), async |caller| {
        caller
            .send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n")
            .await;
        caller
            .expect("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nPOST /a")
            .await;
        caller.send("b".repeat(900)).await;
        caller.send("GET /c HTTP/1.1\r\nHost: x\r\n\r\n").await;
        caller
            .expect("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nGET /c")
            .await;
        caller.finish().await;
    })
    .await;
}

#[tokio::test]
async fn a_large_rest_of_a_request_ends_the_connection_after_the_response() {
    let end = conversation(Answer(path), async |caller| {
        caller
            .send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
            .await;
        caller.send("b".repeat(50_000)).await;
        assert_eq!(
            caller.rest().await,
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nPOST /a"
        );
        caller.send("b".repeat(50_000)).await;
        caller.finish().await;
    })
    .await;
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn what_hides_behind_a_refused_request_is_never_a_request() {
    let handler = Answer(|_| async { panic!("a smuggled request was handled") });
    for request in [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\nContent-Length: 44\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\rGET /c HTTP/1.1\r\n\r\n",
    ] {
        let end = conversation(&handler, async |caller| {
            caller.send(request).await;
            caller
                .send("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
                .await;
            let response = caller.rest().await;
            assert!(
                response.starts_with("HTTP/1.1 400 Bad Request\r\n"),
                "{request}: {response}"
            );
            assert_eq!(
                response.matches("HTTP/1.1").count(),
                1,
                "{request}: {response}"
            );
        })
        .await;
        assert_eq!(
            end,
            ServeEnd::Refused(RequestError::BadRequest),
            "{request}"
        );
    }
}

impl<H: Handler> Handler for &H {
    fn handle(&self, request: &mut Request<Body>) -> impl Future<Output = Answered> {
        (**self).handle(request)
    }
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_timed_out() {
    let end = conversation(Answer(path), async |caller| {
        caller.send("GET / HTTP/1.1\r\nHost:").await;
        let response = caller.rest().await;
        assert!(
            response.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{response}"
        );
    })
    .await;
    assert_eq!(end, ServeEnd::Refused(RequestError::HeaderTimeout));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_a_word() {
    let end = conversation(Answer(path), async |caller| {
        caller.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        caller
            .expect("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nGET /")
            .await;
        assert_eq!(caller.rest().await, "");
    })
    .await;
    assert_eq!(end, ServeEnd::Idle);
}

#[tokio::test]
async fn a_draining_proxy_answers_what_is_on_its_way_and_closes() {
    let (caller, server) = Stream::pair().await;
    let (limits, drain) = (HttpLimits::default(), Drain::new());
    let script = async {
        let mut caller = Raw(caller);
        caller.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n").await;
        caller
            .expect("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nGET /a")
            .await;
        drain.start();
        tokio::task::yield_now().await;
        caller.send("GET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(
            caller.rest().await,
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nGET /b"
        );
    };
    let handler = Answer(path);
    let (end, ()) = tokio::join!(serve(server, &limits, &drain, &handler), script);
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn a_draining_proxy_gives_idle_connections_a_grace() {
    let (caller, server) = Stream::pair().await;
    let drain = Drain::new();
    let limits = HttpLimits {
        drain_grace: Duration::from_millis(50),
        ..HttpLimits::default()
    };
    let script = async {
        tokio::task::yield_now().await;
        let started = std::time::Instant::now();
        drain.start();
        assert_eq!(Raw(caller).rest().await, "");
        assert!(started.elapsed() >= Duration::from_millis(50));
    };
    let handler = Answer(path);
    let (end, ()) = tokio::join!(serve(server, &limits, &drain, &handler), script);
    assert_eq!(end, ServeEnd::Closed);
}

#[tokio::test]
async fn a_body_is_passed_on_as_it_comes() {
    conversation(Answer(echo), async |caller| {
        caller
            .send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        caller
            .expect("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        for _ in 0..3 {
            caller.send("3\r\nabc\r\n").await;
            caller.expect("3\r\nabc\r\n").await;
        }
        caller.send("0\r\n\r\n").await;
        caller.expect("0\r\n\r\n").await;
        caller.finish().await;
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_from_a_caller_make_it_panic(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
                Just(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
                Just(b"3\r\nabc\r\n".to_vec()),
                Just(b"0\r\n\r\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..30),
            ],
            0..6,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(conversation(Answer(echo_whole), async |caller| {
            caller.send(pieces.concat()).await;
            caller.finish().await;
            let _ = caller.0.read_to_end(&mut Vec::new()).await;
        }));
    }
}
