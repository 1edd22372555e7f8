//! The limits on every HTTP message and connection, with their defaults.

use std::time::Duration;

/// What one HTTP connection may cost, in either direction and version. Each field is a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Bytes of a header section: in HTTP/1 with the start line, in HTTP/2 decoded. Above: 431, or 414.
    pub header_bytes: usize,
    /// Fields of a header or trailer section. Above: 431.
    pub header_fields: usize,
    /// From the first byte of a header section to its last. Above: 408.
    pub header_timeout: Duration,
    /// How long a downstream connection may rest between requests before it is closed.
    pub idle_timeout: Duration,
    /// How long an idle downstream connection is kept when the proxy drains: a request may be on its way.
    pub drain_grace: Duration,
    /// How much of a request body that nobody wants is read, so that its connection can go on.
    pub unread_body_bytes: usize,
    /// How long an upstream may take to say `100 Continue` before the body is sent without it.
    pub continue_timeout: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    /// HTTP/2 flow-control window of one stream, in bytes.
    pub stream_window: u32,
    /// HTTP/2 flow-control window of one connection, in bytes.
    pub connection_window: u32,
}

impl HttpLimits {
    /// 60 KiB: what Envoy and nginx-based ingresses take at most by default.
    pub const HEADER_BYTES: usize = 60 * 1024;
    /// 100, as in Envoy.
    pub const HEADER_FIELDS: usize = 100;
    /// 10 s: enough for any client that means it.
    pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
    /// 10 min: longer than the idle timeout of the usual client pools, so that the client closes first
    /// and never meets a connection that we are just closing.
    pub const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
    /// 5 s.
    pub const DRAIN_GRACE: Duration = Duration::from_secs(5);
    /// 64 KiB: cheaper to read than a new connection with its handshake.
    pub const UNREAD_BODY_BYTES: usize = 64 * 1024;
    /// 1 s, as in curl.
    pub const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);
    /// 100, as RFC 9113, 6.5.2 recommends at least.
    pub const MAX_CONCURRENT_STREAMS: u32 = 100;
    /// 64 KiB.
    pub const STREAM_WINDOW: u32 = 64 * 1024;
    /// 1 MiB.
    pub const CONNECTION_WINDOW: u32 = 1024 * 1024;
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            header_bytes: Self::HEADER_BYTES,
            header_fields: Self::HEADER_FIELDS,
            header_timeout: Self::HEADER_TIMEOUT,
            idle_timeout: Self::IDLE_TIMEOUT,
            drain_grace: Self::DRAIN_GRACE,
            unread_body_bytes: Self::UNREAD_BODY_BYTES,
            continue_timeout: Self::CONTINUE_TIMEOUT,
            max_concurrent_streams: Self::MAX_CONCURRENT_STREAMS,
            stream_window: Self::STREAM_WINDOW,
            connection_window: Self::CONNECTION_WINDOW,
        }
    }
}
