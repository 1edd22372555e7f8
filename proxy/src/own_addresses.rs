//! The addresses of this host's interfaces: in a pod, those of the pod.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ptr,
};

/// Every address of every interface, loopback excluded. Empty, with a warning, when they can't be had.
pub(crate) fn of_this_host() -> Vec<IpAddr> {
    match interfaces() {
        Ok(addresses) => addresses,
        Err(error) => {
            tracing::warn!(%error, "the addresses of this host are not known; pass them with --pod-ips");
            Vec::new()
        }
    }
}

fn interfaces() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: `first` is a valid place for the pointer to the list, which is freed below.
    if unsafe { libc::getifaddrs(&mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    // SAFETY: getifaddrs(3) makes a list that ends with a null pointer and lives until freeifaddrs.
    while let Some(interface) = unsafe { next.as_ref() } {
        // SAFETY: `ifa_addr` is null or points to a socket address of the family that it says.
        addresses.extend(unsafe { address(interface.ifa_addr) });
        next = interface.ifa_next;
    }
    // SAFETY: the list came from getifaddrs, and nothing points into it any more.
    unsafe { libc::freeifaddrs(first) };
    addresses.retain(|address| !address.is_loopback());
    Ok(addresses)
}

/// # Safety
///
/// The pointer is null or points to a socket address of the family that it says.
unsafe fn address(socket_address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as the caller promises.
    match i32::from(unsafe { socket_address.as_ref() }?.sa_family) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in.
            let address = unsafe { &*socket_address.cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a sockaddr_in6.
            let address = unsafe { &*socket_address.cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_is_not_an_address_of_ours() {
        let addresses = super::interfaces().unwrap();
        assert!(addresses.iter().all(|address| !address.is_loopback()));
    }
}
