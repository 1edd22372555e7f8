//! Listening sockets that several workers share.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    num::NonZeroUsize,
};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why a listener could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{flag}: cannot listen on {address}: {source}; {advice}")]
pub struct ListenError {
    flag: &'static str,
    address: SocketAddr,
    advice: &'static str,
    source: io::Error,
}

/// Binds one socket per worker to an address; the kernel spreads new connections over them (`SO_REUSEPORT`).
///
/// `[::]` takes IPv4 as well, and becomes `0.0.0.0` where the kernel has no IPv6. With port 0 all sockets
/// share one free port. The sockets are non-blocking, and what they accept has `TCP_NODELAY` set.
///
/// `flag` is the name of the setting that the address came from, for the error.
pub fn shared(
    flag: &'static str,
    address: SocketAddr,
    workers: NonZeroUsize,
) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |address, source: io::Error| ListenError {
        flag,
        address,
        advice: advice(&source),
        source,
    };
    let address = if address.is_ipv6() && address.ip().is_unspecified() && !kernel_has_ipv6() {
        SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port())
    } else {
        address
    };
    // SO_REUSEPORT would let a second proxy of the same user join in silently and take half of the
    // connections. A socket without it is refused if anybody listens already.
    bind(address, Sharing::Refused).map_err(|source| failed(address, source))?;
    let mut listeners: Vec<TcpListener> = Vec::with_capacity(workers.get());
    for _ in 0..workers.get() {
        let address = match listeners.first() {
            Some(first) => first
                .local_addr()
                .map_err(|source| failed(address, source))?,
            None => address,
        };
        let socket = bind(address, Sharing::Allowed)
            .and_then(|socket| socket.listen(BACKLOG).map(|()| socket))
            .map_err(|source| failed(address, source))?;
        listeners.push(socket.into());
    }
    Ok(listeners)
}

/// Binds one socket to an address: [`shared`] for a listener that only one thread serves.
pub fn single(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let mut listeners = shared(flag, address, NonZeroUsize::MIN)?;
    Ok(listeners.remove(0))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Allowed,
    Refused,
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    // A restarted proxy need not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Allowed)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Accepted sockets inherit it, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether sockets of IPv6 can be made here at all.
pub(crate) fn kernel_has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok()
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another process listens there: stop it, or choose another port with this flag"
        }
        io::ErrorKind::AddrNotAvailable => {
            "no interface of this host has the address: use one that it has, or [::] for all"
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability NET_BIND_SERVICE: grant it, or use a higher port"
        }
        _ => "see the flag's help for what it accepts",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

    #[test]
    fn workers_share_one_port() {
        let listeners = shared("--x", "127.0.0.1:0".parse().unwrap(), TWO).unwrap();
        let ports: Vec<_> = listeners
            .iter()
            .map(|listener| listener.local_addr().unwrap().port())
            .collect();
        assert_eq!(ports, [ports[0]; 2]);
        assert_ne!(ports[0], 0);
    }

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_connections() {
        let listener = single("--x", "[::]:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    }

    #[test]
    fn accepted_connections_inherit_nodelay() {
        let listener = single("--x", "127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    #[test]
    fn a_port_that_another_proxy_shares_is_in_use_for_us() {
        let first = shared("--outbound-port", "127.0.0.1:0".parse().unwrap(), TWO).unwrap();
        let address = first[0].local_addr().unwrap();
        let error = shared("--outbound-port", address, TWO).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "--outbound-port: cannot listen on {address}: Address already in use (os error 98); another \
                 process listens there: stop it, or choose another port with this flag"
            )
        );
    }
}
