//! TLS handshakes over a stream. Who may connect is decided by the configuration that is passed in.

use std::{io, sync::Arc};

use bytes::Buf;
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::ServerName,
    server::{Accepted, Acceptor},
};
use tokio_rustls::{StartHandshake, TlsAcceptor, TlsConnector};

use super::stream::Stream;

/// What the first bytes of a connection say: see [`inspect`].
pub enum Inspection {
    /// A TLS client. Its hello stays in the stream until it is accepted, so the bytes may also be passed on.
    Tls(ClientHello),
    /// Anything else, including silence that ended: the bytes stay in the stream.
    Plaintext,
}

/// A ClientHello that was read but not answered.
pub struct ClientHello {
    accepted: Accepted,
    /// How many of the peeked bytes the handshake has taken in.
    taken: usize,
}

/// Looks at a connection's first bytes until it is certain whether they are a ClientHello (RFC 8446 section
/// 4.1.2), without consuming any.
///
/// Waits for a client that is silent: whoever calls it sets the time limit. Dropping the future loses nothing.
pub async fn inspect(stream: &mut Stream) -> io::Result<Inspection> {
    let mut acceptor = Acceptor::default();
    let mut taken = 0;
    loop {
        let seen = stream.peek(taken + 1).await?;
        if seen.len() == taken || !may_begin_tls(seen) {
            return Ok(Inspection::Plaintext);
        }
        let mut fresh = &seen[taken..];
        while !fresh.is_empty() {
            taken += acceptor.read_tls(&mut fresh)?;
            match acceptor.accept() {
                Ok(Some(accepted)) => return Ok(Inspection::Tls(ClientHello { accepted, taken })),
                Ok(None) => {}
                Err(_) => return Ok(Inspection::Plaintext),
            }
        }
    }
}

impl ClientHello {
    /// The server name that the client asked for.
    pub fn server_name(&self) -> Option<String> {
        self.accepted
            .client_hello()
            .server_name()
            .map(str::to_owned)
    }

    /// Whether the client offered an application protocol.
    pub fn offers_alpn(&self, protocol: &[u8]) -> bool {
        self.accepted
            .client_hello()
            .alpn()
            .is_some_and(|mut offered| offered.any(|name| name == protocol))
    }

    /// Answers the hello and completes the handshake on the stream that was inspected.
    pub async fn accept(self, stream: Stream, config: Arc<ServerConfig>) -> io::Result<Stream> {
        let mut io = stream.into_replay()?;
        io.prefix.advance(self.taken);
        let tls = StartHandshake::from_parts(self.accepted, io)
            .into_stream(config)
            .await?;
        Ok(Stream::tls_server(tls))
    }
}

/// Completes a handshake as the server. Bytes that were peeked at are part of it.
///
/// Errors when the handshake fails, or when the stream is under TLS already.
pub async fn accept(stream: Stream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let tls = TlsAcceptor::from(config)
        .accept(stream.into_replay()?)
        .await?;
    Ok(Stream::tls_server(tls))
}

/// Completes a handshake as the client.
///
/// Errors when the handshake fails, or when the stream is under TLS already.
pub async fn connect(
    stream: Stream,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
) -> io::Result<Stream> {
    let tls = TlsConnector::from(config)
        .connect(server_name, stream.into_replay()?)
        .await?;
    Ok(Stream::tls_client(tls))
}

/// A handshake record of any version of TLS: content type 22, major version 3 (RFC 8446 section 5.1).
fn may_begin_tls(seen: &[u8]) -> bool {
    seen.iter()
        .zip([22, 3])
        .all(|(byte, expected)| *byte == expected)
}
