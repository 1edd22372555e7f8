//! What the demo runs: applications, their replicas and ports, and who calls whom. Values only.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use serde::Serialize;

/// The Kubernetes namespace of everything in the demo.
pub(super) const NAMESPACE: &str = "demo";
/// How many replicas a service has.
pub(super) const REPLICAS: u8 = 2;

/// A workload of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Workload {
    /// Where the load comes from. It has a sidecar, and no service.
    Load,
    /// Calls the other two.
    Order,
    /// Called over HTTP.
    User,
    /// Called over gRPC.
    Product,
}

impl Workload {
    /// The workloads with a service, in the order in which they can start.
    pub(super) const SERVICES: [Self; 3] = [Self::User, Self::Product, Self::Order];

    /// Its name as workload, service and service account.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Order => "order",
            Self::User => "user",
            Self::Product => "product",
        }
    }

    /// Its service, unless it has none.
    pub(super) const fn service(self) -> Option<Service> {
        let (host, protocol, port, target_port) = match self {
            Self::Load => return None,
            Self::User => (10, Protocol::Http, 80, 8080),
            Self::Product => (11, Protocol::Grpc, 9090, 9090),
            Self::Order => (12, Protocol::Http, 80, 8080),
        };
        Some(Service {
            name: self.name(),
            cluster_ipv4: Ipv4Addr::new(10, 96, 0, host),
            cluster_ipv6: Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, host as u16),
            protocol,
            port,
            target_port,
        })
    }

    /// The services it calls.
    pub(super) const fn calls(self) -> &'static [Self] {
        match self {
            Self::Load => &[Self::Order],
            Self::Order => &[Self::User, Self::Product],
            Self::User | Self::Product => &[],
        }
    }
}

/// The service of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) cluster_ipv4: Ipv4Addr,
    pub(super) cluster_ipv6: Ipv6Addr,
    pub(super) protocol: Protocol,
    /// The port that callers dial.
    pub(super) port: u16,
    /// The port of the endpoints.
    pub(super) target_port: u16,
}

impl Service {
    /// Where callers find it when sidecars intercept what they dial.
    pub(super) fn cluster_address(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.cluster_ipv4), self.port)
    }

    /// By which name callers ask their sidecar for it when nothing is intercepted.
    pub(super) fn authority_host(&self) -> String {
        weft_xds_proto::names::service_host(self.name, NAMESPACE, "cluster.local")
    }
}

/// What a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    /// HTTP/1.1.
    Http,
    /// gRPC.
    Grpc,
}

impl Protocol {
    /// Its name, as in `appProtocol`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Grpc => "grpc",
        }
    }
}

/// One replica of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PodName {
    pub(super) workload: Workload,
    pub(super) replica: u8,
}

impl PodName {
    /// Every pod of the demo.
    pub(super) fn all() -> Vec<Self> {
        let replicas = |workload: Workload| {
            let count = workload.service().map_or(1, |_| REPLICAS);
            (0..count).map(move |replica| Self { workload, replica })
        };
        Workload::SERVICES
            .into_iter()
            .chain([Workload::Load])
            .flat_map(replicas)
            .collect()
    }
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.workload.name(), self.replica)
    }
}

impl FromStr for PodName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let replicas: Vec<_> = Self::all()
            .into_iter()
            .filter(|name| name.workload.service().is_some())
            .collect();
        replicas
            .iter()
            .find(|name| name.to_string() == text)
            .copied()
            .ok_or_else(|| {
                let names: Vec<_> = replicas.iter().map(ToString::to_string).collect();
                format!("the replicas are {}", names.join(", "))
            })
    }
}

/// Who calls whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Edge {
    pub(super) source: Workload,
    pub(super) destination: Workload,
}

impl Edge {
    /// Every edge of the demo.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Workload::Load, Workload::Order]
            .into_iter()
            .flat_map(|source| {
                source.calls().iter().map(move |&destination| Self {
                    source,
                    destination,
                })
            })
    }

    /// What it speaks.
    pub(super) fn protocol(self) -> Protocol {
        self.destination
            .service()
            .expect("only services are called")
            .protocol
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_has_two_replicas_and_the_load_one() {
        let names: Vec<_> = PodName::all().iter().map(ToString::to_string).collect();
        assert_eq!(
            names,
            [
                "user-0",
                "user-1",
                "product-0",
                "product-1",
                "order-0",
                "order-1",
                "load-0"
            ]
        );
    }

    #[test]
    fn a_replica_is_known_by_its_name() {
        for name in PodName::all() {
            let parsed = name.to_string().parse();
            match name.workload.service() {
                Some(_) => assert_eq!(parsed, Ok(name)),
                None => assert!(parsed.unwrap_err().contains("user-0, user-1")),
            }
        }
    }

    #[test]
    fn the_edges_are_those_of_the_applications() {
        let edges: Vec<_> = Edge::all()
            .map(|edge| (edge.source.name(), edge.destination.name(), edge.protocol()))
            .collect();
        assert_eq!(
            edges,
            [
                ("load", "order", Protocol::Http),
                ("order", "user", Protocol::Http),
                ("order", "product", Protocol::Grpc),
            ]
        );
    }
}
