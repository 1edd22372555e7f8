//! Opaque connections through two proxies, and the detection of what a connection speaks.

use crate::snapshot::{MtlsMode, Protocol};
use crate::testing::world::{Pair, destination, pair, port, scenario};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::spawn_local,
    time::Instant,
};

/// An application that says `greeting`, then repeats what it hears until the caller has finished.
async fn echo(greeting: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            spawn_local(async move {
                let _ = tcp.write_all(greeting.as_bytes()).await;
                let (mut read, mut write) = tcp.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

/// A pair whose caller dials the destination by address, as an intercepted connection does.
async fn intercepted(greeting: &'static str, protocol: Protocol) -> Pair {
    let app = echo(greeting).await;
    let pair = pair(app, "transparent", port(protocol, MtlsMode::Strict));
    let name = pair.order.outbound.to_string();
    let user = destination(&name, protocol, &[pair.user.inbound], true);
    pair.order.feed.publish(user);
    pair
}

async fn say(tcp: &mut TcpStream, words: &str) -> String {
    tcp.write_all(words.as_bytes()).await.unwrap();
    let mut heard = vec![0; words.len()];
    tcp.read_exact(&mut heard).await.unwrap();
    String::from_utf8(heard).unwrap()
}

async fn hear(tcp: &mut TcpStream, length: usize) -> String {
    let mut heard = vec![0; length];
    tcp.read_exact(&mut heard).await.unwrap();
    String::from_utf8(heard).unwrap()
}

#[tokio::test]
async fn declared_bytes_pass_both_ways_and_half_close_is_kept() {
    scenario(async {
        let pair = intercepted("", Protocol::Tcp).await;
        let mut tcp = TcpStream::connect(pair.order.outbound).await.unwrap();
        assert_eq!(say(&mut tcp, "\u{1}ping").await, "\u{1}ping");
        tcp.write_all(b"last words").await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut rest = String::new();
        tcp.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "last words");
        for proxy in [&pair.order, &pair.user] {
            while proxy
                .edges()
                .first()
                .is_none_or(|(_, edge)| edge.tcp_closed == 0)
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let edges = proxy.edges();
            let (key, edge) = &edges[0];
            assert_eq!((&*key.route, key.mtls), ("tcp", true));
            assert_eq!((edge.tcp_opened, edge.tcp_closed), (1, 1));
            assert_eq!((edge.tcp_sent, edge.tcp_received), (15, 15));
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once() {
    scenario(async {
        let pair = intercepted("220 welcome", Protocol::Detect).await;
        for _ in 0..2 {
            let start = Instant::now();
            let mut tcp = TcpStream::connect(pair.order.outbound).await.unwrap();
            assert_eq!(hear(&mut tcp, 11).await, "220 welcome");
            assert_eq!(say(&mut tcp, "EHLO me\r\n").await, "EHLO me\r\n");
            assert!(start.elapsed() < Duration::from_millis(500));
        }
    })
    .await;
}

#[tokio::test]
async fn a_caller_that_speaks_no_http_is_understood_at_once() {
    scenario(async {
        let pair = intercepted("", Protocol::Detect).await;
        for words in ["*1\r\n$4\r\nPING\r\n", "PING", "\u{0}\u{1}\u{2}"] {
            let start = Instant::now();
            let mut tcp = TcpStream::connect(pair.order.outbound).await.unwrap();
            assert_eq!(say(&mut tcp, words).await, words);
            assert!(start.elapsed() < Duration::from_millis(500), "{words:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_application_with_tls_of_its_own_is_left_alone_where_permitted() {
    scenario(async {
        let app = echo("").await;
        let pair = pair(
            app,
            "transparent",
            port(Protocol::Detect, MtlsMode::Permissive),
        );
        // The start of a ClientHello that offers nothing of the mesh: passed on byte for byte.
        let hello = client_hello();
        let mut tcp = TcpStream::connect(pair.user.inbound).await.unwrap();
        tcp.write_all(&hello).await.unwrap();
        let mut heard = vec![0; hello.len()];
        tcp.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, hello);
    })
    .await;
}

#[tokio::test]
async fn a_greeting_in_plaintext_is_heard_where_permitted() {
    scenario(async {
        let app = echo("220 welcome").await;
        let pair = pair(
            app,
            "transparent",
            port(Protocol::Detect, MtlsMode::Permissive),
        );
        let mut tcp = TcpStream::connect(pair.user.inbound).await.unwrap();
        assert_eq!(hear(&mut tcp, 11).await, "220 welcome");
    })
    .await;
}

#[tokio::test]
async fn a_destination_without_endpoint_resets_the_caller() {
    scenario(async {
        let pair = intercepted("", Protocol::Tcp).await;
        let name = pair.order.outbound.to_string();
        pair.order
            .feed
            .publish(destination(&name, Protocol::Tcp, &[], true));
        let mut tcp = TcpStream::connect(pair.order.outbound).await.unwrap();
        assert!(tcp.read_u8().await.is_err());
    })
    .await;
}

fn client_hello() -> Vec<u8> {
    let config = rustls::ClientConfig::builder()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = "database".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
