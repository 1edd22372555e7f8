//! New TLS connections, one after the other, that carry nothing.

use super::connection::{connect, read_answer, secure, send_request};
use crate::certificates::Leaf;
use anyhow::{Context, ensure};
use rustls::{
    ClientConfig, HandshakeKind,
    client::Resumption,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use std::{
    io::{ErrorKind, Read},
    net::{Shutdown, SocketAddr},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};
use weft_tests::any_server::AnyServer;

/// How the two ends agree on a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// What every peer has.
    X25519,
    /// The default between Weft's sidecars: no recording of today can be read by a quantum computer of tomorrow.
    X25519MlKem768,
}

/// A client of TLS 1.3 with a certificate of the mesh.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    config: ClientConfig,
}

/// Handshakes to be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The server.
    pub(crate) entrance: SocketAddr,
    /// Whether connections after the first resume its session (RFC 8446 section 2.2).
    pub(crate) resume: bool,
    /// Handshakes in flight: each has a thread that makes one after the other.
    pub(crate) in_flight: usize,
    /// For how long.
    pub(crate) duration: Duration,
}

/// What was done. There are no others: a handshake that fails ends it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handshakes {
    pub(crate) done: u64,
    pub(crate) elapsed: Duration,
}

impl Client {
    /// A client that shows a leaf and speaks HTTP/1.1.
    pub(crate) fn new(leaf: &Leaf, key_exchange: KeyExchange) -> anyhow::Result<Self> {
        let chain = CertificateDer::pem_file_iter(&leaf.chain)?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&leaf.key)?;
        let provider = Arc::new(CryptoProvider {
            kx_groups: vec![match key_exchange {
                KeyExchange::X25519 => aws_lc_rs::kx_group::X25519,
                KeyExchange::X25519MlKem768 => aws_lc_rs::kx_group::X25519MLKEM768,
            }],
            ..aws_lc_rs::default_provider()
        });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Self { config })
    }

    /// What a connection of this client is made with. It resumes nothing.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::new(self.config.clone())
    }

    /// Makes handshakes. `authority` is asked once beforehand, to see that the way is there.
    pub(crate) fn run(&self, plan: Plan, authority: &str) -> anyhow::Result<Handshakes> {
        let mut probe = secure(connect(plan.entrance)?, &self.config())?;
        send_request(&mut probe, authority)?;
        read_answer(&mut probe, false).context("a request before the handshakes")?;
        drop(probe);
        let began = Instant::now();
        let done = thread::scope(|scope| {
            let callers: Vec<_> = (0..plan.in_flight)
                .map(|_| scope.spawn(|| self.caller(plan)))
                .collect();
            callers
                .into_iter()
                .map(|caller| caller.join().expect("a caller does not panic"))
                .sum::<anyhow::Result<u64>>()
        })?;
        Ok(Handshakes {
            done,
            elapsed: began.elapsed(),
        })
    }

    fn caller(&self, plan: Plan) -> anyhow::Result<u64> {
        let mut config = self.config.clone();
        if plan.resume {
            config.resumption = Resumption::in_memory_sessions(8);
        }
        let config = Arc::new(config);
        let mut expected = HandshakeKind::Full;
        let (began, mut done) = (Instant::now(), 0);
        while began.elapsed() < plan.duration {
            handshake(plan.entrance, &config, expected)?;
            if plan.resume {
                expected = HandshakeKind::Resumed;
            }
            done += 1;
        }
        Ok(done)
    }
}

/// Makes one handshake and waits until the server has taken it in, sent its tickets and closed.
fn handshake(
    entrance: SocketAddr,
    config: &Arc<ClientConfig>,
    expected: HandshakeKind,
) -> anyhow::Result<()> {
    let mut tls = secure(connect(entrance)?, config)?;
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).context("handshake")?;
    }
    tls.conn.send_close_notify();
    tls.conn.complete_io(&mut tls.sock).context("closing")?;
    tls.sock.shutdown(Shutdown::Write)?;
    // Our certificate is judged after our last flight: a refusal comes as an alert now. Some servers say in HTTP
    // that they miss a request.
    let mut rest = Vec::new();
    match tls.read_to_end(&mut rest) {
        Ok(_) => {}
        // It may close with our close_notify unread.
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
            ) => {}
        Err(error) => return Err(error).context("after the handshake"),
    }
    let kind = tls.conn.handshake_kind();
    ensure!(
        kind == Some(expected),
        "the handshake was {kind:?}, not {expected:?}"
    );
    Ok(())
}
