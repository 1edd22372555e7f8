//! Connections that stop speaking HTTP: Upgrade and CONNECT.

use crate::testing::world::{destination, pair, port, scenario};
use crate::{
    snapshot::{MtlsMode, Protocol},
    telemetry::Direction,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::spawn_local,
};

/// Reads a head, up to its empty line.
pub(super) async fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "{head}");
    }
    head.to_ascii_lowercase()
}

/// An application that agrees to become an echo.
pub(super) async fn websocket() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_local(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut tcp = BufReader::new(tcp);
        let head = head(&mut tcp).await;
        assert!(head.contains("upgrade: websocket"), "{head}");
        assert!(head.contains("sec-websocket-key: abc"), "{head}");
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nhello";
        tcp.write_all(switch.as_bytes()).await.unwrap();
        let (mut read, mut write) = tokio::io::split(tcp);
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    address
}

#[tokio::test]
async fn a_websocket_passes_two_proxies() {
    scenario(async {
        let app = websocket().await;
        let pair = pair(app, "explicit", port(Protocol::Http, MtlsMode::Strict));
        let user = destination("user.demo:80", Protocol::Http, &[pair.user.inbound], true);
        pair.order.feed.publish(user);

        let mut tcp = BufReader::new(TcpStream::connect(pair.order.outbound).await.unwrap());
        let request = "GET /chat HTTP/1.1\r\nhost: user\r\nconnection: keep-alive, Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n";
        tcp.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut tcp).await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("upgrade: websocket"), "{head}");
        let mut greeting = [0; 5];
        tcp.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hello");

        tcp.write_all(b"frames").await.unwrap();
        tcp.shutdown().await.unwrap();
        let mut rest = String::new();
        tcp.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "frames");
        pair.order.drain.all_done().await;
        let edges = pair.order.edges();
        let (key, edge) = &edges[0];
        assert_eq!(key.direction, Direction::Outbound);
        assert_eq!(edge.requests.iter().flatten().sum::<u64>(), 1);
        assert_eq!(edge.errors.iter().sum::<u64>(), 0);
    })
    .await;
}

#[tokio::test]
async fn connect_opens_a_tunnel_to_the_destination() {
    scenario(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let app = listener.local_addr().unwrap();
        spawn_local(async move {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let (mut read, mut write) = tcp.split();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        });
        let pair = pair(app, "explicit", port(Protocol::Tcp, MtlsMode::Strict));
        let user = destination("redis.demo:6379", Protocol::Tcp, &[pair.user.inbound], true);
        pair.order.feed.publish(user);

        let mut tcp = BufReader::new(TcpStream::connect(pair.order.outbound).await.unwrap());
        let request = "CONNECT redis:6379 HTTP/1.1\r\nhost: redis:6379\r\n\r\n";
        tcp.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut tcp).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        tcp.write_all(b"PING").await.unwrap();
        let mut answer = [0; 4];
        tcp.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"PING");
    })
    .await;
}

#[tokio::test]
async fn connect_to_what_speaks_http_only_is_refused() {
    scenario(async {
        let app = "127.0.0.1:1".parse().unwrap();
        let pair = pair(app, "explicit", port(Protocol::Http, MtlsMode::Strict));
        let user = destination("user.demo:80", Protocol::Http, &[pair.user.inbound], true);
        pair.order.feed.publish(user);
        let mut tcp = BufReader::new(TcpStream::connect(pair.order.outbound).await.unwrap());
        let request = "CONNECT user:80 HTTP/1.1\r\nhost: user:80\r\n\r\n";
        tcp.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut tcp).await;
        assert!(head.starts_with("http/1.1 404 "), "{head}");
        assert!(head.contains("weft-error: route-not-found"), "{head}");
    })
    .await;
}
