//! The certificates that the control plane serves with, renewed while it serves.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{
    CipherSuite, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier, crypto::CryptoProvider,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

use super::{Authority, Ca, SignError};

/// After a failure, and as the shortest pause between renewals.
const PAUSE: Duration = Duration::from_secs(1);

/// A TLS configuration whose certificate is always in date and of the signing root.
#[derive(Debug)]
pub struct Serving {
    ca: Arc<Ca>,
    names: Vec<String>,
    clients: Clients,
    current: ArcSwap<Issued>,
}

/// Who comes, and how they are known.
#[derive(Debug, Clone, Copy)]
enum Clients {
    /// Proxies, by gRPC. They may show a certificate of the mesh and need not: those without one prove
    /// who they are with a token.
    Proxies,
    /// The Kubernetes API server, by HTTP, which has no certificate of the mesh.
    ApiServer,
}

#[derive(Debug)]
struct Issued {
    config: Arc<ServerConfig>,
    authority: Arc<Authority>,
    renew_at: SystemTime,
}

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    /// The CA does not issue one.
    #[error("no serving certificate for {}: {error}", names.join(", "))]
    Issue {
        /// What it would be for.
        names: Vec<String>,
        /// Why.
        error: SignError,
    },
    /// The TLS library takes exception to it.
    #[error("cannot serve TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The roots cannot verify anybody.
    #[error("cannot verify clients with the roots of the mesh: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl Serving {
    /// For the listener of xDS and certificates: issues a first certificate for these names and
    /// addresses. Speaks HTTP/2.
    pub fn to_proxies(ca: Arc<Ca>, names: Vec<String>) -> Result<Self, ServingError> {
        Self::new(ca, names, Clients::Proxies)
    }

    /// For the webhook: issues a first certificate for the names of its Service. Speaks HTTP/2 and
    /// HTTP/1.1, and asks for no certificate. Whoever calls it verifies with [`Ca::bundle`].
    pub fn to_api_server(ca: Arc<Ca>, names: Vec<String>) -> Result<Self, ServingError> {
        Self::new(ca, names, Clients::ApiServer)
    }

    fn new(ca: Arc<Ca>, names: Vec<String>, clients: Clients) -> Result<Self, ServingError> {
        let current = ArcSwap::from_pointee(issue(&ca, &names, clients)?);
        Ok(Self {
            ca,
            names,
            clients,
            current,
        })
    }

    /// The configuration for the next handshake.
    pub fn current(&self) -> Arc<ServerConfig> {
        self.current.load().config.clone()
    }

    /// Renews the certificate whenever two thirds of its life are over, and whenever another root signs
    /// or is trusted. Never ends.
    pub async fn keep_current(&self) {
        let mut authorities = self.ca.follow();
        loop {
            let current = self.current.load_full();
            let wait = current.renew_at.duration_since(SystemTime::now());
            let replaced = authorities.wait_for(|now| !Arc::ptr_eq(now, &current.authority));
            tokio::select! {
                () = tokio::time::sleep(wait.unwrap_or_default().max(PAUSE)) => {}
                // Fails only without the CA, which lives in self.
                _ = replaced => {}
            }
            match issue(&self.ca, &self.names, self.clients) {
                Ok(issued) => {
                    self.current.store(Arc::new(issued));
                    tracing::info!(names = ?self.names, "serving certificate renewed");
                }
                Err(error) => {
                    tracing::error!(%error, "cannot renew the serving certificate");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn issue(ca: &Ca, names: &[String], clients: Clients) -> Result<Issued, ServingError> {
    let authority = ca.authority();
    let leaf = ca.issue(names).map_err(|error| ServingError::Issue {
        names: names.to_vec(),
        error,
    })?;
    let now = SystemTime::now();
    let life = leaf.not_after.duration_since(now).unwrap_or_default();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    // The cheapest first: every change is encrypted anew for each of its followers.
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = Arc::new(provider);
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let mut config = match clients {
        Clients::Proxies => verifying(builder, &authority.bundle(), provider)?,
        Clients::ApiServer => builder.with_no_client_auth(),
    }
    .with_single_cert(leaf.chain, leaf.key)?;
    config.ignore_client_order = true;
    config.alpn_protocols = match clients {
        Clients::Proxies => vec![b"h2".to_vec()],
        Clients::ApiServer => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(Issued {
        config: Arc::new(config),
        authority,
        renew_at: now + life * 2 / 3,
    })
}

fn verifying(
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    bundle: &str,
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ServerConfig, rustls::server::WantsServerCert>, ServingError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(
        CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok),
    );
    let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
        .allow_unauthenticated()
        .build()?;
    Ok(builder.with_client_cert_verifier(clients))
}

#[cfg(test)]
mod tests {
    use super::{super::directory, *};
    use crate::ca::{Leaves, Settings};

    fn ca(directory: &std::path::Path) -> Arc<Ca> {
        let leaves = Leaves {
            trust_domain: "cluster.local".into(),
            max_ttl: Duration::from_secs(3600),
        };
        let directory = directory.to_owned();
        Arc::new(Ca::open(Settings { directory, leaves }).unwrap())
    }

    #[test]
    fn the_api_server_may_speak_either_http_and_proxies_speak_http_2() {
        let dir = tempfile::tempdir().unwrap();
        let ca = ca(dir.path());
        let names = vec!["weft-control-plane.weft-system.svc".to_owned()];
        let webhook = Serving::to_api_server(ca.clone(), names.clone()).unwrap();
        let protocols: [&[u8]; 2] = [b"h2", b"http/1.1"];
        assert_eq!(webhook.current().alpn_protocols, protocols);
        let xds = Serving::to_proxies(ca, names).unwrap();
        assert_eq!(xds.current().alpn_protocols, [b"h2"]);
    }

    #[tokio::test]
    async fn another_root_is_served_with_at_once() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ca = ca(first.path());
        let serving = Arc::new(Serving::to_proxies(ca.clone(), vec!["a".to_owned()]).unwrap());
        let before = serving.current.load_full();
        let authority = directory::load_authority(second.path(), "cluster.local").unwrap();
        ca.replace(authority);
        let renewal = tokio::spawn({
            let serving = serving.clone();
            async move { serving.keep_current().await }
        });
        while Arc::ptr_eq(&before, &serving.current.load()) {
            tokio::task::yield_now().await;
        }
        let after = serving.current.load_full();
        assert!(Arc::ptr_eq(&after.authority, &ca.authority()));
        renewal.abort();
    }
}
