//! `envoy.config.cluster.v3.Cluster`: how to choose among endpoints and talk to them.

use super::{
    Invalid, breaker, endpoints,
    field::{
        At, Fault, ads, decode, is, non_zero, not_empty, own_metadata, positive, required,
        unsupported,
    },
};
use crate::snapshot::{Cluster as Settings, Endpoint, Limits, LoadBalancer, cluster::UpstreamHttp};
use crate::xds::dns::{Family, Host};
use std::{sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::{
        envoy::{
            config::{
                cluster::v3::{
                    CircuitBreakers, Cluster, LoadBalancingPolicy,
                    cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbPolicy},
                },
                core::v3::{RoutingPriority, TransportSocket, transport_socket::ConfigType},
            },
            extensions::{
                load_balancing_policies::{
                    least_request::v3::LeastRequest, round_robin::v3::RoundRobin,
                },
                transport_sockets::raw_buffer::v3::RawBuffer,
                upstreams::http::v3::{
                    HttpProtocolOptions,
                    http_protocol_options::{
                        UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
                    },
                },
            },
        },
        google::protobuf::Any,
    },
    resource::ResourceType,
    weft::v1::{PeakEwma, ServiceMetadata},
};

/// Absent `connect_timeout` (Envoy's default).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Absent `HttpProtocolOptions.common_http_protocol_options.idle_timeout`.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Absent `weft.v1.PeakEwma.decay`.
const DECAY: Duration = Duration::from_secs(10);
/// Absent `weft.v1.PeakEwma.default_rtt`.
const DEFAULT_RTT: Duration = Duration::from_millis(30);

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

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
    let options = http_options(&cluster)?;
    Ok(ClusterConfig {
        endpoints: source(&cluster, &name)?,
        settings: Settings {
            service: known(&metadata.service),
            namespace: known(&metadata.namespace),
            load_balancer: load_balancer(&cluster)?,
            connect_timeout: positive("connect_timeout", cluster.connect_timeout.as_ref())?
                .unwrap_or(CONNECT_TIMEOUT),
            idle_timeout: idle_timeout(options.as_ref()).at(HTTP_OPTIONS)?,
            limits: limits(cluster.circuit_breakers.as_ref()).at("circuit_breakers")?,
            breaker: breaker::breaker(
                cluster.outlier_detection.as_ref(),
                metadata.breaker.as_ref(),
            )?,
            http_version: http_version(options.as_ref()).at(HTTP_OPTIONS)?,
            ..Settings::new(name)
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

/// `load_balancing_policy` decides when it is there, else `lb_policy`, whose default is round robin.
fn load_balancer(cluster: &Cluster) -> Result<LoadBalancer, Fault> {
    if let Some(policy) = &cluster.load_balancing_policy {
        return first_known(policy).at("load_balancing_policy.policies");
    }
    match LbPolicy::try_from(cluster.lb_policy) {
        Ok(LbPolicy::RoundRobin) => Ok(LoadBalancer::RoundRobin),
        Ok(LbPolicy::LeastRequest) => Ok(LoadBalancer::LeastRequest),
        Ok(
            other @ (LbPolicy::RingHash
            | LbPolicy::Random
            | LbPolicy::Maglev
            | LbPolicy::ClusterProvided
            | LbPolicy::LoadBalancingPolicyConfig),
        ) => Err(Fault::new(format!(
            "{} is not supported by this proxy, only ROUND_ROBIN and LEAST_REQUEST are",
            other.as_str_name()
        ))
        .at("lb_policy")),
        Err(_) => Err(Fault::new(format!("{} is not a policy", cluster.lb_policy)).at("lb_policy")),
    }
}

/// "The first policy that is supported" (`LoadBalancingPolicy.policies`).
fn first_known(policy: &LoadBalancingPolicy) -> Result<LoadBalancer, Fault> {
    let configs = policy.policies.iter().filter_map(|policy| {
        policy
            .typed_extension_config
            .as_ref()?
            .typed_config
            .as_ref()
    });
    let mut unknown = Vec::new();
    for any in configs {
        if is::<PeakEwma>(any) {
            return peak_ewma(&decode(any)?).at("weft.v1.PeakEwma");
        }
        if is::<LeastRequest>(any) {
            return Ok(LoadBalancer::LeastRequest);
        }
        if is::<RoundRobin>(any) {
            return Ok(LoadBalancer::RoundRobin);
        }
        unknown.push(any.type_url.as_str());
    }
    Err(Fault::new(format!(
        "none is supported by this proxy: {unknown:?}"
    )))
}

fn peak_ewma(policy: &PeakEwma) -> Result<LoadBalancer, Fault> {
    Ok(LoadBalancer::PeakEwma {
        decay: positive("decay", policy.decay.as_ref())?.unwrap_or(DECAY),
        default_rtt: positive("default_rtt", policy.default_rtt.as_ref())?.unwrap_or(DEFAULT_RTT),
    })
}

fn limits(breakers: Option<&CircuitBreakers>) -> Result<Limits, Fault> {
    let default = Limits::default();
    let Some((position, thresholds)) = breakers.and_then(|breakers| {
        breakers
            .thresholds
            .iter()
            .enumerate()
            .find(|(_, thresholds)| thresholds.priority == RoutingPriority::Default as i32)
    }) else {
        return Ok(default);
    };
    let limit = |field, value, default| Ok(non_zero(field, value)?.unwrap_or(default));
    let limits = || {
        Ok(Limits {
            connections: limit(
                "max_connections",
                thresholds.max_connections.as_ref(),
                default.connections,
            )?,
            pending: limit(
                "max_pending_requests",
                thresholds.max_pending_requests.as_ref(),
                default.pending,
            )?,
            requests: limit(
                "max_requests",
                thresholds.max_requests.as_ref(),
                default.requests,
            )?,
        })
    };
    limits().at(format_args!("thresholds[{position}]"))
}

fn http_options(cluster: &Cluster) -> Result<Option<HttpProtocolOptions>, Fault> {
    cluster
        .typed_extension_protocol_options
        .get(HTTP_OPTIONS)
        .map(|any| decode(any).at(HTTP_OPTIONS))
        .transpose()
}

fn idle_timeout(options: Option<&HttpProtocolOptions>) -> Result<Duration, Fault> {
    let timeout = options
        .and_then(|options| options.common_http_protocol_options.as_ref())
        .and_then(|options| options.idle_timeout.as_ref());
    // Zero would be "never" to Envoy; connections that are kept for ever are what servers reset.
    Ok(positive("common_http_protocol_options.idle_timeout", timeout)?.unwrap_or(IDLE_TIMEOUT))
}

fn http_version(options: Option<&HttpProtocolOptions>) -> Result<UpstreamHttp, Fault> {
    match options.and_then(|options| options.upstream_protocol_options.as_ref()) {
        None
        | Some(
            UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)
            | UpstreamProtocolOptions::AutoConfig(_),
        ) => Ok(UpstreamHttp::AsDownstream),
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            match &explicit.protocol_config {
                Some(ProtocolConfig::HttpProtocolOptions(_)) => Ok(UpstreamHttp::Http1),
                Some(ProtocolConfig::Http2ProtocolOptions(_)) => Ok(UpstreamHttp::Http2),
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    Err(Fault::new("is not supported by this proxy")
                        .at("explicit_http_config.http3_protocol_options"))
                }
                None => Err(Fault::new("is required").at("explicit_http_config.protocol_config")),
            }
        }
    }
}
