//! Clusters: how to choose among the endpoints of a destination, and how to talk to them.

mod connections;
mod load_balancing;
mod outlier;
mod tls;

use super::{
    Dialect,
    dialect::Form,
    endpoints,
    name::{self, Destination},
    proto::{ads, metadata},
};
use crate::world::{
    ConnectionPolicy, Protocol, World,
    policy::{Breaker, RetryBudget},
};
use envoy_types::pb::envoy::config::cluster::v3::{
    Cluster as Message,
    cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, EdsClusterConfig},
};
use load_balancing::Balancing;
use std::sync::Arc;
use tls::EnvoyTls;
use weft_xds_proto::weft::v1::ServiceMetadata;

/// The cluster of a destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Cluster {
    name: Arc<str>,
    form: Form,
    /// Empty where the cluster stands for an address.
    service: Arc<str>,
    namespace: Arc<str>,
    balancing: Balancing,
    connections: ConnectionPolicy,
    breaker: Option<Arc<Breaker>>,
    retry_budget: RetryBudget,
    /// The host that DNS is to be asked for, where the service is another name for one.
    external: Option<(Arc<str>, u16)>,
    /// What endpoints speak, which only Envoys have to be told.
    protocol: Protocol,
    /// Of Envoys that have a certificate.
    tls: Option<EnvoyTls>,
}

impl Cluster {
    pub(super) fn plan(world: &World, dialect: &Dialect, name: &str) -> Option<Self> {
        let destination = name::cluster(world, name)?;
        let service = match &destination {
            Destination::Service(service, _) => Some(&service.key),
            Destination::Workload(..) => None,
        };
        let (protocol, directory) = match (dialect, &destination) {
            (Dialect::Weft | Dialect::Grpc, _) => (None, None),
            (Dialect::Envoy(envoy), Destination::Service(_, port)) => {
                (Some(port.protocol), envoy.certificates.as_ref())
            }
            // Envoys route by authority, and a wildcard over every address would be large.
            (Dialect::Envoy(_), Destination::Workload(..)) => return None,
        };
        let policy = destination.policy(world);
        let external = match &destination {
            Destination::Service(service, port) => {
                service.external_name.clone().zip(Some(port.port))
            }
            Destination::Workload(..) => None,
        };
        Some(Self {
            external,
            name: destination.cluster(world),
            form: dialect.form(),
            service: service.map(|key| key.name.clone()).unwrap_or_default(),
            namespace: service.map(|key| key.namespace.clone()).unwrap_or_default(),
            balancing: Balancing::of(&policy),
            connections: policy.connections,
            breaker: policy.breaker,
            retry_budget: policy.retry_budget,
            protocol: protocol.unwrap_or(Protocol::Undeclared),
            tls: directory.and_then(|directory| EnvoyTls::plan(world, directory, &destination)),
        })
    }

    pub(super) fn message(&self) -> Message {
        let balancing = self.balancing.cluster(self.form);
        let connections = connections::cluster(
            &self.connections,
            self.retry_budget,
            self.breaker.as_deref(),
            self.protocol,
            self.form,
        );
        let breaker = self.breaker.as_ref().filter(|_| self.form != Form::Grpc);
        Message {
            name: self.name.to_string(),
            lb_policy: balancing.lb_policy,
            lb_config: balancing.lb_config,
            load_balancing_policy: balancing.load_balancing_policy,
            common_lb_config: balancing.common_lb_config,
            outlier_detection: breaker.map(|breaker| outlier::detection(breaker, self.form)),
            metadata: (self.form == Form::Weft).then(|| metadata(self.service_metadata())),
            transport_socket_matches: self
                .tls
                .iter()
                .map(|tls| tls.transport_socket(self.protocol))
                .collect(),
            ..match &self.external {
                None => Message {
                    cluster_discovery_type: discovery(DiscoveryType::Eds),
                    eds_cluster_config: Some(EdsClusterConfig {
                        eds_config: ads(),
                        service_name: self.name.to_string(),
                    }),
                    ..connections
                },
                Some((host, port)) => Message {
                    // gRPC knows no other that asks DNS.
                    cluster_discovery_type: discovery(match self.form {
                        Form::Weft | Form::Envoy => DiscoveryType::StrictDns,
                        Form::Grpc => DiscoveryType::LogicalDns,
                    }),
                    dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
                    load_assignment: Some(endpoints::named(&self.name, host, *port)),
                    ..connections
                },
            }
        }
    }

    fn service_metadata(&self) -> ServiceMetadata {
        ServiceMetadata {
            service: self.service.to_string(),
            namespace: self.namespace.to_string(),
            zone_preference: self.balancing.zone_preference().into(),
            breaker: self.breaker.as_deref().map(outlier::breaker),
        }
    }
}

fn discovery(ty: DiscoveryType) -> Option<ClusterDiscoveryType> {
    Some(ClusterDiscoveryType::Type(ty.into()))
}
