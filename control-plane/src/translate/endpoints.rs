//! Endpoints: the addresses that serve a destination, by zone.

use super::{
    Dialect,
    name::{self, Destination},
    proto::{self, metadata, number},
};
use crate::world::{Workload, World};
use envoy_types::pb::{
    envoy::config::{
        core::v3::{Locality, Metadata},
        endpoint::v3::{
            ClusterLoadAssignment as Message, Endpoint as EndpointMessage, LbEndpoint,
            LocalityLbEndpoints, lb_endpoint::HostIdentifier,
        },
    },
    google::protobuf::{Struct, Value, value::Kind},
};
use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, sync::Arc};
use weft_xds_proto::{spiffe::SpiffeId, weft::v1::EndpointMetadata};

/// The endpoints of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Endpoints {
    name: Arc<str>,
    metadata: EndpointData,
    /// In order of their addresses, by zone.
    zones: BTreeMap<Arc<str>, Vec<Endpoint>>,
}

/// What endpoints say about themselves beyond their address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum EndpointData {
    /// Identity and workload, in Weft's own message.
    Weft,
    /// Which transport socket to take. Nothing that an Envoy does not know the type of.
    Envoy,
    /// Nothing: gRPC reads none.
    Grpc,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Endpoint {
    address: SocketAddr,
    /// Present if it is of the mesh.
    identity: Option<SpiffeId>,
    workload: Arc<str>,
    namespace: Arc<str>,
    /// 1 unless the cluster's algorithm is a weighted one: an Envoy looks at weights under the others, too.
    weight: NonZeroU16,
}

/// The name, and the value of `tlsMode`, of the socket that endpoints of the mesh ask for.
pub(super) const TLS_MODE: &str = "weft";

/// What the metadata of an endpoint must hold to get the socket of the mesh.
pub(super) fn tls_mode() -> Struct {
    Struct {
        fields: [(
            "tlsMode".to_owned(),
            Value {
                kind: Some(Kind::StringValue(TLS_MODE.to_owned())),
            },
        )]
        .into(),
    }
}

impl Endpoints {
    pub(super) fn plan(world: &World, dialect: &Dialect, name: &str) -> Option<Self> {
        let destination = name::cluster(world, name)?;
        let metadata = match (dialect, &destination) {
            (Dialect::Weft, _) => EndpointData::Weft,
            (Dialect::Grpc, _) => EndpointData::Grpc,
            (Dialect::Envoy(_), Destination::Service(..)) => EndpointData::Envoy,
            (Dialect::Envoy(_), Destination::Workload(..)) => return None,
        };
        let weighted = destination.policy(world).algorithm.is_weighted();
        let mut zones: BTreeMap<Arc<str>, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in destination.endpoints(world) {
            let workload = endpoint.workload.as_ref();
            zones
                .entry(endpoint.zone.unwrap_or_default())
                .or_default()
                .push(Endpoint {
                    address: endpoint.address,
                    identity: workload
                        .filter(|workload| workload.meshed)
                        .map(|workload| workload.identity.clone()),
                    workload: workload.map(|w| w.name.clone()).unwrap_or_default(),
                    namespace: workload
                        .map(|w| w.key.namespace.clone())
                        .unwrap_or_default(),
                    weight: workload
                        .filter(|_| weighted)
                        .map_or(Workload::DEFAULT_WEIGHT, |workload| workload.weight),
                });
        }
        Some(Self {
            name: destination.cluster(world),
            metadata,
            zones,
        })
    }

    pub(super) fn message(&self) -> Message {
        Message {
            cluster_name: self.name.to_string(),
            endpoints: self
                .zones
                .iter()
                .map(|(zone, endpoints)| self.locality(zone, endpoints))
                .collect(),
            ..Message::default()
        }
    }

    fn locality(&self, zone: &Arc<str>, endpoints: &[Endpoint]) -> LocalityLbEndpoints {
        let weight = endpoints
            .iter()
            .fold(0u32, |sum, e| sum.saturating_add(e.weight.get().into()));
        LocalityLbEndpoints {
            // gRPC drops endpoints without a locality or whose locality has no weight (gRFC A27). By this
            // weight every endpoint of every zone gets its own share.
            locality: Some(Locality {
                zone: zone.to_string(),
                ..Locality::default()
            }),
            load_balancing_weight: number(weight),
            lb_endpoints: endpoints
                .iter()
                .map(|endpoint| LbEndpoint {
                    host_identifier: Some(HostIdentifier::Endpoint(EndpointMessage {
                        address: proto::address(endpoint.address),
                        ..EndpointMessage::default()
                    })),
                    load_balancing_weight: number(endpoint.weight.get()),
                    metadata: self.metadata.of(endpoint),
                    ..LbEndpoint::default()
                })
                .collect(),
            ..LocalityLbEndpoints::default()
        }
    }
}

/// The one endpoint of a cluster that asks DNS: a host by name.
pub(super) fn named(cluster: &str, host: &str, port: u16) -> Message {
    Message {
        cluster_name: cluster.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(EndpointMessage {
                    address: proto::host(host, port),
                    ..EndpointMessage::default()
                })),
                ..LbEndpoint::default()
            }],
            ..LocalityLbEndpoints::default()
        }],
        ..Message::default()
    }
}

impl EndpointData {
    fn of(self, endpoint: &Endpoint) -> Option<Metadata> {
        match self {
            Self::Grpc => None,
            Self::Envoy => endpoint.identity.is_some().then(|| Metadata {
                filter_metadata: [("envoy.transport_socket_match".to_owned(), tls_mode())].into(),
                ..Metadata::default()
            }),
            Self::Weft => Some(metadata(EndpointMetadata {
                identity: endpoint
                    .identity
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                workload: endpoint.workload.to_string(),
                namespace: endpoint.namespace.to_string(),
            })),
        }
    }
}
