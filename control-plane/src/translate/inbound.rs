//! The inbound listener of a workload: what its proxy requires of callers.

mod limits;

pub(super) use limits::Limits;

use super::{
    filter::{HTTP_DETECTED, http, http_filter, http_inspector, routes, tcp_filter, tls_inspector},
    name,
    proto::{ads, metadata, number, tls, yes},
    route,
};
use crate::world::{MtlsMode, Protocol, Workload, World};
use envoy_types::pb::envoy::{
    config::{
        core::v3::{TrafficDirection, TransportSocket},
        listener::v3::{Filter, FilterChain, FilterChainMatch, Listener as Message},
    },
    extensions::{
        filters::network::http_connection_manager::v3::http_connection_manager::CodecType,
        transport_sockets::tls::v3::{
            CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
            common_tls_context::ValidationContextType,
        },
    },
};
use std::{sync::Arc, time::Duration};
use weft_xds_proto::{
    names::{ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP, ROOT_SECRET, WORKLOAD_SECRET},
    weft::v1::WorkloadMetadata,
};

/// The inbound listener of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Inbound {
    name: Arc<str>,
    workload: Arc<str>,
    namespace: Arc<str>,
    /// Empty when unknown.
    zone: Arc<str>,
    idle_timeout: Option<Duration>,
    /// By number; the last one has none and stands for all others.
    ports: Vec<Port>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Port {
    number: Option<u16>,
    protocol: Protocol,
    mtls: MtlsMode,
    limits: Limits,
}

/// The cluster of the application behind the proxy. It is not a resource: the proxy knows it.
const LOCAL_CLUSTER: &str = "inbound";

impl Inbound {
    pub(super) fn plan(world: &World, name: &str) -> Option<Self> {
        let workload = name::inbound(world, name)?;
        let fronts = world.fronts(workload);
        let declared = world
            .inbound_ports(workload)
            .into_iter()
            .map(|(number, protocol)| (Some(number), protocol));
        let ports = declared
            .chain([(None, Protocol::Undeclared)])
            .map(|(number, protocol)| Port {
                number,
                protocol,
                mtls: world.mtls_mode(workload, number),
                limits: number
                    .and_then(|number| fronts.get(&number))
                    .map(|fronts| Limits::plan(world, fronts))
                    .unwrap_or_default(),
            })
            .collect();
        Some(Self {
            name: name.into(),
            workload: workload.name.clone(),
            namespace: workload.key.namespace.clone(),
            zone: zone(world, workload).unwrap_or_default(),
            idle_timeout: world.mesh().idle_timeout,
            ports,
        })
    }

    pub(super) fn message(&self) -> Message {
        Message {
            name: self.name.to_string(),
            traffic_direction: TrafficDirection::Inbound.into(),
            metadata: Some(metadata(WorkloadMetadata {
                workload: self.workload.to_string(),
                namespace: self.namespace.to_string(),
                zone: self.zone.to_string(),
            })),
            listener_filters: vec![tls_inspector(), http_inspector()],
            filter_chains: self
                .ports
                .iter()
                .flat_map(|port| self.filter_chains(port))
                .collect(),
            ..Message::default()
        }
    }

    fn filter_chains(&self, port: &Port) -> Vec<FilterChain> {
        let transports: &[Transport] = match port.mtls {
            MtlsMode::Strict => &[Transport::Tls],
            MtlsMode::Permissive => &[Transport::Tls, Transport::Plaintext],
        };
        let http = |codec| {
            http_filter(http(
                LOCAL_CLUSTER,
                codec,
                self.idle_timeout,
                routes(route::to_local_cluster(LOCAL_CLUSTER)),
                port.limits.filters(),
            ))
        };
        let tcp = || tcp_filter(LOCAL_CLUSTER, &LOCAL_CLUSTER.into());
        let chains = |transport: Transport| match port.protocol {
            Protocol::Http => vec![transport.chain(port, "http", &[], http(CodecType::Auto))],
            Protocol::Http2 => vec![transport.chain(port, "http", &[], http(CodecType::Http2))],
            Protocol::Tcp => vec![transport.chain(port, "tcp", &[], tcp())],
            Protocol::Undeclared => vec![
                transport.chain(port, "http", &HTTP_DETECTED, http(CodecType::Auto)),
                transport.chain(port, "tcp", &[], tcp()),
            ],
        };
        transports.iter().copied().flat_map(chains).collect()
    }
}

/// The zone of a workload: what it says itself, else what an endpoint slice says of it, which is where Kubernetes before
/// 1.35 has it.
fn zone(world: &World, workload: &Workload) -> Option<Arc<str>> {
    let in_slices = || {
        let addresses = workload.addresses.iter();
        let services = addresses.flat_map(|address| world.services_behind(*address));
        let slices = services.flat_map(|service| world.slices(service));
        slices
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| workload.addresses.contains(&endpoint.address))
            .filter(|endpoint| {
                let target = endpoint.workload.as_ref();
                target.is_none_or(|target| *target == workload.key)
            })
            .find_map(|endpoint| endpoint.zone.clone())
    };
    workload.zone.clone().or_else(in_slices)
}

#[derive(Clone, Copy)]
enum Transport {
    Tls,
    Plaintext,
}

impl Transport {
    fn chain(
        self,
        port: &Port,
        protocol: &str,
        application_protocols: &[&str],
        filter: Filter,
    ) -> FilterChain {
        // As Envoy's TLS inspector calls them.
        let (transport, transport_socket) = match self {
            Self::Tls => ("tls", mutual_tls()),
            Self::Plaintext => ("raw_buffer", None),
        };
        let number_or_other = port.number.map_or("other".to_owned(), |n| n.to_string());
        FilterChain {
            name: format!("{number_or_other}-{transport}-{protocol}"),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: port.number.and_then(number),
                transport_protocol: transport.to_owned(),
                application_protocols: application_protocols
                    .iter()
                    .map(|&protocol| protocol.to_owned())
                    .collect(),
                ..FilterChainMatch::default()
            }),
            transport_socket,
            filters: vec![filter],
            ..FilterChain::default()
        }
    }
}

fn mutual_tls() -> Option<TransportSocket> {
    let secret = |name: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: ads(),
    };
    tls(DownstreamTlsContext {
        require_client_certificate: yes(),
        common_tls_context: Some(CommonTlsContext {
            alpn_protocols: [ALPN_HTTP1, ALPN_HTTP2, ALPN_TCP, b"http/1.1", b"h2"]
                .map(|alpn| String::from_utf8_lossy(alpn).into_owned())
                .into(),
            tls_certificate_sds_secret_configs: vec![secret(WORKLOAD_SECRET)],
            validation_context_type: Some(ValidationContextType::ValidationContextSdsSecretConfig(
                secret(ROOT_SECRET),
            )),
            ..CommonTlsContext::default()
        }),
        ..DownstreamTlsContext::default()
    })
}
