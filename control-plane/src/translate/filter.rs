//! The filters that listeners of every kind are made of.

use super::proto::{ads, any, duration, limit};
use envoy_types::pb::{
    envoy::{
        config::{
            listener::v3::{Filter, ListenerFilter, filter, listener_filter},
            route::v3::RouteConfiguration,
        },
        extensions::filters::{
            http::router::v3::Router,
            listener::{http_inspector::v3::HttpInspector, tls_inspector::v3::TlsInspector},
            network::{
                http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, Rds,
                    http_connection_manager::{CodecType, RouteSpecifier, UpgradeConfig},
                    http_filter,
                },
                tcp_proxy::v3::{TcpProxy, tcp_proxy},
            },
        },
    },
    google::protobuf::Any,
};
use std::{sync::Arc, time::Duration};

/// What ends an opaque connection without traffic. Envoy's default, said aloud: five minutes, which end an
/// HTTP stream, would cut the idle connections that database pools rely on.
const TCP_IDLE: Duration = Duration::from_secs(60 * 60);

/// What the HTTP inspector calls a plaintext connection that speaks HTTP.
pub(super) const HTTP_DETECTED: [&str; 2] = ["http/1.1", "h2c"];

/// Routes of their own resource, asked for on the same stream.
pub(super) fn routes_by_name(name: &str) -> RouteSpecifier {
    RouteSpecifier::Rds(Rds {
        config_source: ads(),
        route_config_name: name.to_owned(),
    })
}

/// Routes that stand in the listener.
pub(super) fn routes(routes: RouteConfiguration) -> RouteSpecifier {
    RouteSpecifier::RouteConfig(routes)
}

/// HTTP, through these filters and then the router.
pub(super) fn http(
    name: &str,
    codec: CodecType,
    idle_timeout: Option<Duration>,
    routes: RouteSpecifier,
    filters: Vec<HttpFilter>,
) -> HttpConnectionManager {
    let router = HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(Router::default()))),
        ..HttpFilter::default()
    };
    HttpConnectionManager {
        stat_prefix: name.to_owned(),
        codec_type: codec.into(),
        stream_idle_timeout: limit(idle_timeout),
        route_specifier: Some(routes),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        http_filters: filters.into_iter().chain([router]).collect(),
        ..HttpConnectionManager::default()
    }
}

pub(super) fn http_filter(manager: HttpConnectionManager) -> Filter {
    network_filter(
        "envoy.filters.network.http_connection_manager",
        any(manager),
    )
}

pub(super) fn tcp_filter(name: &str, cluster: &Arc<str>) -> Filter {
    network_filter(
        "envoy.filters.network.tcp_proxy",
        any(TcpProxy {
            stat_prefix: name.to_owned(),
            idle_timeout: Some(duration(TCP_IDLE)),
            cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_string())),
            ..TcpProxy::default()
        }),
    )
}

/// Tells HTTP from other plaintext.
pub(super) fn http_inspector() -> ListenerFilter {
    listener_filter(
        "envoy.filters.listener.http_inspector",
        any(HttpInspector {}),
    )
}

/// Tells TLS from plaintext.
pub(super) fn tls_inspector() -> ListenerFilter {
    listener_filter(
        "envoy.filters.listener.tls_inspector",
        any(TlsInspector::default()),
    )
}

fn network_filter(name: &str, config: Any) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    }
}

fn listener_filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..ListenerFilter::default()
    }
}
