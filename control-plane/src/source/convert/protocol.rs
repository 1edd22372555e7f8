//! What a port is declared to speak.

use crate::world::Protocol;

/// By `appProtocol`, else by the name of the port up to its first dash (`http-metrics`).
pub(super) fn declared(app_protocol: Option<&str>, name: &str) -> Protocol {
    let prefix = name.split('-').next().unwrap_or(name);
    app_protocol
        .and_then(of_app_protocol)
        .or_else(|| match name {
            "grpc-web" => Some(Protocol::Http),
            _ => of_word(prefix),
        })
        .unwrap_or(Protocol::Undeclared)
}

/// `appProtocol` holds IANA service names or Kubernetes' own (KEP-3726).
fn of_app_protocol(app_protocol: &str) -> Option<Protocol> {
    match app_protocol {
        "kubernetes.io/h2c" => Some(Protocol::Http2),
        "kubernetes.io/ws" => Some(Protocol::Http),
        "kubernetes.io/wss" => Some(Protocol::Tcp),
        word => of_word(&word.to_ascii_lowercase()),
    }
}

/// What is encrypted is opaque to the proxy, `https` included.
fn of_word(word: &str) -> Option<Protocol> {
    match word {
        "http" | "http1" | "ws" => Some(Protocol::Http),
        "http2" | "h2c" | "grpc" => Some(Protocol::Http2),
        "tcp" | "tls" | "https" | "wss" | "redis" | "mysql" | "mongo" | "mongodb" | "postgres"
        | "postgresql" | "kafka" | "amqp" | "mqtt" | "ldap" | "ldaps" | "smtp" | "ssh"
        | "cassandra" | "memcached" | "nats" => Some(Protocol::Tcp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_wins_over_the_name_and_the_name_counts_up_to_its_dash() {
        for (app_protocol, name, expected) in [
            (None, "http", Protocol::Http),
            (None, "http-admin", Protocol::Http),
            (None, "grpc-web", Protocol::Http),
            (None, "grpc-user", Protocol::Http2),
            (None, "mysql", Protocol::Tcp),
            (None, "metrics", Protocol::Undeclared),
            (None, "", Protocol::Undeclared),
            (Some("kubernetes.io/h2c"), "http", Protocol::Http2),
            (Some("HTTP"), "tcp", Protocol::Http),
            (Some("https"), "http", Protocol::Tcp),
            (Some("example.com/own"), "http", Protocol::Http),
        ] {
            assert_eq!(
                declared(app_protocol, name),
                expected,
                "{app_protocol:?} {name}"
            );
        }
    }
}
