//! Connections to endpoints: TCP, then mutual TLS with the very identity that the endpoint must have.

use crate::{
    error::RequestError,
    net::{self, stream::Stream},
    snapshot::{Endpoint, cluster::TcpKeepalive},
    tls::{self, Alpn, Identity},
};
use futures_util::future::LocalBoxFuture;
use rustls_pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive as Probes};
use std::{collections::HashSet, io, net::IpAddr, rc::Rc, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use weft_xds_proto::spiffe::SpiffeId;

/// Opens connections to endpoints. A seam: tests put other networks behind it.
pub trait Connector {
    /// Connects within the time, ready to carry what `alpn` says, with probes as told while nothing is carried.
    /// Nothing but the TLS handshake has been sent.
    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        alpn: Alpn,
        keepalive: TcpKeepalive,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Stream, ConnectError>>;
}

/// Why there is no connection to an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}: {detail}")]
pub struct ConnectError {
    /// The reason from the closed list.
    pub error: RequestError,
    /// What was tried on which endpoint, and what came of it.
    pub detail: Rc<str>,
}

/// The connector of a workload: over TCP, proving its identity where the endpoint has one.
pub struct WorkloadConnector {
    identity: Identity,
    own_addresses: Rc<HashSet<IpAddr>>,
}

impl WorkloadConnector {
    /// Proves `identity`. Calls to `own_addresses` (the pod calls its own service) reach the application
    /// directly and in plaintext: they pass no sidecar, so nobody would terminate TLS.
    pub fn new(identity: Identity, own_addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            identity,
            own_addresses: Rc::new(
                own_addresses
                    .into_iter()
                    .map(|address| address.to_canonical())
                    .collect(),
            ),
        }
    }

    fn required_identity<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a SpiffeId> {
        let own = self
            .own_addresses
            .contains(&endpoint.address.ip().to_canonical());
        endpoint.identity.as_ref().filter(|_| !own)
    }

    async fn connect_by(
        &self,
        endpoint: &Endpoint,
        alpn: Alpn,
        keepalive: TcpKeepalive,
        deadline: Instant,
    ) -> Result<Stream, ConnectError> {
        let address = endpoint.address;
        let expected = self.required_identity(endpoint);
        // Before the connection is opened: without a certificate it would be of no use.
        let config = match expected {
            None => None,
            Some(expected) => match self.identity.current() {
                Some(credentials) => Some((expected, Arc::clone(credentials.client(alpn)))),
                None => {
                    return Err(ConnectError::new(
                        RequestError::CertificateUnavailable,
                        format!(
                            "{address} requires mutual TLS and this proxy has no valid certificate"
                        ),
                    ));
                }
            },
        };

        let tcp = timeout_at(deadline, open(endpoint, keepalive))
            .await
            .map_err(|_| {
                ConnectError::new(
                    RequestError::UpstreamConnectTimeout,
                    format!("{address} did not answer the TCP handshake"),
                )
            })?
            .map_err(|error| {
                ConnectError::new(
                    RequestError::UpstreamConnectFailed,
                    format!("connecting to {address}: {error}"),
                )
            })?;
        let Some((expected, config)) = config else {
            return Ok(Stream::tcp(tcp));
        };

        let name = ServerName::from(address.ip());
        let mut stream = timeout_at(deadline, net::tls::connect(Stream::tcp(tcp), config, name))
            .await
            .map_err(|_| {
                ConnectError::new(
                    RequestError::UpstreamConnectTimeout,
                    format!("{address} ({expected}) did not complete the TLS handshake"),
                )
            })?
            .map_err(|error| {
                ConnectError::new(
                    RequestError::UpstreamTlsFailed,
                    format!("TLS handshake with {address} ({expected}): {error}"),
                )
            })?;

        // In TLS 1.3 the client speaks last: the peer has sent nothing of ours on, and nothing was sent yet.
        let presented = tls::peer_identity(stream.peer_certificates()).map_err(|error| {
            ConnectError::new(
                RequestError::UpstreamIdentityMismatch,
                format!("{address} must prove {expected}: {error}"),
            )
        })?;
        if presented != *expected {
            return Err(ConnectError::new(
                RequestError::UpstreamIdentityMismatch,
                format!("{address} must prove {expected} and proved {presented}"),
            ));
        }
        stream.set_peer_identity(presented);
        stream.forget_peer_certificates();
        Ok(stream)
    }
}

impl Connector for WorkloadConnector {
    fn connect<'a>(
        &'a self,
        endpoint: &'a Endpoint,
        alpn: Alpn,
        keepalive: TcpKeepalive,
        within: Duration,
    ) -> LocalBoxFuture<'a, Result<Stream, ConnectError>> {
        Box::pin(self.connect_by(endpoint, alpn, keepalive, Instant::now() + within))
    }
}

impl ConnectError {
    pub(super) fn new(error: RequestError, detail: String) -> Self {
        Self {
            error,
            detail: detail.into(),
        }
    }
}

async fn open(endpoint: &Endpoint, keepalive: TcpKeepalive) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(endpoint.address).await?;
    tcp.set_nodelay(true)?;
    SockRef::from(&tcp).set_tcp_keepalive(
        &Probes::new()
            .with_time(keepalive.time)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes.get()),
    )?;
    Ok(tcp)
}
