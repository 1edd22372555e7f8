//! Connections to the control plane, and who we are on them.
//!
//! Here, unlike between sidecars, the server is verified by name: its certificate must bear that of the
//! control plane and chain to a root of the `--xds-ca` file or of the mesh.

use super::{Authorities, Identity, provider};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, client::WebPkiServerVerifier, sign::SingleCertAndKey};
use rustls_pki_types::ServerName;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

/// TCP and TLS together, for one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A control plane that does not answer a ping in time is dead: noticed within 20 s.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where the control plane is, and how each side proves who it is.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// A DNS name or an IP address, resolved for every connection anew.
    pub host: String,
    /// Its TLS port.
    pub port: u16,
    /// The name that its certificate must bear: mostly `host`.
    pub server_name: String,
    /// Authorities for its certificate; read for every connection anew.
    pub authorities: Authorities,
    /// File with the token that proves who we are; read for every use anew, since such tokens rotate.
    pub token: PathBuf,
    /// Our certificate, as soon as there is one, and the roots of the mesh.
    pub identity: Identity,
}

/// How we prove who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// By our certificate.
    Certificate,
    /// By the token.
    Token,
}

/// A connection to the control plane.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The HTTP/2 connection.
    pub channel: Channel,
    /// The `authorization` that each call must bear; none when our certificate is the proof.
    pub authorization: Option<MetadataValue<Ascii>>,
    /// Where it leads.
    pub address: SocketAddr,
}

/// Why there is no connection to the control plane.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The authorities cannot be read.
    #[error("--xds-ca {}: {reason}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The token cannot be read.
    #[error("--xds-token {}: {reason}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is no certificate to prove ourselves with (any more).
    #[error("there is no certificate in force to prove who we are")]
    NoCertificate,
    /// `server_name` is neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
    /// The name cannot be resolved.
    #[error("{host} cannot be resolved: {error}")]
    Resolve {
        /// Which.
        host: String,
        /// Why.
        error: io::Error,
    },
    /// Nobody answers there, or not in TLS that we trust.
    #[error("{address} (as {server_name:?}): {reason}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Whom we expect there.
        server_name: String,
        /// Why.
        reason: String,
    },
}

impl ControlPlane {
    /// `https://host:port`, for logs.
    pub fn url(&self) -> String {
        // A literal IPv6 address needs its brackets.
        match self.host.parse() {
            Ok(ip) => format!("https://{}", SocketAddr::new(ip, self.port)),
            Err(_) => format!("https://{}:{}", self.host, self.port),
        }
    }

    /// The proof to use: the certificate when there is one.
    pub fn proof(&self) -> Proof {
        match self.identity.current() {
            Some(_) => Proof::Certificate,
            None => Proof::Token,
        }
    }

    /// Connects. Every address of the name is tried, in order.
    pub async fn connect(&self, proof: Proof) -> Result<Connection, ConnectError> {
        let config = Arc::new(self.config(proof).await?);
        let authorization = match proof {
            Proof::Certificate => None,
            Proof::Token => Some(self.bearer().await?),
        };
        let server_name = ServerName::try_from(self.server_name.clone())
            .map_err(|_| ConnectError::ServerName(self.server_name.clone()))?;
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(|error| ConnectError::Resolve {
                host: self.host.clone(),
                error,
            })?;
        let mut failure = ConnectError::Resolve {
            host: self.host.clone(),
            error: io::Error::other("it has no address"),
        };
        for address in addresses {
            let connected = self.connect_to(address, &config, &server_name).await;
            match connected {
                Ok(channel) => {
                    return Ok(Connection {
                        channel,
                        authorization,
                        address,
                    });
                }
                Err(reason) => {
                    failure = ConnectError::Connect {
                        address,
                        server_name: self.server_name.clone(),
                        reason,
                    }
                }
            }
        }
        Err(failure)
    }

    async fn connect_to(
        &self,
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        server_name: &ServerName<'static>,
    ) -> Result<Channel, String> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, handshake(address, config, server_name))
            .await
            .map_err(|_| format!("no connection within {CONNECT_TIMEOUT:?}"))?
            .map_err(|error| error.to_string())?;
        // The connection is made; tonic may take it once. Another try is ours to decide about.
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_: Uri| {
            std::future::ready(
                stream
                    .take()
                    .ok_or_else(|| io::Error::other("it was closed")),
            )
        });
        Endpoint::from_shared(self.url())
            .map_err(|error| error.to_string())?
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .connect_with_connector(connector)
            .await
            .map_err(|error| with_sources(&error))
    }

    async fn bearer(&self) -> Result<MetadataValue<Ascii>, ConnectError> {
        let fail = |reason: String| ConnectError::Token {
            path: self.token.clone(),
            reason,
        };
        let token = tokio::fs::read_to_string(&self.token)
            .await
            .map_err(|error| fail(error.to_string()))?;
        let token = token.trim();
        if token.is_empty() {
            return Err(fail("it is empty".to_owned()));
        }
        let mut value = MetadataValue::try_from(format!("Bearer {token}"))
            .map_err(|_| fail("it has characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }

    async fn config(&self, proof: Proof) -> Result<ClientConfig, ConnectError> {
        let roots = Arc::new(self.authorities().await?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(|error| self.bad_authorities(error.to_string()))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for every version")
            .with_webpki_verifier(verifier);
        let mut config = match proof {
            Proof::Token => builder.with_no_client_auth(),
            Proof::Certificate => {
                let credentials = self.identity.current().ok_or(ConnectError::NoCertificate)?;
                let own = SingleCertAndKey::from(credentials.certified_key.clone());
                builder.with_client_cert_resolver(Arc::new(own))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// Those of the file, and the roots of the mesh when it has told us: the file may be older.
    async fn authorities(&self) -> Result<RootCertStore, ConnectError> {
        let mut store = RootCertStore::empty();
        if let Some(roots) = &self.identity.roots() {
            store.add_parsable_certificates(roots.certificates().iter().cloned());
        }
        let (of_file, failure) = self.authorities.read().await;
        store.add_parsable_certificates(of_file);
        match failure {
            Some(reason) if store.is_empty() => Err(self.bad_authorities(reason)),
            _ => Ok(store),
        }
    }

    fn bad_authorities(&self, reason: String) -> ConnectError {
        ConnectError::Authorities {
            path: self.authorities.path().to_owned(),
            reason,
        }
    }
}

async fn handshake(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    server_name: &ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config.clone())
        .connect(server_name.clone(), stream)
        .await
}

/// tonic's errors say little themselves.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
