use super::*;
use crate::net::{splice, tls};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

/// `client` and `server` are the far ends: what one writes, the other reads, through the tunnel.
struct Tunnelled {
    client: Stream,
    server: Stream,
    end: JoinHandle<TunnelEnd>,
}

#[derive(Debug, Clone, Copy)]
enum Link {
    Plain,
    Tls,
}

/// Every pair of links: the first splices, the others copy.
const LINKS: [(Link, Link); 4] = [
    (Link::Plain, Link::Plain),
    (Link::Plain, Link::Tls),
    (Link::Tls, Link::Plain),
    (Link::Tls, Link::Tls),
];

async fn link(kind: Link) -> (Stream, Stream) {
    match kind {
        Link::Plain => Stream::pair().await,
        Link::Tls => tls::pair().await,
    }
}

async fn tunnelled((front, back): (Link, Link), idle: Option<Duration>) -> Tunnelled {
    let (client, a) = link(front).await;
    let (b, server) = link(back).await;
    Tunnelled {
        client,
        server,
        end: tokio::spawn(tunnel(a, b, idle)),
    }
}

/// Bytes whose order shows: a lost or swapped chunk does not compare equal.
fn numbered(length: usize) -> Vec<u8> {
    (0_u32..).flat_map(u32::to_le_bytes).take(length).collect()
}

async fn read_to_end(stream: &mut Stream) -> Vec<u8> {
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.unwrap();
    received
}

#[tokio::test]
async fn bulk_data_arrives_whole_in_both_directions_at_once() {
    for links in LINKS {
        let Tunnelled {
            client,
            server,
            end,
        } = tunnelled(links, None).await;
        let (up, down) = (numbered(9_000_001), numbered(7_000_003));
        let (mut client_read, mut client_write) = tokio::io::split(client);
        let (mut server_read, mut server_write) = tokio::io::split(server);
        let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
        let send_up = async {
            client_write.write_all(&up).await.unwrap();
            client_write.shutdown().await.unwrap();
        };
        let send_down = async {
            server_write.write_all(&down).await.unwrap();
            server_write.shutdown().await.unwrap();
        };
        let (received_up, received_down, (), ()) = tokio::join!(
            server_read.read_to_end(&mut at_server),
            client_read.read_to_end(&mut at_client),
            send_up,
            send_down,
        );
        received_up.unwrap();
        received_down.unwrap();
        assert!(
            at_server == up,
            "{links:?}: the server received other bytes"
        );
        assert!(
            at_client == down,
            "{links:?}: the client received other bytes"
        );
        let end = end.await.unwrap();
        assert_eq!(
            (end.a_to_b, end.b_to_a),
            (up.len() as u64, down.len() as u64)
        );
        assert!(end.error.is_none(), "{links:?}: {:?}", end.error);
    }
}

#[tokio::test]
async fn the_server_may_speak_first() {
    for links in LINKS {
        let mut through = tunnelled(links, None).await;
        through.server.write_all(b"220 ready").await.unwrap();
        let mut greeting = [0; 9];
        through.client.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"220 ready", "{links:?}");
    }
}

#[tokio::test]
async fn a_side_that_finished_still_receives() {
    for links in LINKS {
        let mut through = tunnelled(links, None).await;
        through.client.write_all(b"question").await.unwrap();
        through.client.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut through.server).await, b"question");
        through.server.write_all(b"answer").await.unwrap();
        through.server.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut through.client).await, b"answer");
        let end = through.end.await.unwrap();
        assert_eq!((end.a_to_b, end.b_to_a), (8, 6), "{links:?}");
        assert!(end.error.is_none(), "{links:?}: {:?}", end.error);
    }
}

#[tokio::test]
async fn the_server_may_finish_first() {
    for links in LINKS {
        let mut through = tunnelled(links, None).await;
        through.server.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut through.client).await, b"");
        through.client.write_all(b"late").await.unwrap();
        through.client.shutdown().await.unwrap();
        assert_eq!(read_to_end(&mut through.server).await, b"late", "{links:?}");
        assert!(through.end.await.unwrap().error.is_none());
    }
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    for links in LINKS {
        let mut through = tunnelled(links, None).await;
        through.client.write_all(b"x").await.unwrap();
        assert_eq!(through.server.read_u8().await.unwrap(), b'x');
        through.client.reset_on_drop().unwrap();
        drop(through.client);
        let error = through.server.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{links:?}");
        let end = through.end.await.unwrap();
        assert!(
            matches!(end.error, Some(TunnelError::Broken { side: Side::A, .. })),
            "{links:?}: {:?}",
            end.error
        );
    }
}

#[tokio::test]
async fn tls_cut_off_without_a_goodbye_is_no_end_of_data() {
    let mut through = tunnelled((Link::Tls, Link::Plain), None).await;
    through.client.write_all(b"half a mess").await.unwrap();
    drop(through.client);
    let error = through
        .server
        .read_to_end(&mut Vec::new())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_was_peeked_at_goes_first() {
    let (mut client, mut a) = Stream::pair().await;
    let (mut b, mut server) = Stream::pair().await;
    client.write_all(b"hello").await.unwrap();
    server.write_all(b"hi").await.unwrap();
    a.peek(5).await.unwrap();
    b.peek(2).await.unwrap();
    let end = tokio::spawn(tunnel(a, b, None));
    client.write_all(b" there").await.unwrap();
    client.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut server).await, b"hello there");
    assert_eq!(read_to_end(&mut client).await, b"hi");
    let end = end.await.unwrap();
    assert_eq!((end.a_to_b, end.b_to_a), (11, 2));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_in_which_nothing_moves_is_reset() {
    const IDLE: Duration = Duration::from_secs(300);
    let start = Instant::now();
    let mut through = tunnelled((Link::Plain, Link::Plain), Some(IDLE)).await;
    tokio::time::sleep(Duration::from_secs(200)).await;
    through.client.write_all(b"x").await.unwrap();
    assert_eq!(through.server.read_u8().await.unwrap(), b'x');
    let end = through.end.await.unwrap();
    assert!(matches!(end.error, Some(TunnelError::Idle(IDLE))));
    assert_eq!(start.elapsed().as_secs(), 500);
    for mut stream in [through.client, through.server] {
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn an_idle_tunnel_has_given_its_pipe_back() {
    let mut through = tunnelled((Link::Plain, Link::Plain), None).await;
    let sent = numbered(4_000_000);
    let mut received = vec![0; sent.len()];
    let (written, read) = tokio::join!(
        through.client.write_all(&sent),
        through.server.read_exact(&mut received)
    );
    written.unwrap();
    read.unwrap();
    assert!(received == sent);
    while splice::idle_pipes() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!through.end.is_finished());
}
