use super::*;
use rustls::{
    CipherSuite, HandshakeKind, RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A client and a server that trust each other, and agree on one of the protocols.
pub(super) fn configs(alpn: &[&[u8]]) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    configs_with(crate::tls::provider(), alpn)
}

fn configs_with(
    provider: Arc<CryptoProvider>,
    alpn: &[&[u8]],
) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
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
    client.enable_secret_extraction = true;
    server.enable_secret_extraction = true;
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
        assert_eq!(hello.server_name(), Some("localhost"));
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

const SUITES: [CipherSuite; 3] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
];

fn configs_of(suite: CipherSuite) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let mut provider = CryptoProvider::clone(&crate::tls::provider());
    provider.cipher_suites.retain(|one| one.suite() == suite);
    configs_with(Arc::new(provider), &[])
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

/// Sends more than a record, which the other end sends back.
async fn ask(asking: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let question: Vec<u8> = (0..50_000).map(|at| (at % 251) as u8).collect();
    asking.write_all(&question).await.unwrap();
    asking.flush().await.unwrap();
    let mut answer = vec![0; question.len()];
    asking.read_exact(&mut answer).await.unwrap();
    assert!(answer == question);
}

/// Sends back what comes until the other end closes, and then closes too.
async fn echo(mut answering: impl AsyncRead + AsyncWrite + Unpin) {
    let mut received = vec![0; 20_000];
    loop {
        match answering.read(&mut received).await.unwrap() {
            0 => break,
            read => answering.write_all(&received[..read]).await.unwrap(),
        }
        answering.flush().await.unwrap();
    }
    answering.shutdown().await.unwrap();
}

async fn close(mut asking: impl AsyncRead + AsyncWrite + Unpin) {
    asking.shutdown().await.unwrap();
    assert_eq!(asking.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_client_of_rustls_is_served_through_changes_of_keys() {
    for suite in SUITES {
        let (client, server) = Stream::pair().await;
        let (client_config, server_config) = configs_of(suite);
        let (client, _) = client.into_parts().unwrap();
        let asking = async {
            let connector = TlsConnector::from(client_config);
            let mut tls = connector.connect(localhost(), client).await.unwrap();
            for _ in 0..3 {
                ask(&mut tls).await;
                tls.get_mut().1.refresh_traffic_keys().unwrap();
            }
            ask(&mut tls).await;
            close(tls).await;
        };
        let answering = async {
            let stream = accept(server, server_config).await.unwrap();
            assert_eq!(
                Some(stream.tls_info().unwrap().cipher_suite),
                suite.as_str()
            );
            echo(stream).await;
        };
        tokio::join!(asking, answering);
    }
}

#[tokio::test]
async fn a_server_of_rustls_is_called_through_changes_of_keys() {
    for suite in SUITES {
        let (client, server) = Stream::pair().await;
        let (client_config, server_config) = configs_of(suite);
        let (server, _) = server.into_parts().unwrap();
        let asking = async {
            let mut stream = connect(client, client_config, localhost()).await.unwrap();
            ask(&mut stream).await;
            ask(&mut stream).await;
            close(stream).await;
        };
        let answering = async {
            let acceptor = TlsAcceptor::from(server_config);
            let mut tls = acceptor.accept(server).await.unwrap();
            tls.get_mut().1.refresh_traffic_keys().unwrap();
            echo(tls).await;
        };
        tokio::join!(asking, answering);
    }
}

#[tokio::test]
async fn a_ticket_makes_the_next_handshake_shorter() {
    let (client_config, server_config) = configs(&[]);
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let (client, server) = Stream::pair().await;
        let (server, _) = server.into_parts().unwrap();
        let asking = async {
            let mut stream = connect(client, client_config.clone(), localhost())
                .await
                .unwrap();
            assert_eq!(stream.peer_certificates().unwrap().len(), 1);
            ask(&mut stream).await;
            close(stream).await;
        };
        let answering = async {
            let acceptor = TlsAcceptor::from(server_config.clone());
            let tls = acceptor.accept(server).await.unwrap();
            assert_eq!(tls.get_ref().1.handshake_kind(), Some(expected));
            echo(tls).await;
        };
        tokio::join!(asking, answering);
    }
}

#[tokio::test]
async fn data_right_behind_the_handshake_is_read() {
    let (client, server) = Stream::pair().await;
    let (client_config, server_config) = configs(&[]);
    let connecting = async {
        let mut client = connect(client, client_config, localhost()).await.unwrap();
        client.write_all(&[b'x'; 20_000]).await.unwrap();
        client.shutdown().await.unwrap();
        client
    };
    let (_client, server) = tokio::join!(connecting, accept(server, server_config));
    let mut received = Vec::new();
    server.unwrap().read_to_end(&mut received).await.unwrap();
    assert_eq!(received, [b'x'; 20_000]);
}

#[tokio::test]
async fn a_handshake_that_fails_tells_both_sides_why() {
    let (client, server) = Stream::pair().await;
    let (client_config, _) = configs(&[]);
    let (_, server_config) = configs(&[]);
    let (connected, accepted) = tokio::join!(
        connect(client, client_config, localhost()),
        accept(server, server_config),
    );
    let (ours, theirs) = (connected.unwrap_err(), accepted.unwrap_err());
    assert_eq!(ours.to_string(), "invalid peer certificate: BadSignature");
    assert_eq!(theirs.to_string(), "received fatal alert: DecryptError");
}

#[tokio::test]
async fn a_peer_that_leaves_during_the_handshake_is_named_as_the_reason() {
    let (mut client, server) = Stream::pair().await;
    client.shutdown().await.unwrap();
    let (_, server_config) = configs(&[]);
    let error = accept(server, server_config).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_configuration_that_keeps_its_keys_is_refused_before_anything_is_sent() {
    let (client, _server) = Stream::pair().await;
    let mut config = ClientConfig::clone(&configs(&[]).0);
    config.enable_secret_extraction = false;
    let error = connect(client, Arc::new(config), localhost())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
