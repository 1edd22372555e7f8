//! Connections to endpoints.

use crate::api::{Bytes, Duration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Connections to endpoints, and limits for one proxy and one service port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Connections {
    /// Open connections.
    #[schemars(
        range(min = 1, max = 4294967295u32),
        example = 500,
        extend(
            "x-weft-default" = "`MeshConfig.defaults.limits.connections`, 10000",
            "x-weft-becomes" = "CircuitBreakers.thresholds[DEFAULT].max_connections"
        )
    )]
    pub max: Option<u32>,
    /// Requests that wait for a connection.
    #[schemars(
        range(min = 1, max = 4294967295u32),
        example = 100,
        extend(
            "x-weft-default" = "`MeshConfig.defaults.limits.pending`, 1024",
            "x-weft-becomes" = "CircuitBreakers.thresholds[DEFAULT].max_pending_requests"
        )
    )]
    pub max_pending: Option<u32>,
    /// Requests in flight.
    #[schemars(
        range(min = 1, max = 4294967295u32),
        example = 2000,
        extend(
            "x-weft-default" = "`MeshConfig.defaults.limits.requests`, 10000",
            "x-weft-becomes" = "CircuitBreakers.thresholds[DEFAULT].max_requests"
        )
    )]
    pub max_requests: Option<u32>,
    /// A connection that has carried so many requests is closed.
    #[schemars(
        range(min = 1, max = 4294967295u32),
        example = 10000,
        extend(
            "x-weft-default" = "no limit",
            "x-weft-becomes" = "HttpProtocolOptions.common_http_protocol_options.max_requests_per_connection"
        )
    )]
    pub max_requests_per_connection: Option<u32>,
    /// To connect to an endpoint, TCP and TLS together.
    #[schemars(
        example = &"1s",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-maximum" = "1h",
            "x-weft-default" = "`MeshConfig.defaults.connectTimeout`, 5s",
            "x-weft-becomes" = "Cluster.connect_timeout"
        )
    )]
    pub connect_timeout: Option<Duration>,
    /// A connection without a request is closed after this, if what was learnt of the endpoint does not close it before.
    #[schemars(
        example = &"30s",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-default" = "1m in Weft's proxies, 1h in Envoy",
            "x-weft-becomes" = "HttpProtocolOptions.common_http_protocol_options.idle_timeout"
        )
    )]
    pub idle_timeout: Option<Duration>,
    /// Probes on a silent connection.
    #[schemars(extend("x-weft-default" = "those below in Weft's proxies, none in Envoy"))]
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// HTTP/2 towards endpoints.
    pub http2: Http2,
}

/// Probes on a silent connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "duration(self.time).getMilliseconds() % 1000 == 0", "message": "is not a whole number of seconds; write 10s", "fieldPath": ".time"},
    {"rule": "duration(self.interval).getMilliseconds() % 1000 == 0", "message": "is not a whole number of seconds; write 10s", "fieldPath": ".interval"}
]))]
pub struct TcpKeepalive {
    /// Silence before the first probe, in whole seconds.
    #[schemars(
        example = &"2m",
        extend(
            "x-weft-minimum" = "1s",
            "x-weft-maximum" = "9h",
            "x-weft-becomes" = "upstream_connection_options.tcp_keepalive.keepalive_time"
        )
    )]
    pub time: Duration,
    /// Between probes, in whole seconds.
    #[schemars(
        example = &"30s",
        extend(
            "x-weft-minimum" = "1s",
            "x-weft-maximum" = "9h",
            "x-weft-becomes" = "upstream_connection_options.tcp_keepalive.keepalive_interval"
        )
    )]
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    #[schemars(
        range(min = 1, max = 127),
        example = 5,
        extend("x-weft-becomes" = "upstream_connection_options.tcp_keepalive.keepalive_probes")
    )]
    pub probes: u32,
}

impl Default for TcpKeepalive {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            probes: 4,
        }
    }
}

/// HTTP/2 towards endpoints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Http2 {
    /// Streams at once on one connection; the endpoint may allow fewer.
    #[schemars(
        range(min = 1, max = 2147483647),
        example = 50,
        extend(
            "x-weft-default" = "100 in Weft's proxies, 1024 in Envoy",
            "x-weft-becomes" = "HttpProtocolOptions http2_protocol_options.max_concurrent_streams"
        )
    )]
    pub max_concurrent_streams: Option<u32>,
    /// What may be under way on a stream without being read: 65535 bytes to 2Gi less one.
    #[schemars(
        example = &"256Ki",
        extend(
            "x-weft-minimum-bytes" = 65535,
            "x-weft-maximum-bytes" = 2147483647,
            "x-weft-default" = "64Ki in Weft's proxies, 16Mi in Envoy",
            "x-weft-becomes" = "HttpProtocolOptions http2_protocol_options.initial_stream_window_size"
        )
    )]
    pub initial_stream_window: Option<Bytes>,
    /// The same for a connection.
    #[schemars(
        example = &"4Mi",
        extend(
            "x-weft-minimum-bytes" = 65535,
            "x-weft-maximum-bytes" = 2147483647,
            "x-weft-default" = "1Mi in Weft's proxies, 24Mi in Envoy",
            "x-weft-becomes" = "HttpProtocolOptions http2_protocol_options.initial_connection_window_size"
        )
    )]
    pub initial_connection_window: Option<Bytes>,
}
