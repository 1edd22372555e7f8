//! `envoy.config.cluster.v3.Cluster`: how to choose among endpoints and talk to them.

mod balancer;
mod connections;

use super::{
    Invalid, breaker, endpoints,
    field::{
        At, Fault, ads, is, not_empty, own_metadata, percent, positive, required, unsupported,
    },
};
use crate::{
    snapshot::{Cluster as Settings, Endpoint, cluster::Zone},
    xds::dns::{Family, Host},
};
use std::sync::Arc;
use weft_xds_proto::{
    envoy::{
        envoy::{
            config::{
                cluster::v3::{
                    Cluster,
                    cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily},
                },
                core::v3::{TransportSocket, transport_socket::ConfigType},
            },
            extensions::transport_sockets::raw_buffer::v3::RawBuffer,
        },
        google::protobuf::Any,
    },
    names::METADATA_KEY,
    resource::ResourceType,
    weft::v1::{ServiceMetadata, service_metadata::ZonePreference},
};

/// A cluster without its endpoints, or with a reference to them.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// Everything but the endpoints.
    pub settings: Settings,
    /// Where its endpoints are.
    pub endpoints: EndpointSource,
}

/// Where the endpoints of a cluster are.
#[derive(Debug, Clone, PartialEq)]
pub enum EndpointSource {
    /// In the ClusterLoadAssignment of this name (`EDS`).
    Named(Arc<str>),
    /// In the cluster itself (`STATIC`).
    Inline(Arc<[Arc<Endpoint>]>),
    /// Where DNS says (`STRICT_DNS`, and `LOGICAL_DNS`, of which all addresses count too).
    Dns(Host),
}

/// Converts a Cluster.
///
/// Hosts of `STRICT_DNS` and `LOGICAL_DNS` are asked for again when their TTL is over, whatever
/// `dns_refresh_rate` says.
///
/// Not honoured: health checks, `max_retries`, thresholds of priority HIGH, and whatever
/// only concerns Envoy's own statistics and sockets.
pub fn convert(name: &str, body: &Any) -> Result<Arc<ClusterConfig>, Invalid> {
    super::resource(
        ResourceType::Cluster,
        name,
        body,
        |cluster: &Cluster| &cluster.name,
        |cluster| config(cluster).map(Arc::new),
    )
}

fn config(cluster: Cluster) -> Result<ClusterConfig, Fault> {
    let name: Arc<str> = not_empty("name", &cluster.name)?.into();
    // TLS is decided by the identity of each endpoint. A cluster that asks for TLS in another way must not
    // be dialled in plaintext.
    if let Some(socket) = &cluster.transport_socket {
        plaintext(socket).at("transport_socket")?;
    }
    unsupported(
        "transport_socket_matches",
        !cluster.transport_socket_matches.is_empty(),
    )?;
    unsupported("filters", !cluster.filters.is_empty())?;
    unsupported("lb_subset_config", cluster.lb_subset_config.is_some())?;

    let known = |text: &str| if text.is_empty() { "unknown" } else { text }.into();
    let metadata = own_metadata::<ServiceMetadata>(cluster.metadata.as_ref())?.unwrap_or_default();
    let http = connections::http(&cluster)?;
    let (load_balancer, slow_start) = balancer::balancing(&cluster)?;
    let (limits, retry_budget) = connections::thresholds(&cluster)?;
    let common = cluster.common_lb_config.as_ref();
    let panic_threshold = common.and_then(|config| config.healthy_panic_threshold.as_ref());
    let panic_threshold =
        percent("healthy_panic_threshold", panic_threshold).at("common_lb_config")?;
    let connect_timeout = positive("connect_timeout", cluster.connect_timeout.as_ref())?;
    let default = Settings::new(name.clone());
    Ok(ClusterConfig {
        endpoints: source(&cluster, &name)?,
        settings: Settings {
            service: known(&metadata.service),
            namespace: known(&metadata.namespace),
            load_balancer,
            connect_timeout: connect_timeout.unwrap_or(default.connect_timeout),
            idle_timeout: http.idle_timeout.unwrap_or(default.idle_timeout),
            max_requests_per_connection: http.max_requests,
            tcp_keepalive: connections::keepalive(&cluster)?,
            http2: http.http2,
            limits,
            breaker: breaker::breaker(
                cluster.outlier_detection.as_ref(),
                metadata.breaker.as_ref(),
            )?,
            retry_budget,
            slow_start,
            zone: zone(metadata.zone_preference)?,
            panic_threshold: panic_threshold.unwrap_or(default.panic_threshold),
            http_version: http.version,
            ..default
        },
    })
}

