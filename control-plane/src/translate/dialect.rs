//! Who is asking, and so in which form a resource is given.

use std::{net::SocketAddr, sync::Arc};
use weft_xds_proto::names::{OUTBOUND_PORT, PROXY_USER_AGENT};

/// The form of xDS that a client understands. Streams of the same dialect share their resources.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dialect {
    /// A Weft proxy: on demand, by address or authority, TLS decided per endpoint.
    Weft,
    /// A proxyless gRPC client: by target name, over an API listener.
    Grpc,
    /// An Envoy: everything, over one outbound listener.
    Envoy(Envoy),
}

/// What an Envoy says about itself in its node metadata.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Envoy {
    /// `weft.dev/certificates`: the directory of its certificate of the mesh (`cert-chain.pem`, `key.pem`,
    /// `root-cert.pem`). Without it, Envoy speaks plaintext to everyone.
    pub certificates: Option<Arc<str>>,
    /// `weft.dev/outbound`: where its outbound listener listens. Default 127.0.0.1:15001.
    pub outbound: SocketAddr,
}

impl Envoy {
    /// The key of [`Self::certificates`] in the node's metadata.
    pub const CERTIFICATES: &str = "weft.dev/certificates";
    /// The key of [`Self::outbound`] in the node's metadata.
    pub const OUTBOUND: &str = "weft.dev/outbound";
}

/// What decides about the content of a resource that is the same for all clients of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Form {
    Weft,
    Grpc,
    Envoy,
}

impl Dialect {
    pub(super) const fn form(&self) -> Form {
        match self {
            Self::Weft => Form::Weft,
            Self::Grpc => Form::Grpc,
            Self::Envoy(_) => Form::Envoy,
        }
    }

    /// The dialect of a node, by its `user_agent_name` and the strings of its metadata.
    ///
    /// Errors with what is wrong with the metadata.
    pub fn of_node<'a>(
        user_agent: &str,
        metadata: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Self, String> {
        if user_agent == PROXY_USER_AGENT {
            return Ok(Self::Weft);
        }
        // `gRPC C-core`, `gRPC Go`, `gRPC Java`; Node says `gRPC Node Pure JS`.
        if user_agent.starts_with("gRPC") {
            return Ok(Self::Grpc);
        }
        let outbound = match metadata(Envoy::OUTBOUND) {
            None => SocketAddr::from(([127, 0, 0, 1], OUTBOUND_PORT)),
            Some(text) => text.parse().map_err(|_| {
                format!(
                    "node metadata {}: {text:?} is not an address and port such as 127.0.0.1:{OUTBOUND_PORT}",
                    Envoy::OUTBOUND
                )
            })?,
        };
        Ok(Self::Envoy(Envoy {
            certificates: metadata(Envoy::CERTIFICATES).map(Arc::from),
            outbound,
        }))
    }

    /// A short name for logs and metric labels.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Weft => "weft",
            Self::Grpc => "grpc",
            Self::Envoy(_) => "envoy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_the_dialect_of_its_user_agent() {
        let none = |_: &str| None;
        assert_eq!(Dialect::of_node("weft-proxy", none), Ok(Dialect::Weft));
        assert_eq!(Dialect::of_node("gRPC Python", none), Ok(Dialect::Grpc));
        assert_eq!(
            Dialect::of_node("envoy", none),
            Ok(Dialect::Envoy(Envoy {
                certificates: None,
                outbound: "127.0.0.1:15001".parse().unwrap(),
            }))
        );
    }

    #[test]
    fn node_metadata_configures_envoy_or_is_refused() {
        let metadata = |key: &str| match key {
            Envoy::CERTIFICATES => Some("/certs"),
            Envoy::OUTBOUND => Some("127.0.0.1:8001"),
            _ => None,
        };
        assert_eq!(
            Dialect::of_node("envoy", metadata),
            Ok(Dialect::Envoy(Envoy {
                certificates: Some("/certs".into()),
                outbound: "127.0.0.1:8001".parse().unwrap(),
            }))
        );
        let error = Dialect::of_node("envoy", |_| Some("8001")).unwrap_err();
        assert!(error.contains("weft.dev/outbound"), "{error}");
    }
}
