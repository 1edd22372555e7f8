//! `envoy.config.endpoint.v3.ClusterLoadAssignment`: the endpoints of a cluster.

use super::{
    Invalid,
    field::{At, Fault, non_zero, not_empty, own_metadata, required, unsupported},
};
use crate::snapshot::{Endpoint, WorkloadName};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::Arc,
};
use weft_xds_proto::{
    envoy::{
        envoy::config::{
            core::v3::{
                Address, HealthStatus, SocketAddress, address, socket_address::PortSpecifier,
                socket_address::Protocol,
            },
            endpoint::v3::{ClusterLoadAssignment, LbEndpoint, lb_endpoint::HostIdentifier},
        },
        google::protobuf::Any,
    },
    resource::ResourceType,
    spiffe::SpiffeId,
    weft::v1::EndpointMetadata,
};

/// The endpoints that may take traffic: of the localities with the best (lowest) priority that have any.
/// Those known to be unfit (`health_status`) are left out.
///
/// Not honoured: locality weights, `policy` (overprovisioning, drop overloads).
pub fn convert(name: &str, body: &Any) -> Result<Arc<[Arc<Endpoint>]>, Invalid> {
    super::resource(
        ResourceType::Endpoints,
        name,
        body,
        |assignment: &ClusterLoadAssignment| &assignment.cluster_name,
        endpoints,
    )
}

pub(super) fn endpoints(assignment: ClusterLoadAssignment) -> Result<Arc<[Arc<Endpoint>]>, Fault> {
    let mut best = Vec::new();
    let mut best_priority = u32::MAX;
    let mut seen = HashMap::new();
    for (l, locality) in assignment.endpoints.into_iter().enumerate() {
        unsupported("lb_config", locality.lb_config.is_some())
            .at(format_args!("endpoints[{l}]"))?;
        let zone: Arc<str> = locality.locality.unwrap_or_default().zone.into();
        for (e, lb_endpoint) in locality.lb_endpoints.into_iter().enumerate() {
            let at = format!("endpoints[{l}].lb_endpoints[{e}]");
            let Some(endpoint) = endpoint(lb_endpoint, &zone).at(&at)? else {
                continue;
            };
            if let Some(first) = seen.insert(endpoint.address, at.clone()) {
                return Err(
                    Fault::new(format!("{} is already at {first}", endpoint.address)).at(at),
                );
            }
            if locality.priority < best_priority {
                best_priority = locality.priority;
                best.clear();
            }
            if locality.priority == best_priority {
                best.push(Arc::new(endpoint));
            }
        }
    }
    // Envoy's bound as well; schedules of turns count on it.
    let weights = best
        .iter()
        .map(|endpoint: &Arc<Endpoint>| endpoint.weight.get());
    let total: u64 = weights.map(u64::from).sum();
    if total > u32::MAX.into() {
        let reason =
            format!("all load_balancing_weight together must be <= 4294967295, got {total}");
        return Err(Fault::new(reason).at("endpoints"));
    }
    Ok(best.into())
}

/// The one host and port that DNS is to be asked for.
pub(super) fn host(assignment: &ClusterLoadAssignment) -> Result<(Arc<str>, u16), Fault> {
    let mut endpoints = assignment.endpoints.iter().flat_map(|l| &l.lb_endpoints);
    let (Some(only), None) = (endpoints.next(), endpoints.next()) else {
        return Err(Fault::new("must have one endpoint, the host to ask DNS for").at("endpoints"));
    };
    let identifier = only.host_identifier.as_ref();
    let address = match required("host_identifier", identifier)? {
        HostIdentifier::Endpoint(endpoint) => required("address", endpoint.address.as_ref())?,
        HostIdentifier::EndpointName(_) => {
            return Err(Fault::new("is not supported by this proxy").at("endpoint_name"));
        }
    };
    let at = "endpoints[0].lb_endpoints[0].endpoint.address";
    let socket = tcp(address).at(at)?;
    let name = not_empty("socket_address.address", &socket.address).at(at)?;
    Ok((name.to_ascii_lowercase().into(), port(socket).at(at)?))
}

/// `None` for one that must not take traffic.
fn endpoint(lb_endpoint: LbEndpoint, zone: &Arc<str>) -> Result<Option<Endpoint>, Fault> {
    let metadata =
        own_metadata::<EndpointMetadata>(lb_endpoint.metadata.as_ref())?.unwrap_or_default();
    // Empty is the wire's way to say plaintext; anything else must be an identity, or the endpoint could be
    // taken for one that needs none.
    let identity = match metadata.identity.as_str() {
        "" => None,
        text => Some(text.parse::<SpiffeId>().map_err(|error| {
            Fault::new(error.to_string())
                .at("metadata.typed_filter_metadata[\"weft.dev\"].identity")
        })?),
    };
    let host = match required("host_identifier", lb_endpoint.host_identifier)? {
        HostIdentifier::Endpoint(endpoint) => endpoint,
        HostIdentifier::EndpointName(_) => {
            return Err(Fault::new("is not supported by this proxy").at("endpoint_name"));
        }
    };
    let address = required("endpoint.address", host.address.as_ref())?;
    let endpoint = Endpoint {
        address: socket_address(address).at("endpoint.address")?,
        identity,
        workload: workload(&metadata.workload, &metadata.namespace),
        weight: non_zero(
            "load_balancing_weight",
            lb_endpoint.load_balancing_weight.as_ref(),
        )?
        .unwrap_or(NonZeroU32::MIN),
        zone: zone.clone(),
    };
    Ok(match HealthStatus::try_from(lb_endpoint.health_status) {
        Ok(HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded) => {
            Some(endpoint)
        }
        Ok(HealthStatus::Unhealthy | HealthStatus::Draining | HealthStatus::Timeout) | Err(_) => {
            None
        }
    })
}

fn socket_address(address: &Address) -> Result<SocketAddr, Fault> {
    let socket = tcp(address)?;
    let ip: IpAddr = socket.address.parse().map_err(|_| {
        Fault::new(format!("must be an IP address, got {:?}", socket.address))
            .at("socket_address.address")
    })?;
    Ok(SocketAddr::new(ip.to_canonical(), port(socket)?))
}

fn tcp(address: &Address) -> Result<&SocketAddress, Fault> {
    let Some(address::Address::SocketAddress(socket)) = &address.address else {
        return Err(Fault::new("must be a socket_address"));
    };
    if socket.protocol != Protocol::Tcp as i32 {
        return Err(Fault::new("must be TCP").at("socket_address.protocol"));
    }
    Ok(socket)
}

fn port(socket: &SocketAddress) -> Result<u16, Fault> {
    let port = match socket.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(port).ok().filter(|port| *port != 0),
        Some(PortSpecifier::NamedPort(_)) | None => None,
    };
    port.ok_or_else(|| {
        Fault::new("must be a number from 1 to 65535").at("socket_address.port_value")
    })
}

/// What telemetry calls a workload; an empty part is unknown.
pub(super) fn workload(name: &str, namespace: &str) -> WorkloadName {
    let known = |text: &str| if text.is_empty() { "unknown" } else { text }.into();
    WorkloadName {
        name: known(name),
        namespace: known(namespace),
    }
}
