//! Outbound listeners: what a client does with connections to a destination.

use super::{
    Envoy,
    filter::{HTTP_DETECTED, http, http_filter, http_inspector, routes_by_name, tcp_filter},
    name::{self, Destination},
    proto,
    route::{OUTBOUND, fault_filter},
};
use crate::world::{Protocol, World};
use envoy_types::pb::envoy::{
    config::{
        core::v3::TrafficDirection,
        listener::v3::{ApiListener, FilterChain, FilterChainMatch, Listener as Message},
    },
    extensions::filters::network::http_connection_manager::v3::http_connection_manager::CodecType,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// The listener of one destination, for a Weft proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Outbound {
    name: Arc<str>,
    /// Its cluster and, if it may be HTTP, its routes.
    cluster: Arc<str>,
    protocol: Protocol,
    idle_timeout: Option<Duration>,
}

impl Outbound {
    pub(super) fn plan(world: &World, name: &str) -> Option<Self> {
        let destination = name::listener(world, name)?;
        Some(Self {
            name: name.into(),
            cluster: destination.cluster(world),
            protocol: destination.protocol(world),
            idle_timeout: world.mesh().idle_timeout,
        })
    }

    pub(super) fn message(&self) -> Message {
        let http = |codec| FilterChain {
            name: "http".to_owned(),
            filters: vec![http_filter(http(
                &self.name,
                codec,
                self.idle_timeout,
                routes_by_name(&self.cluster),
                Vec::new(),
            ))],
            ..FilterChain::default()
        };
        let tcp = || FilterChain {
            name: "tcp".to_owned(),
            filters: vec![tcp_filter(&self.name, &self.cluster)],
            ..FilterChain::default()
        };
        let listener = Message {
            name: self.name.to_string(),
            traffic_direction: TrafficDirection::Outbound.into(),
            ..Message::default()
        };
        match self.protocol {
            Protocol::Http => Message {
                filter_chains: vec![http(CodecType::Auto)],
                ..listener
            },
            Protocol::Http2 => Message {
                filter_chains: vec![http(CodecType::Http2)],
                ..listener
            },
            Protocol::Tcp => Message {
                default_filter_chain: Some(tcp()),
                ..listener
            },
            Protocol::Undeclared => Message {
                listener_filters: vec![http_inspector()],
                filter_chains: vec![FilterChain {
                    filter_chain_match: Some(FilterChainMatch {
                        application_protocols: HTTP_DETECTED.map(str::to_owned).into(),
                        ..FilterChainMatch::default()
                    }),
                    ..http(CodecType::Auto)
                }],
                default_filter_chain: Some(tcp()),
                ..listener
            },
        }
    }
}

/// The listener of one target, for a gRPC client (gRFC A27): whatever the port is declared to be, who
/// asks speaks gRPC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    name: Arc<str>,
    route: Arc<str>,
}

impl Target {
    pub(super) fn plan(world: &World, name: &str) -> Option<Self> {
        let destination = name::listener(world, name)?;
        Some(Self {
            name: name.into(),
            route: destination.cluster(world),
        })
    }

    pub(super) fn message(&self) -> Message {
        let manager = http(
            &self.name,
            CodecType::Auto,
            None,
            routes_by_name(&self.route),
            Vec::new(),
        );
        Message {
            name: self.name.to_string(),
            api_listener: Some(ApiListener {
                api_listener: Some(proto::any(manager)),
            }),
            ..Message::default()
        }
    }
}

/// The one outbound listener of an Envoy, which routes by authority.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Gateway {
    address: SocketAddr,
    idle_timeout: Option<Duration>,
}

impl Gateway {
    pub(super) fn plan(world: &World, envoy: &Envoy, name: &str) -> Option<Self> {
        (name == OUTBOUND).then(|| Self {
            address: envoy.outbound,
            idle_timeout: world.mesh().idle_timeout,
        })
    }

    pub(super) fn message(&self) -> Message {
        let manager = http(
            OUTBOUND,
            CodecType::Auto,
            self.idle_timeout,
            routes_by_name(OUTBOUND),
            vec![fault_filter()],
        );
        Message {
            name: OUTBOUND.to_owned(),
            address: proto::address(self.address),
            traffic_direction: TrafficDirection::Outbound.into(),
            filter_chains: vec![FilterChain {
                filters: vec![http_filter(manager)],
                ..FilterChain::default()
            }],
            ..Message::default()
        }
    }
}

impl Destination<'_> {
    /// What connections to the destination speak.
    fn protocol(&self, world: &World) -> Protocol {
        match self {
            Self::Service(_, port) => port.protocol,
            Self::Workload(workload, address) => world
                .inbound_ports(workload)
                .get(&address.port())
                .copied()
                .unwrap_or(Protocol::Undeclared),
        }
    }
}
