//! From where the API is reached, and from where it reaches webhooks.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};
use weft_cli::sandbox::{Namespace, Network};

/// The port of the API in a network of pods.
const PORT: u16 = 6443;
/// The address of a node in its network of pods.
const NODE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);

/// Where the API stands.
#[derive(Debug, Clone)]
pub enum Place {
    /// On the loopback of this process, on a free port.
    Loopback,
    /// On the node of a network, where its pods reach it; what runs outside of the network does not.
    Node(Namespace),
}

impl Place {
    /// The node of a network.
    pub fn node(network: &Network) -> Self {
        Self::Node(network.node().clone())
    }

    /// Where to listen at first.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Loopback => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            Self::Node(_) => SocketAddr::from((NODE, PORT)),
        }
    }

    /// Names and addresses that the API is reached by.
    pub(super) fn names(&self) -> Vec<IpAddr> {
        vec![IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(NODE)]
    }

    pub(super) fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        self.within(|| TcpListener::bind(address))
    }

    pub(super) fn connect(&self, address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
        self.within(|| TcpStream::connect_timeout(&address, timeout))
    }

    fn within<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        match self {
            Self::Loopback => body(),
            Self::Node(namespace) => namespace.enter(body),
        }
    }
}
