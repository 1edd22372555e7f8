//! The destination that a request names, in the words of the control plane.

use crate::snapshot::route::without_port;
use std::net::{IpAddr, SocketAddr};
use weft_xds_proto::names;

/// The name of the destination of an authority in lower case: `user` is the service of that name in the
/// caller's own namespace, an address is the address, anything else goes by the name it has. The port is
/// that of the scheme when it is not given.
///
/// `None` when it is no host with an optional port.
pub fn destination(authority: &str, scheme: Option<&str>, namespace: &str) -> Option<String> {
    let (host, port) = split(authority)?;
    let port = match port {
        Some(port) => port,
        None if scheme == Some("https") => 443,
        None => 80,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Some(names::address(SocketAddr::new(ip, port)));
    }
    // A name may be absolute: `user.demo.svc.cluster.local.`
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() {
        return None;
    }
    Some(if host.contains('.') {
        names::authority(host, port)
    } else {
        names::authority(&format!("{host}.{namespace}"), port)
    })
}

fn split(authority: &str) -> Option<(&str, Option<u16>)> {
    let host = without_port(authority);
    match authority[host.len()..].strip_prefix(':') {
        None => Some((host, None)),
        Some("") => Some((host, None)),
        Some(port) => Some((host, Some(port.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_becomes_the_name_of_a_destination() {
        for (authority, scheme, name) in [
            ("user", None, Some("user.demo:80")),
            ("user:8080", None, Some("user.demo:8080")),
            ("user.other", None, Some("user.other:80")),
            (
                "user.demo.svc.cluster.local.:80",
                None,
                Some("user.demo.svc.cluster.local:80"),
            ),
            ("user", Some("https"), Some("user.demo:443")),
            ("10.0.0.1:8080", None, Some("10.0.0.1:8080")),
            ("[fd00::1]:8080", None, Some("[fd00::1]:8080")),
            ("[fd00::1]", None, Some("[fd00::1]:80")),
            ("user:", None, Some("user.demo:80")),
            ("", None, None),
            (":80", None, None),
            (".", None, None),
            ("user:99999", None, None),
        ] {
            assert_eq!(
                destination(authority, scheme, "demo").as_deref(),
                name,
                "{authority}"
            );
        }
    }
}
