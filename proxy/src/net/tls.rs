//! TLS handshakes over a stream. Who may connect is decided by the configuration that is passed in.

use std::{io, sync::Arc};

use bytes::Buf;
use rustls::{
    CertificateError, ClientConfig, ServerConfig,
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
    accepted: Box<Accepted>,
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
                Ok(Some(accepted)) => {
                    return Ok(Inspection::Tls(ClientHello {
                        accepted: Box::new(accepted),
                        taken,
                    }));
                }
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
        let tls = StartHandshake::from_parts(*self.accepted, io)
            .into_stream(config)
            .await
            .map_err(in_words)?;
        Ok(Stream::tls_server(tls))
    }
}

/// Completes a handshake as the server. Bytes that were peeked at are part of it.
///
/// Errors when the handshake fails, or when the stream is under TLS already.
pub async fn accept(stream: Stream, config: Arc<ServerConfig>) -> io::Result<Stream> {
    let tls = TlsAcceptor::from(config)
        .accept(stream.into_replay()?)
        .await
        .map_err(in_words)?;
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
        .await
        .map_err(in_words)?;
    Ok(Stream::tls_client(tls))
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
mod tests {
    use super::*;
    use rustls::{
        RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    };
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A client and a server that trust each other, and agree on one of the protocols.
    pub(super) fn configs(alpn: &[&[u8]]) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = CertificateDer::from(key.cert);
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate],
                PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()).into(),
            )
            .unwrap();
        client.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        server.alpn_protocols.clone_from(&client.alpn_protocols);
        (Arc::new(client), Arc::new(server))
    }

    #[tokio::test]
    async fn an_inspected_hello_names_the_server_and_is_then_accepted() {
        let (client, mut server) = Stream::pair().await;
        let (client_config, server_config) = configs(&[b"weft-tcp"]);
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = connect(client, client_config, name);
        let accepting = async {
            let Inspection::Tls(hello) = inspect(&mut server).await.unwrap() else {
                panic!("a ClientHello was taken for plaintext");
            };
            assert_eq!(hello.server_name().as_deref(), Some("localhost"));
            assert!(hello.offers_alpn(b"weft-tcp"));
            assert!(!hello.offers_alpn(b"h2"));
            hello.accept(server, server_config).await.unwrap()
        };
        let (client, mut server) = tokio::join!(connecting, accepting);
        let mut client = client.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut received = [0; 4];
        server.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"ping");
        assert_eq!(server.alpn(), Some(&b"weft-tcp"[..]));
    }

    #[tokio::test]
    async fn an_inspected_hello_can_also_be_passed_on_as_it_came() {
        let (client, mut front) = Stream::pair().await;
        let (mut back, server) = Stream::pair().await;
        let (client_config, server_config) = configs(&[]);
        let name = ServerName::try_from("localhost").unwrap();
        let pass_on = async {
            assert!(matches!(
                inspect(&mut front).await.unwrap(),
                Inspection::Tls(_)
            ));
            tokio::io::copy_bidirectional(&mut front, &mut back).await
        };
        let handshake = async {
            let (client, server) = tokio::join!(
                connect(client, client_config, name),
                accept(server, server_config)
            );
            client.unwrap();
            server.unwrap();
        };
        tokio::select! {
            ended = pass_on => panic!("the relay ended first: {ended:?}"),
            () = handshake => {}
        }
    }

    #[tokio::test]
    async fn what_is_no_hello_is_left_unread() {
        for sent in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x10opaque",
            b"\x16\x03\x01\x00\x04oops",
            b"\x16",
            b"",
        ] {
            let (mut client, mut server) = Stream::pair().await;
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let inspection = inspect(&mut server).await.unwrap();
            assert!(matches!(inspection, Inspection::Plaintext), "{sent:?}");
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, sent);
        }
    }
}
