//! What the wire may do to a connection. Its ends are made by a real handshake, and one of them is taken apart.

use std::future::poll_fn;

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::net::{
    stream::Stream,
    tls::{handshake, tests::configs},
};

/// The two ends of a connection, the client's first.
async fn pair() -> (Tls, Tls) {
    let (client, server) = Stream::pair().await;
    let (client_config, server_config) = configs(&[]);
    let connecting = async {
        let (mut tcp, peeked) = client.into_parts().unwrap();
        let name = "localhost".try_into().unwrap();
        let (session, beyond) = handshake::connect(&mut tcp, peeked, client_config, name)
            .await
            .unwrap();
        Tls::new(tcp, session, beyond)
    };
    let accepting = async {
        let (mut tcp, peeked) = server.into_parts().unwrap();
        let (session, beyond) = handshake::accept(&mut tcp, peeked, server_config)
            .await
            .unwrap();
        Tls::new(tcp, session, beyond)
    };
    tokio::join!(connecting, accepting)
}

/// What one end would put on the wire.
fn seal(from: &mut Session, data: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut record = vec![0; SHARED_SIZE];
    let slices = [IoSlice::new(data)];
    let mut input = Input::new(&slices);
    while !input.is_empty() {
        let length = from.seal_data(&mut input, &mut record).unwrap();
        wire.extend_from_slice(&record[..length]);
    }
    wire
}

fn held(tls: &Tls) -> usize {
    tls.ciphertext.capacity() + tls.plaintext.capacity() + tls.unsent.capacity()
}

/// Reads what there is.
async fn read_available(tls: &mut Tls, room: usize, read: &mut Vec<u8>) {
    let mut buf = vec![0; room];
    poll_fn(|cx| {
        loop {
            let mut buf = ReadBuf::new(&mut buf);
            match Pin::new(&mut *tls).poll_read(cx, &mut buf) {
                Poll::Ready(result) => result.unwrap(),
                Poll::Pending => return Poll::Ready(()),
            }
            if buf.filled().is_empty() {
                return Poll::Ready(());
            }
            read.extend_from_slice(buf.filled());
        }
    })
    .await;
}

/// Sends messages from one end, in pieces as the sizes say, and reads them at the other.
async fn cut(
    from: &mut Tls,
    to: &mut Tls,
    messages: &[(Vec<u8>, bool)],
    pieces: &[usize],
    room: usize,
) {
    let (mut wire, mut sent, mut received) = (Vec::new(), Vec::new(), Vec::new());
    for (message, new_keys) in messages {
        from.session.owes_key_update = *new_keys;
        wire.extend_from_slice(&seal(&mut from.session, message));
        sent.extend_from_slice(message);
    }
    let mut pieces = pieces.iter().cycle();
    let mut rest = &wire[..];
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(*pieces.next().unwrap()));
        from.tcp.write_all(piece).await.unwrap();
        read_available(to, room, &mut received).await;
        rest = after;
    }
    from.shutdown().await.unwrap();
    to.read_to_end(&mut received).await.unwrap();
    assert!(sent == received);
    assert_eq!(held(to), 0);
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn message(longest: usize) -> impl Strategy<Value = (Vec<u8>, bool)> {
    let data = (0..longest, any::<u8>()).prop_map(|(length, first)| {
        (0..length)
            .map(|at| first.wrapping_add((at % 251) as u8))
            .collect()
    });
    (data, prop::bool::weighted(0.2))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn records_that_are_cut_anywhere_arrive_whole(
        messages in prop::collection::vec(message(40_000), 1..6),
        pieces in prop::collection::vec(1..30_000_usize, 1..20),
        room in 1..50_000_usize,
        from_client: bool,
    ) {
        block_on(async {
            let (mut client, mut server) = pair().await;
            match from_client {
                true => cut(&mut client, &mut server, &messages, &pieces, room).await,
                false => cut(&mut server, &mut client, &messages, &pieces, room).await,
            }
        });
    }

    #[test]
    fn records_arrive_byte_by_byte(
        messages in prop::collection::vec(message(600), 1..6),
        room in 1..700_usize,
        from_client: bool,
    ) {
        block_on(async {
            let (mut client, mut server) = pair().await;
            match from_client {
                true => cut(&mut client, &mut server, &messages, &[1], room).await,
                false => cut(&mut server, &mut client, &messages, &[1], room).await,
            }
        });
    }

    #[test]
    fn no_bytes_behind_the_handshake_make_reading_panic(garbage: Vec<u8>) {
        block_on(async {
            let (mut client, mut server) = pair().await;
            client.tcp.write_all(&garbage).await.unwrap();
            client.tcp.shutdown().await.unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap_err();
            assert_eq!(received, b"");
        });
    }
}

