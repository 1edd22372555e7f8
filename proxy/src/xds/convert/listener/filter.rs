//! Network filters: what a filter chain does with its connections in the end.

use super::{RouteSource, limits};
use crate::{
    snapshot::{Protocol, admission::Limits},
    xds::convert::{
        field::{At, Fault, ads, decode, is, not_empty, required, timeout, unsupported},
        route,
    },
};
use std::{sync::Arc, time::Duration};
use weft_xds_proto::envoy::{
    envoy::{
        config::listener::v3::{Filter, filter::ConfigType},
        extensions::filters::{
            http::{fault::v3::HttpFault, router::v3::Router},
            network::{
                http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter,
                    http_connection_manager::{CodecType, RouteSpecifier},
                    http_filter,
                },
                tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
            },
        },
    },
    google::protobuf::Any,
};

/// Absent `HttpConnectionManager.stream_idle_timeout` (Envoy's default).
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Absent `TcpProxy.idle_timeout` (Envoy's default).
const TCP_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// The last filter of a chain; Weft's chains have one filter only.
pub(super) enum Terminal {
    Http(Http),
    Tcp(Tcp),
}

/// An `HttpConnectionManager`.
#[derive(Debug)]
pub(super) struct Http {
    /// `Http` or `Http2`.
    pub(super) protocol: Protocol,
    pub(super) routes: RouteSource,
    pub(super) stream_idle_timeout: Option<Duration>,
    /// Of the filters before the router.
    pub(super) limits: Limits,
}

/// A `TcpProxy`.
#[derive(Debug)]
pub(super) struct Tcp {
    pub(super) cluster: Arc<str>,
    pub(super) idle_timeout: Option<Duration>,
}

pub(super) fn terminal(filters: &[Filter]) -> Result<Terminal, Fault> {
    let [filter] = filters else {
        // A network filter before the last is mostly there to forbid something.
        return Err(Fault::new(format!(
            "exactly one network filter is supported by this proxy, got {:?}",
            filters
                .iter()
                .map(|filter| &filter.name)
                .collect::<Vec<_>>()
        ))
        .at("filters"));
    };
    one(filter).at("filters[0]")
}

fn one(filter: &Filter) -> Result<Terminal, Fault> {
    let any = match required("typed_config", filter.config_type.as_ref())? {
        ConfigType::TypedConfig(any) => any,
        ConfigType::ConfigDiscovery(_) => {
            return Err(Fault::new("is not supported by this proxy").at("config_discovery"));
        }
    };
    if is::<HttpConnectionManager>(any) {
        http(decode(any)?).map(Terminal::Http)
    } else if is::<TcpProxy>(any) {
        tcp(&decode(any)?).map(Terminal::Tcp)
    } else {
        Err(Fault::new(format!(
            "{:?} is not supported by this proxy",
            any.type_url
        )))
    }
    .at("typed_config")
}

fn http(manager: HttpConnectionManager) -> Result<Http, Fault> {
    let protocol = match CodecType::try_from(manager.codec_type) {
        Ok(CodecType::Auto | CodecType::Http1) => Protocol::Http,
        Ok(CodecType::Http2) => Protocol::Http2,
        Ok(CodecType::Http3) | Err(_) => {
            return Err(Fault::new("must be AUTO, HTTP1 or HTTP2").at("codec_type"));
        }
    };
    let mut limits = Limits::default();
    for (position, filter) in manager.http_filters.iter().enumerate() {
        http_filter(filter, &mut limits).at(format_args!("http_filters[{position}]"))?;
    }
    let routes = match required("route_specifier", manager.route_specifier)? {
        RouteSpecifier::Rds(rds) => {
            ads("config_source", rds.config_source.as_ref()).at("rds")?;
            let name = not_empty("route_config_name", &rds.route_config_name).at("rds")?;
            RouteSource::Named(name.into())
        }
        RouteSpecifier::RouteConfig(config) => {
            RouteSource::Inline(Arc::new(route::routes(config).at("route_config")?))
        }
        RouteSpecifier::ScopedRoutes(_) => {
            return Err(Fault::new("is not supported by this proxy").at("scoped_routes"));
        }
    };
    Ok(Http {
        protocol,
        routes,
        stream_idle_timeout: timeout(
            "stream_idle_timeout",
            manager.stream_idle_timeout.as_ref(),
            Some(STREAM_IDLE_TIMEOUT),
        )?,
        limits,
    })
}

/// A filter that is unknown may be left out only if the control plane says so: it could be the one that
/// authorizes.
fn http_filter(filter: &HttpFilter, of: &mut Limits) -> Result<(), Fault> {
    // The fault filter of a listener does nothing by itself: routes say what goes wrong.
    let known = |any: &Any| is::<Router>(any) || (is::<HttpFault>(any) && any.value.is_empty());
    match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(any))
            if limits::is_limit(any) && !filter.disabled =>
        {
            limits::add(&filter.name, any, of).at("typed_config")
        }
        Some(http_filter::ConfigType::TypedConfig(any)) if known(any) => Ok(()),
        _ if filter.is_optional || filter.disabled => Ok(()),
        Some(http_filter::ConfigType::TypedConfig(any)) => Err(Fault::new(format!(
            "{:?} is not supported by this proxy and not optional",
            any.type_url
        ))),
        Some(http_filter::ConfigType::ConfigDiscovery(_)) => {
            Err(Fault::new("is not supported by this proxy").at("config_discovery"))
        }
        None => Err(Fault::new("is required").at("typed_config")),
    }
}

fn tcp(proxy: &TcpProxy) -> Result<Tcp, Fault> {
    unsupported("tunneling_config", proxy.tunneling_config.is_some())?;
    unsupported("metadata_match", proxy.metadata_match.is_some())?;
    let cluster = match required("cluster_specifier", proxy.cluster_specifier.as_ref())? {
        ClusterSpecifier::Cluster(cluster) => not_empty("cluster", cluster)?.into(),
        ClusterSpecifier::WeightedClusters(weighted) => match &weighted.clusters[..] {
            [only] => not_empty("weighted_clusters.clusters[0].name", &only.name)?.into(),
            _ => {
                return Err(
                    Fault::new("more than one cluster is not supported by this proxy")
                        .at("weighted_clusters.clusters"),
                );
            }
        },
    };
    Ok(Tcp {
        cluster,
        idle_timeout: timeout(
            "idle_timeout",
            proxy.idle_timeout.as_ref(),
            Some(TCP_IDLE_TIMEOUT),
        )?,
    })
}
