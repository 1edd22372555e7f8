//! Both sides joined, as in the proxy: a caller, `serve`, a handler that forwards, and an endpoint.

use std::time::Duration;

use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Connection, serve,
    testing::{Answer, Pool, Raw},
};
use crate::{
    drain::Drain,
    error::RequestError,
    http::{body::Body, limits::HttpLimits},
    net::stream::Stream,
};

/// Forwards one connection's requests between `caller` and `endpoint`, which run beside it.
async fn proxied<C: Future, E: Future>(
    caller: impl FnOnce(Raw) -> C,
    endpoint: impl FnOnce(Raw) -> E,
) -> (C::Output, E::Output) {
    let (caller_end, server) = Stream::pair().await;
    let (client, endpoint_end) = Stream::pair().await;
    let (limits, drain) = (HttpLimits::default(), Drain::new());
    let pool = Pool::default();
    pool.recycle().recycle(Connection::new(client, &limits));
    let handler = Answer(async |request: Request<Body>| forward(&pool, request).await);
    let (_, sent, answered) = tokio::join!(
        serve(server, &limits, &drain, &handler),
        caller(Raw(caller_end)),
        endpoint(Raw(endpoint_end)),
    );
    (sent, answered)
}

async fn forward(pool: &Pool, mut request: Request<Body>) -> Result<Response<Body>, RequestError> {
    let connection = pool.take().expect("the connection came back");
    let response = connection.send(&mut request, pool.recycle()).await;
    response.map_err(|error| error.error)
}

#[tokio::test]
async fn requests_pass_through_one_connection_on_each_side() {
    proxied(
        async |mut caller| {
            for _ in 0..3 {
                caller
                    .send("POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi")
                    .await;
                caller
                    .expect("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nyou")
                    .await;
            }
            caller.finish().await;
        },
        async |mut endpoint| {
            for _ in 0..3 {
                endpoint
                    .expect("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi")
                    .await;
                endpoint
                    .send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyou")
                    .await;
            }
        },
    )
    .await;
}

#[tokio::test]
async fn continue_and_hints_travel_from_end_to_end() {
    proxied(
        async |mut caller| {
            caller
                .send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
                .await;
            caller.expect("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n").await;
            caller.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
            caller.send("hi").await;
            caller.expect("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
            caller.finish().await;
        },
        async |mut endpoint| {
            endpoint
                .expect("POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
                .await;
            endpoint.send("HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n").await;
            endpoint.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            endpoint.expect("hi").await;
            endpoint.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        },
    )
    .await;
}

#[tokio::test]
async fn trailers_pass_in_both_directions() {
    proxied(
        async |mut caller| {
            caller
                .send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nb: c\r\n\r\n")
                .await;
            caller
                .expect("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nd: e\r\n\r\n")
                .await;
            caller.finish().await;
        },
        async |mut endpoint| {
            endpoint
                .expect("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nb: c\r\n\r\n")
                .await;
            endpoint
                .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nd: e\r\n\r\n")
                .await;
        },
    )
    .await;
}

#[tokio::test]
async fn an_upgraded_connection_passes_bytes_both_ways() {
    proxied(
        async |mut caller| {
            caller
                .send("GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\nping")
                .await;
            caller
                .expect("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: y\r\n\r\npong")
                .await;
            caller.finish().await;
            assert_eq!(caller.rest().await, "");
        },
        async |mut endpoint| {
            endpoint
                .expect("GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: y\r\n\r\n")
                .await;
            endpoint
                .send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: y\r\n\r\npong")
                .await;
            endpoint.expect("ping").await;
            assert_eq!(endpoint.rest().await, "");
            endpoint.finish().await;
        },
    )
    .await;
}

#[tokio::test]
async fn a_caller_that_gives_up_ends_the_request_upstream() {
    proxied(
        async |mut caller| {
            caller.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            caller.0.reset_on_drop().expect("a socket");
        },
        async |mut endpoint| {
            endpoint.expect("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert_eq!(endpoint.rest().await, "");
        },
    )
    .await;
}

/// More than the sockets of a loopback connection buffer.
const LARGE: usize = 16 << 20;
const PIECE: usize = 64 << 10;

async fn read_large(from: &mut (impl AsyncReadExt + Unpin)) {
    let (mut left, mut buffer) = (LARGE, vec![0; 64 << 10]);
    while left > 0 {
        let wanted = left.min(buffer.len());
        let read = from
            .read(&mut buffer[..wanted])
            .await
            .expect("the body goes on");
        assert_ne!(read, 0, "{left} bytes are missing");
        left -= read;
    }
}

async fn write_large(to: &mut (impl AsyncWriteExt + Unpin)) {
    write_pieces(to, LARGE / PIECE).await;
}

async fn write_pieces(to: &mut (impl AsyncWriteExt + Unpin), pieces: usize) {
    let piece = vec![b'x'; PIECE];
    for _ in 0..pieces {
        to.write_all(&piece).await.expect("the other side reads");
    }
}

fn head(line: &str) -> String {
    format!("{line}\r\nhost: x\r\ncontent-length: {LARGE}\r\n\r\n")
}

/// Large bodies in both directions. The endpoint answers at once, reads and writes at the same time, and ends
/// its response once it has the request.
async fn large_bodies(write_before_read: bool) {
    let exchange = proxied(
        async |mut caller| {
            caller.send(head("POST / HTTP/1.1")).await;
            if write_before_read {
                write_large(&mut caller.0).await;
                caller.expect(&head("HTTP/1.1 200 OK")).await;
                read_large(&mut caller.0).await;
            } else {
                let (mut reader, mut writer) = tokio::io::split(&mut caller.0);
                let read = async {
                    let mut skipped = vec![0; head("HTTP/1.1 200 OK").len()];
                    reader.read_exact(&mut skipped).await.expect("a head");
                    read_large(&mut reader).await;
                };
                tokio::join!(read, write_large(&mut writer));
            }
            caller.finish().await;
        },
        async |mut endpoint| {
            endpoint.expect(&head("POST / HTTP/1.1")).await;
            endpoint.send(head("HTTP/1.1 200 OK")).await;
            let (mut reader, mut writer) = tokio::io::split(&mut endpoint.0);
            let all_but_one = write_pieces(&mut writer, LARGE / PIECE - 1);
            tokio::join!(read_large(&mut reader), all_but_one);
            // An upload is given up when the response is over.
            write_pieces(&mut writer, 1).await;
        },
    );
    let in_time = tokio::time::timeout(Duration::from_secs(60), exchange);
    in_time.await.expect("nobody waits for the other");
}

#[tokio::test]
async fn large_bodies_pass_both_ways_at_once() {
    large_bodies(false).await;
}

#[tokio::test]
async fn a_caller_that_writes_all_before_it_reads_is_not_waited_for() {
    large_bodies(true).await;
}
