//! Listeners: bound with errors that say which flag to change, accepted into connections of gRPC or HTTP.

mod connection;

pub use connection::Connection;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use crate::{
    ca::Serving,
    caller::{Peer, Proof},
};

/// A connection that does not complete its handshake in this time is closed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at a time: each costs a signature, and a storm must leave the processor to streams.
const HANDSHAKES: usize = 128;
/// Finds out that a proxy is gone without saying so.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After an error of `accept`, such as having no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a listener is not there.
#[derive(Debug, thiserror::Error)]
#[error("{flag} {address}: {}", explain(.error))]
pub struct BindError {
    flag: &'static str,
    address: SocketAddr,
    error: io::Error,
}

/// How the connections of a listener begin.
#[derive(Debug, Clone)]
pub enum Transport {
    /// With TLS.
    Tls(Arc<Serving>),
    /// At once.
    Plaintext,
}

/// Binds an address that a flag gave. `[::]` takes IPv4 as well, or only that where there is no IPv6.
pub fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, BindError> {
    let bound = match listen(address) {
        Err(error) if address.ip().is_unspecified() && has_no_ipv6(&error) => {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    };
    bound.map_err(|error| BindError {
        flag,
        address,
        error,
    })
}

/// Serves gRPC on a listener until shut down.
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    routes: Routes,
    shutdown: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (ready, connections) = mpsc::channel(HANDSHAKES);
    let accept = accept(listener, transport, ready);
    let serve = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(
            ReceiverStream::new(connections),
            shutdown.clone().cancelled_owned(),
        );
    let accept = shutdown.run_until_cancelled(accept);
    let (_, served) = tokio::join!(accept, serve);
    served
}

/// Serves HTTP on a listener until shut down.
pub async fn serve_http(
    listener: TcpListener,
    transport: Transport,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let (ready, connections) = mpsc::channel(HANDSHAKES);
    let accept = accept(listener, transport, ready);
    let accepted = Accepted {
        connections,
        address,
    };
    let serve = axum::serve(accepted, router)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned())
        .into_future();
    let accept = shutdown.run_until_cancelled(accept);
    let (_, served) = tokio::join!(accept, serve);
    served
}

/// Connections whose handshake is done, as axum takes them.
struct Accepted {
    connections: mpsc::Receiver<io::Result<Connection>>,
    address: SocketAddr,
}

impl axum::serve::Listener for Accepted {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(Ok(connection)) => {
                let peer = connection.peer_address();
                (connection, peer)
            }
            // Nobody accepts any more.
            Some(Err(_)) | None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    transport: Transport,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let (tcp, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = handshakes.clone().acquire_owned().await else {
            return;
        };
        let (transport, ready) = (transport.clone(), ready.clone());
        tokio::spawn(async move {
            let begun =
                tokio::time::timeout(HANDSHAKE_TIMEOUT, begin(tcp, address, transport)).await;
            drop(permit);
            match begun {
                // Fails only when the server is gone, and the connection with it.
                Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
                // Among them clients whose certificate has expired or is of another trust domain.
                Ok(Err(error)) => {
                    tracing::info!(peer = %address, %error, "connection refused");
                }
                Err(_) => tracing::debug!(peer = %address, "handshake timed out"),
            }
        });
    }
}

async fn begin(
    tcp: TcpStream,
    address: SocketAddr,
    transport: Transport,
) -> io::Result<Connection> {
    tcp.set_nodelay(true)?;
    let Transport::Tls(serving) = transport else {
        let proof = Proof::Plaintext;
        return Ok(Connection::plaintext(tcp, Peer { address, proof }));
    };
    let tls = TlsAcceptor::from(serving.current()).accept(tcp).await?;
    let proof = Proof::of_certificates(tls.get_ref().1.peer_certificates());
    Ok(Connection::tls(tls, Peer { address, proof }))
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn has_no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Linux: the kernel was built or booted without the address family.
const EAFNOSUPPORT: i32 = 97;

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the port is in use: another process listens there; stop it, or choose another address"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "this user may not listen there; choose a port above 1023".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "the address is none of this host; choose one that is, or [::] for all".to_owned()
        }
        _ => error.to_string(),
    }
}
