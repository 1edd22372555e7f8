//! The resource types of xDS v3 that Weft speaks, and the order in which they must be applied.

/// A type of resource on an aggregated stream.
///
/// The order of the variants is the order in which a server sends and a client applies them, so that
/// nothing refers to what is not there yet ("make before break", xDS protocol, "Eventual consistency
/// considerations"): clusters, endpoints, listeners, routes; secrets come first as clusters and
/// listeners refer to them. Removals go the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResourceType {
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    Endpoints,
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    Route,
}

impl ResourceType {
    /// Every type, in order.
    pub const ALL: [Self; 5] = [
        Self::Secret,
        Self::Cluster,
        Self::Endpoints,
        Self::Listener,
        Self::Route,
    ];

    /// The type URL on the wire.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The type of a URL, if it is one that Weft speaks.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ty| ty.url() == url)
    }

    /// A short name for logs and metric labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Listener => "listener",
            Self::Route => "route",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_url() {
        for ty in ResourceType::ALL {
            assert_eq!(ResourceType::from_url(ty.url()), Some(ty));
        }
        assert_eq!(ResourceType::from_url("type.googleapis.com/other"), None);
    }
}
