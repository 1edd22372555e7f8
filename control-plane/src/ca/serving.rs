//! The certificate that the control plane serves with, renewed while it serves.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{CipherSuite, RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{Ca, SignError};

/// When renewing fails, and as the shortest pause between renewals.
const PAUSE: Duration = Duration::from_secs(1);

/// A TLS configuration whose certificate is always in date.
///
/// Clients may show a certificate of the mesh and need not: those without one prove who they are with
/// a token.
#[derive(Debug)]
pub struct Serving {
    ca: Arc<Ca>,
    names: Vec<String>,
    current: ArcSwap<Issued>,
}

#[derive(Debug)]
struct Issued {
    config: Arc<ServerConfig>,
    renew_at: SystemTime,
}

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The CA does not issue one.
    #[error("--tls-san: {0}")]
    Issue(#[from] SignError),
    /// The TLS library takes exception to it.
    #[error("cannot serve TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The roots cannot verify anybody.
    #[error("cannot verify clients with the roots of the mesh: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl Serving {
    /// Issues a first certificate for these names and addresses.
    pub fn new(ca: Arc<Ca>, names: Vec<String>) -> Result<Self, ServingError> {
        let current = ArcSwap::from_pointee(issue(&ca, &names)?);
        Ok(Self { ca, names, current })
    }

    /// The configuration for the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// Renews the certificate whenever two thirds of its life are over. Never ends.
    pub async fn keep_current(&self) {
        loop {
            let wait = self
                .current
                .load()
                .renew_at
                .duration_since(SystemTime::now());
            tokio::time::sleep(wait.unwrap_or_default().max(PAUSE)).await;
            match issue(&self.ca, &self.names) {
                Ok(issued) => {
                    self.current.store(Arc::new(issued));
                    tracing::info!("serving certificate renewed");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot renew the serving certificate");
                }
            }
        }
    }
}

fn issue(ca: &Ca, names: &[String]) -> Result<Issued, ServingError> {
    let leaf = ca.issue(names)?;
    let now = SystemTime::now();
    let life = leaf.not_after.duration_since(now).unwrap_or_default();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // The cheapest first: every change is encrypted anew for each of its followers.
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let mut roots = RootCertStore::empty();
    let bundle = ca.bundle();
    roots.add_parsable_certificates(
        CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok),
    );
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![leaf.certificate], leaf.key)?;
    config.ignore_client_order = true;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Issued {
        config: Arc::new(config),
        renew_at: now + life * 2 / 3,
    })
}