fn plaintext(socket: &TransportSocket) -> Result<(), Fault> {
    match &socket.config_type {
        Some(ConfigType::TypedConfig(any)) if is::<RawBuffer>(any) => Ok(()),
        Some(ConfigType::TypedConfig(any)) => Err(Fault::new(format!(
            "{:?} is not supported by this proxy; the identity of an endpoint decides about TLS",
            any.type_url
        ))),
        None => Err(Fault::new("typed_config is required")),
    }
}

fn source(cluster: &Cluster, name: &Arc<str>) -> Result<EndpointSource, Fault> {
    let discovery = match &cluster.cluster_discovery_type {
        Some(ClusterDiscoveryType::Type(ty)) => DiscoveryType::try_from(*ty)
            .map_err(|_| Fault::new(format!("{ty} is not a discovery type")).at("type"))?,
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            return Err(
                Fault::new(format!("{:?} is not supported by this proxy", custom.name))
                    .at("cluster_type"),
            );
        }
        None => DiscoveryType::Static,
    };
    match discovery {
        DiscoveryType::Eds => {
            let eds = cluster.eds_cluster_config.clone().unwrap_or_default();
            ads("eds_config", eds.eds_config.as_ref()).at("eds_cluster_config")?;
            Ok(EndpointSource::Named(match eds.service_name.as_str() {
                "" => name.clone(),
                service => service.into(),
            }))
        }
        DiscoveryType::Static => {
            let assignment = cluster.load_assignment.clone().unwrap_or_default();
            let endpoints = endpoints::endpoints(assignment).at("load_assignment")?;
            Ok(EndpointSource::Inline(endpoints))
        }
        DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let resolver = cluster.typed_dns_resolver_config.is_some();
            unsupported("typed_dns_resolver_config", resolver)?;
            let assignment = cluster.load_assignment.as_ref();
            let assignment = required("load_assignment", assignment)?;
            let (name, port) = endpoints::host(assignment).at("load_assignment")?;
            Ok(EndpointSource::Dns(Host {
                name,
                port,
                family: family(cluster.dns_lookup_family).at("dns_lookup_family")?,
            }))
        }
        DiscoveryType::OriginalDst => Err(Fault::new(
            "ORIGINAL_DST is not supported by this proxy, only EDS, STATIC and DNS are",
        )
        .at("type")),
    }
}

fn family(family: i32) -> Result<Family, Fault> {
    match DnsLookupFamily::try_from(family) {
        Ok(DnsLookupFamily::Auto) => Ok(Family::V6Preferred),
        Ok(DnsLookupFamily::V4Only) => Ok(Family::V4),
        Ok(DnsLookupFamily::V6Only) => Ok(Family::V6),
        Ok(DnsLookupFamily::V4Preferred) => Ok(Family::V4Preferred),
        Ok(DnsLookupFamily::All) => Ok(Family::Both),
        Err(_) => Err(Fault::new(format!("{family} is not a family"))),
    }
}

fn zone(preference: i32) -> Result<Zone, Fault> {
    match ZonePreference::try_from(preference) {
        Ok(ZonePreference::Off) => Ok(Zone::Off),
        Ok(ZonePreference::Prefer) => Ok(Zone::Prefer),
        Ok(ZonePreference::Strict) => Ok(Zone::Strict),
        Err(_) => Err(Fault::new(format!("{preference} is not a preference"))
            .at("zone_preference")
            .at(format_args!(
                "metadata.typed_filter_metadata[{METADATA_KEY:?}]"
            ))),
    }
}
