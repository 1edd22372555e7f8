//! Where a connection wanted to go before it was redirected to the proxy.

use std::{io, net::SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The seam between the data path and how connections reach the proxy.
pub trait OriginalDestination {
    /// The address that the peer dialled. An IPv4 address never comes in IPv6 clothes.
    ///
    /// For a connection that nothing redirected this is the proxy's own listener: whoever forwards it must
    /// refuse that address, or the proxy would dial itself for ever.
    fn of(&self, connection: &TcpStream) -> io::Result<SocketAddr>;
}

/// Connections arrive through a redirect rule of the kernel, which remembers where they wanted to go.
#[derive(Debug, Clone, Copy, Default)]
pub struct Intercepted;

/// Connections are dialled to the proxy on purpose (explicit mode): the local address is the destination.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalAddress;

impl OriginalDestination for Intercepted {
    fn of(&self, connection: &TcpStream) -> io::Result<SocketAddr> {
        let local = LocalAddress.of(connection)?;
        let socket = SockRef::from(connection);
        let original = if local.is_ipv4() {
            socket.original_dst_v4()
        } else {
            socket.original_dst_v6()
        };
        match original {
            Ok(original) => original.as_socket().ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the kernel gave an original destination that is no IP address",
                )
            }),
            // Connection tracking does not know the connection, or is not there: nothing redirected it.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOPROTOOPT)) =>
            {
                Ok(local)
            }
            Err(error) => Err(error),
        }
    }
}

impl OriginalDestination for LocalAddress {
    fn of(&self, connection: &TcpStream) -> io::Result<SocketAddr> {
        let local = connection.local_addr()?;
        Ok(SocketAddr::new(local.ip().to_canonical(), local.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen;

    /// Redirected connections are tested where there are redirect rules: `nft/tests.rs`.
    #[tokio::test]
    async fn a_connection_that_nothing_redirected_wanted_the_local_address() {
        let listener = listen::single("--x", "[::]:0".parse().unwrap()).unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let _client = TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert_eq!(LocalAddress.of(&accepted).unwrap(), address);
        assert_eq!(Intercepted.of(&accepted).unwrap(), address);
    }
}
