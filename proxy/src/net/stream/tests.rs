use super::*;
use crate::net::tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Awaits what is under test rather than a delay: the kernel delivers over loopback in its own time.
async fn idle_becomes(stream: &mut Stream, expected: Idle) {
    for _ in 0..10_000 {
        if stream.idle() == expected {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{:?} instead of {expected:?}", stream.idle());
}

#[tokio::test]
async fn peeked_bytes_are_read_again() {
    let (mut client, mut server) = Stream::pair().await;
    client.write_all(b"hello").await.unwrap();
    assert_eq!(server.peek(5).await.unwrap(), b"hello");
    assert_eq!(server.peek(1).await.unwrap(), b"hello");
    client.write_all(b" world").await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = String::new();
    server.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "hello world");
}

#[tokio::test]
async fn a_peek_shows_less_only_at_the_end() {
    let (mut client, mut server) = Stream::pair().await;
    client.write_all(b"end").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(server.peek(100).await.unwrap(), b"end");
}

#[tokio::test]
async fn an_abandoned_peek_loses_nothing() {
    let (mut client, mut server) = Stream::pair().await;
    client.write_all(b"abc").await.unwrap();
    server.peek(1).await.unwrap();
    tokio::select! {
        biased;
        _ = server.peek(4) => panic!("there are only three bytes"),
        () = tokio::task::yield_now() => {}
    }
    let mut received = [0; 3];
    server.read_exact(&mut received).await.unwrap();
    assert_eq!(&received, b"abc");
}

#[tokio::test]
async fn bytes_given_back_come_before_peeked_ones() {
    let (mut client, mut server) = Stream::pair().await;
    client.write_all(b"tail").await.unwrap();
    client.shutdown().await.unwrap();
    server.peek(4).await.unwrap();
    server.unread(BytesMut::from("head "));
    let mut received = String::new();
    server.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "head tail");
}

#[tokio::test]
async fn the_bare_socket_is_there_only_when_nothing_was_peeked_at() {
    let (mut client, mut server) = Stream::pair().await;
    client.write_all(b"x").await.unwrap();
    server.peek(1).await.unwrap();
    let mut server = server.into_plain_tcp().unwrap_err();
    server.take_peeked();
    server.into_plain_tcp().unwrap();

    let (client, _server) = tls::pair().await;
    assert!(client.into_plain_tcp().is_err());
}

#[tokio::test]
async fn an_idle_plaintext_stream_tells_what_waits() {
    let (mut client, mut server) = Stream::pair().await;
    assert_eq!(server.idle(), Idle::Quiet);
    client.write_all(b"x").await.unwrap();
    idle_becomes(&mut server, Idle::Readable).await;
    assert_eq!(server.read_u8().await.unwrap(), b'x');
    drop(client);
    idle_becomes(&mut server, Idle::Closed).await;
}

#[tokio::test]
async fn an_idle_tls_stream_tells_what_waits() {
    let (mut client, mut server) = tls::pair().await;
    // The server's session tickets have arrived: they are no data.
    client.socket().readable().await.unwrap();
    assert_eq!(client.idle(), Idle::Quiet);
    server.write_all(b"x").await.unwrap();
    idle_becomes(&mut client, Idle::Readable).await;
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    assert_eq!(client.idle(), Idle::Quiet);
    server.shutdown().await.unwrap();
    idle_becomes(&mut client, Idle::Closed).await;
}

#[tokio::test]
async fn a_reset_connection_is_closed() {
    let (client, mut server) = Stream::pair().await;
    client.reset_on_drop().unwrap();
    drop(client);
    idle_becomes(&mut server, Idle::Closed).await;
}

#[tokio::test]
async fn tls_tells_what_was_agreed_on() {
    let (mut client, server) = tls::pair().await;
    let expected = TlsInfo {
        version: "TLSv1_3",
        cipher_suite: "TLS13_AES_128_GCM_SHA256",
        key_exchange: "X25519MLKEM768",
    };
    assert_eq!(client.tls_info(), Some(expected.clone()));
    assert_eq!(server.tls_info(), Some(expected));
    assert_eq!(client.peer_certificates().unwrap().len(), 1);
    client.forget_peer_certificates();
    assert!(client.peer_certificates().is_none());
    assert!(client.is_write_vectored());
}

#[tokio::test]
async fn tls_works_in_both_directions_after_half_a_close() {
    let (mut client, mut server) = tls::pair().await;
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = String::new();
    server.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "question");
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    received.clear();
    client.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "answer");
}
