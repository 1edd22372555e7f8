//! Connections to endpoints.

use std::{num::NonZeroU32, time::Duration};

/// Connections to endpoints, as a policy says. What is absent is the mesh's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Connections {
    /// Open connections.
    pub maximum: Option<NonZeroU32>,
    /// Requests that wait for a connection.
    pub pending: Option<NonZeroU32>,
    /// Requests in flight.
    pub requests: Option<NonZeroU32>,
    /// TCP and TLS together.
    pub connect_timeout: Option<Duration>,
    /// What the mesh has no setting of.
    pub transport: Transport,
}

/// How connections to endpoints are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// A connection that has carried so many requests is closed. Absent: none is.
    pub requests_per_connection: Option<NonZeroU32>,
    /// A connection without a request is closed after this. Absent: the proxy's default, 60 s.
    pub idle_timeout: Option<Duration>,
    /// Probes on a silent connection. Absent: none.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// HTTP/2.
    pub http2: Http2,
}

/// Probes on a silent connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TcpKeepalive {
    /// Silence before the first probe, in whole seconds.
    pub time: Duration,
    /// Between probes, in whole seconds.
    pub interval: Duration,
    /// Unanswered probes that end the connection.
    pub probes: NonZeroU32,
}

/// HTTP/2 towards endpoints. What is absent is the proxy's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Http2 {
    /// Streams at once on one connection, 1 to 2,147,483,647.
    pub concurrent_streams: Option<NonZeroU32>,
    /// Bytes, 65,535 to 2,147,483,647.
    pub stream_window: Option<NonZeroU32>,
    /// Bytes, 65,535 to 2,147,483,647.
    pub connection_window: Option<NonZeroU32>,
}
