//! Credentials: one certificate with its key, and the TLS configurations made of them.

#[cfg(test)]
mod tests;

use super::{Roots, Summary, provider, verify::PeerVerifier};
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::aws_lc_rs::Ticketer,
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use std::{sync::Arc, time::SystemTime};
use weft_xds_proto::{names, spiffe::SpiffeId};

/// How many servers the client side remembers a session of.
const RESUMABLE_SERVERS: usize = 256;

/// Everything a connection needs to prove who we are and to verify who the peer is. Immutable: a rotation,
/// and a change of the roots, makes new ones, and connections keep those they began with.
///
/// Sessions are resumed within the same credentials only: the tickets of either side die with them, and with
/// them every session that began under roots no longer trusted.
#[derive(Debug)]
pub struct Credentials {
    /// Who we are.
    pub id: SpiffeId,
    /// Accepts TLS 1.3 from clients with a certificate of the trust domain.
    pub server: Arc<ServerConfig>,
    /// When our certificate ends.
    pub not_after: SystemTime,
    /// What our certificate says.
    pub leaf: Summary,
    /// The roots that peers are verified against.
    pub roots: Arc<Roots>,
    /// Our certificate chain and key, for connections that are not between sidecars (the control plane).
    pub certified_key: Arc<CertifiedKey>,
    clients: [Arc<ClientConfig>; 3],
}

/// What a connection between sidecars will carry, as the client announces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// HTTP/1.1 requests.
    Http1,
    /// HTTP/2 requests.
    Http2,
    /// Opaque bytes.
    Tcp,
}

impl Alpn {
    const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Tcp];

    /// What is offered: Weft's own name first, then the one that any other peer understands.
    fn offered(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![names::ALPN_HTTP1.to_vec(), b"http/1.1".to_vec()],
            Self::Http2 => vec![names::ALPN_HTTP2.to_vec(), b"h2".to_vec()],
            Self::Tcp => vec![names::ALPN_TCP.to_vec()],
        }
    }

    /// What the server side of a connection was told by the protocol that was agreed on; `None` when that
    /// is none that we know, or there was none.
    pub fn from_negotiated(protocol: Option<&[u8]>) -> Option<Self> {
        match protocol? {
            names::ALPN_HTTP1 | b"http/1.1" => Some(Self::Http1),
            names::ALPN_HTTP2 | b"h2" => Some(Self::Http2),
            names::ALPN_TCP => Some(Self::Tcp),
            _ => None,
        }
    }
}

impl Credentials {
    /// `certified_key` must be that of `leaf`, which is the certificate of `id` and verified.
    pub(super) fn new(
        id: SpiffeId,
        leaf: Summary,
        certified_key: Arc<CertifiedKey>,
        roots: Arc<Roots>,
    ) -> Result<Self, rustls::Error> {
        let verifier = Arc::new(PeerVerifier {
            roots: roots.clone(),
            trust_domain: id.trust_domain().to_owned(),
        });
        let own = Arc::new(SingleCertAndKey::from(certified_key.clone()));

        let mut server = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier.clone())
            .with_cert_resolver(own.clone());
        server.alpn_protocols = [Alpn::Http1, Alpn::Http2, Alpn::Tcp]
            .into_iter()
            .flat_map(Alpn::offered)
            .collect();
        // Tickets carry the session themselves: a store would only hold memory.
        server.ticketer = Ticketer::new()?;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        // Clients that pool their connections rarely come back for the second ticket.
        server.send_tls13_tickets = 1;
        // `net::tls` protects the records itself.
        server.enable_secret_extraction = true;

        let mut client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(own);
        client.resumption = Resumption::in_memory_sessions(RESUMABLE_SERVERS);
        client.enable_secret_extraction = true;
        let clients = Alpn::ALL.map(|alpn| {
            let mut client = client.clone();
            client.alpn_protocols = alpn.offered();
            Arc::new(client)
        });

        Ok(Self {
            id,
            server: Arc::new(server),
            not_after: leaf.not_after,
            leaf,
            roots,
            certified_key,
            clients,
        })
    }

    /// Dials peers that have a certificate of the trust domain. The server name given to rustls matters only
    /// as the key of its session store: pass the address of the endpoint.
    pub fn client(&self, alpn: Alpn) -> &Arc<ClientConfig> {
        &self.clients[alpn as usize]
    }
}