#[tokio::test]
async fn much_data_passes_both_ways_at_once_through_small_sockets() {
    const EACH: usize = 8 << 20;
    let (mut client, mut server) = pair().await;
    for tls in [&client, &server] {
        let socket = socket2::SockRef::from(&tls.tcp);
        socket.set_send_buffer_size(32 << 10).unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
    }
    let data: Vec<u8> = (0..EACH).map(|at| (at % 251) as u8).collect();
    let exchange = async |tls: &mut Tls| {
        let (mut reader, mut writer) = tokio::io::split(tls);
        let write = async {
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::with_capacity(EACH);
        let (read, ()) = tokio::join!(reader.read_to_end(&mut received), write);
        read.unwrap();
        assert!(received == data);
    };
    tokio::join!(exchange(&mut client), exchange(&mut server));
    assert_eq!((held(&client), held(&server)), (0, 0));
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_the_writer_and_little_memory() {
    let (mut client, mut server) = pair().await;
    let data = vec![b'x'; 1 << 20];
    let mut written = 0;
    poll_fn(|cx| {
        while let Poll::Ready(taken) = Pin::new(&mut client).poll_write(cx, &data) {
            written += taken.unwrap();
        }
        Poll::Ready(())
    })
    .await;
    assert!(!client.unsent.is_empty());
    assert!(client.unsent.capacity() <= SHARED_SIZE);
    let read = async {
        let mut received = Vec::new();
        server.read_to_end(&mut received).await.unwrap();
        received.len()
    };
    let (read, closed) = tokio::join!(read, client.shutdown());
    closed.unwrap();
    assert_eq!(read, written);
    assert_eq!(held(&client), 0);
}

#[tokio::test]
async fn a_small_message_in_many_places_is_one_record() {
    let (mut client, mut server) = pair().await;
    let slices = ["one ", "two ", "", "six "].map(|piece| IoSlice::new(piece.as_bytes()));
    assert_eq!(client.write_vectored(&slices).await.unwrap(), 12);
    let mut wire = [0; 100];
    let length = server.tcp.read(&mut wire).await.unwrap();
    assert_eq!(length, 12 + OVERHEAD);
}

#[tokio::test]
async fn what_is_no_record_ends_the_connection_and_the_peer_is_told() {
    let (mut client, mut server) = pair().await;
    let mut wire = seal(&mut client.session, b"good");
    wire.extend_from_slice(b"GET / HTTP/1.1\r\n\r\n");
    client.tcp.write_all(&wire).await.unwrap();
    let mut received = Vec::new();
    let error = server.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(received, b"good");
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(server.write_all(b"more").await.is_err());
    let told = client.read_u8().await.unwrap_err();
    assert_eq!(told.to_string(), "received fatal alert: DecodeError");
}

#[tokio::test]
async fn a_record_that_was_tampered_with_is_not_read() {
    let (mut client, mut server) = pair().await;
    let mut wire = seal(&mut client.session, b"pay 10");
    wire[7] ^= 1;
    client.tcp.write_all(&wire).await.unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(error.to_string(), "cannot decrypt peer's message");
    let told = client.read_u8().await.unwrap_err();
    assert_eq!(told.to_string(), "received fatal alert: BadRecordMac");
}

#[tokio::test]
async fn an_end_without_close_notify_is_no_end() {
    for cut_off in [0, 3, 10] {
        let (mut client, mut server) = pair().await;
        let mut wire = seal(&mut client.session, b"whole");
        wire.extend_from_slice(&seal(&mut client.session, b"half")[..cut_off]);
        client.tcp.write_all(&wire).await.unwrap();
        client.tcp.shutdown().await.unwrap();
        let mut received = Vec::new();
        let error = server.read_to_end(&mut received).await.unwrap_err();
        assert_eq!(received, b"whole");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}

#[tokio::test]
async fn what_follows_close_notify_is_ignored() {
    let (mut client, mut server) = pair().await;
    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"");
    assert_eq!(server.idle(), Idle::Closed);
    server.write_all(b"answer").await.unwrap();
    server.shutdown().await.unwrap();
    client.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"answer");
    assert_eq!(
        client.write_all(b"more").await.unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[tokio::test]
async fn a_connection_that_rests_holds_no_buffer() {
    let (mut client, mut server) = pair().await;
    assert_eq!(held(&server), 0);
    for _ in 0..3 {
        client.write_all(&[b'x'; 50_000]).await.unwrap();
        client.flush().await.unwrap();
        let mut received = vec![0; 50_000];
        server.read_exact(&mut received).await.unwrap();
        server.write_all(b"answer").await.unwrap();
        client.read_exact(&mut received[..6]).await.unwrap();
    }
    assert_eq!(client.idle(), Idle::Quiet);
    assert_eq!((held(&client), held(&server)), (0, 0));
}
