//! TLS handshakes over a stream. Who may connect is decided by the configuration that is passed in.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, ServerConfig,
    pki_types::ServerName,
    server::{self, Acceptor},
};

use super::stream::Stream;

mod handshake;
mod record;
mod session;
mod transport;

pub(super) use transport::Tls;

/// What the first bytes of a connection say: see [`inspect`].
pub enum Inspection {
    /// A TLS client. Its hello stays in the stream until it is accepted, so the bytes may also be passed on.
    Tls(ClientHello),
    /// Anything else, including silence that ended: the bytes stay in the stream.
    Plaintext,
}

/// What a ClientHello asks for. The hello itself waits in the stream, to be answered or passed on.
pub struct ClientHello {
    server_name: Option<Box<str>>,
    alpn: Vec<Box<[u8]>>,
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
                Ok(Some(accepted)) => {
                    return Ok(Inspection::Tls(ClientHello::of(&accepted.client_hello())));
                }
                Ok(None) => {}
                Err(_) => return Ok(Inspection::Plaintext),
            }
        }
    }
}

impl ClientHello {
    fn of(hello: &server::ClientHello<'_>) -> Self {
        Self {
            server_name: hello.server_name().map(Box::from),
            alpn: hello.alpn().into_iter().flatten().map(Box::from).collect(),
        }
    }

    /// The server name that the client asked for.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether the client offered an application protocol.
    pub fn offers_alpn(&self, protocol: &[u8]) -> bool {
        self.alpn.iter().any(|offered| **offered == *protocol)
    }

    /// Answers the hello and completes the handshake on the stream that was inspected: see [`accept`].
    pub async fn accept(self, stream: Stream, config: Arc<ServerConfig>) -> io::Result<Stream> {
        accept(stream, config).await
    }
}

/// Completes a handshake as the server. Bytes that were peeked at are part of it.
///
/// Errors when the handshake fails, when the stream is under TLS already, and when the configuration does not set
/// `enable_secret_extraction`.
pub async fn accept(stream: Stream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let (mut tcp, peeked) = stream.into_parts()?;
    let (session, beyond) = handshake::accept(&mut tcp, peeked, config)
        .await
        .map_err(in_words)?;
    Ok(Stream::tls(Tls::new(tcp, session, beyond)))
}

/// Completes a handshake as the client.
///
/// Errors when the handshake fails, when the stream is under TLS already, and when the configuration does not set
/// `enable_secret_extraction`.
pub async fn connect(
    stream: Stream,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
) -> io::Result<Stream> {
    let (mut tcp, peeked) = stream.into_parts()?;
    let (session, beyond) = handshake::connect(&mut tcp, peeked, config, server_name)
        .await
        .map_err(in_words)?;
    Ok(Stream::tls(Tls::new(tcp, session, beyond)))
}

/// What our own verifier said of a certificate: rustls would show it in its debug form.
fn in_words(error: io::Error) -> io::Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(CertificateError::Other(reason))) => {
            io::Error::new(error.kind(), reason.0.to_string())
        }
        _ => error,
    }
}

/// A handshake record of any version of TLS: content type 22, major version 3 (RFC 8446 section 5.1).
fn may_begin_tls(seen: &[u8]) -> bool {
    seen.iter()
        .zip([22, 3])
        .all(|(byte, expected)| *byte == expected)
}

/// The two ends of a TLS connection over loopback, the client's first.
#[cfg(test)]
pub(crate) async fn pair() -> (Stream, Stream) {
    let (client, server) = Stream::pair().await;
    let (client_config, server_config) = tests::configs(&[]);
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) = tokio::join!(
        connect(client, client_config, name),
        accept(server, server_config),
    );
    (client.unwrap(), server.unwrap())
}

#[cfg(test)]
mod tests;
