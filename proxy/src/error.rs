//! The closed list of reasons for which the proxy itself fails a request or a connection.
//!
//! The same word stands in the `weft-error` response header, the metrics, the access log and the trace.
//! Every property of a reason is decided here, exhaustively, and nowhere else.

use http::StatusCode;

/// Why the proxy failed a request that the application (or the peer) did not fail itself.
///
/// Docs: `docs/errors.md` lists every reason with its cause and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestError {
    /// The request broke HTTP: framing, a forbidden character, a malformed target.
    BadRequest,
    /// The header section passed the limit on bytes or fields.
    HeadersTooLarge,
    /// The headers were not complete within the header timeout.
    HeaderTimeout,
    /// The caller went away before the response was complete.
    DownstreamReset,
    /// The authority names no destination that the mesh knows (explicit mode).
    UnknownDestination,
    /// No route of the destination matches the request.
    RouteNotFound,
    /// The route leads to a cluster that does not exist.
    BackendNotFound,
    /// The cluster has no endpoint at all, or none that may be used.
    NoHealthyEndpoint,
    /// The breakers of all endpoints of the cluster are open.
    CircuitOpen,
    /// No TCP connection to the endpoint could be made.
    UpstreamConnectFailed,
    /// The connection to the endpoint was not there within the connect timeout.
    UpstreamConnectTimeout,
    /// The TLS handshake with the endpoint failed.
    UpstreamTlsFailed,
    /// The endpoint proved another identity than the one it must have.
    UpstreamIdentityMismatch,
    /// The endpoint refused the stream before processing it (REFUSED_STREAM, or GOAWAY below its id).
    UpstreamRefusedStream,
    /// The endpoint closed or reset before its response was complete.
    UpstreamReset,
    /// The endpoint's response broke HTTP.
    UpstreamProtocolError,
    /// The endpoint did not begin its response within the time that one attempt may take.
    UpstreamTimeout,
    /// The request timeout passed before the response was complete.
    RequestTimeout,
    /// No byte moved in either direction for the idle timeout of a stream.
    StreamIdleTimeout,
    /// The cluster's limit on connections is reached.
    MaxConnections,
    /// The cluster's limit on requests that wait for a connection is reached.
    MaxPendingRequests,
    /// The cluster's limit on concurrent requests is reached.
    MaxRequests,
    /// A fault that the route injects.
    FaultInjected,
    /// There is no token for the request in a bucket of the workload's rate limit.
    RateLimited,
    /// As many requests are in flight to the application as the workload's concurrency limit allows.
    Overloaded,
    /// The configuration of the destination is not there and could not be had in time.
    ConfigUnavailable,
    /// The proxy has no certificate and the endpoint requires mutual TLS.
    CertificateUnavailable,
    /// The proxy failed an invariant of its own. A defect to report.
    Internal,
}

/// Who has to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller.
    Downstream,
    /// The endpoint, or the network to it.
    Upstream,
    /// A limit or rule that somebody configured.
    Policy,
    /// The proxy or its control plane.
    Mesh,
}

/// Whether the application may have seen a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processed {
    /// Provably not one byte of it was acted upon: safe to send again whatever its method.
    Never,
    /// It may have been processed.
    Maybe,
}

impl RequestError {
    /// Every reason, in the order of [`RequestError::index`].
    pub const ALL: [Self; 28] = [
        Self::BadRequest,
        Self::HeadersTooLarge,
        Self::HeaderTimeout,
        Self::DownstreamReset,
        Self::UnknownDestination,
        Self::RouteNotFound,
        Self::BackendNotFound,
        Self::NoHealthyEndpoint,
        Self::CircuitOpen,
        Self::UpstreamConnectFailed,
        Self::UpstreamConnectTimeout,
        Self::UpstreamTlsFailed,
        Self::UpstreamIdentityMismatch,
        Self::UpstreamRefusedStream,
        Self::UpstreamReset,
        Self::UpstreamProtocolError,
        Self::UpstreamTimeout,
        Self::RequestTimeout,
        Self::StreamIdleTimeout,
        Self::MaxConnections,
        Self::MaxPendingRequests,
        Self::MaxRequests,
        Self::FaultInjected,
        Self::RateLimited,
        Self::Overloaded,
        Self::ConfigUnavailable,
        Self::CertificateUnavailable,
        Self::Internal,
    ];

    /// A dense number, for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The word for it everywhere: header, metric, log, trace.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::HeadersTooLarge => "headers-too-large",
            Self::HeaderTimeout => "header-timeout",
            Self::DownstreamReset => "downstream-reset",
            Self::UnknownDestination => "unknown-destination",
            Self::RouteNotFound => "route-not-found",
            Self::BackendNotFound => "backend-not-found",
            Self::NoHealthyEndpoint => "no-healthy-endpoint",
            Self::CircuitOpen => "circuit-open",
            Self::UpstreamConnectFailed => "upstream-connect-failed",
            Self::UpstreamConnectTimeout => "upstream-connect-timeout",
            Self::UpstreamTlsFailed => "upstream-tls-failed",
            Self::UpstreamIdentityMismatch => "upstream-identity-mismatch",
            Self::UpstreamRefusedStream => "upstream-refused-stream",
            Self::UpstreamReset => "upstream-reset",
            Self::UpstreamProtocolError => "upstream-protocol-error",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::RequestTimeout => "request-timeout",
            Self::StreamIdleTimeout => "stream-idle-timeout",
            Self::MaxConnections => "max-connections",
            Self::MaxPendingRequests => "max-pending-requests",
            Self::MaxRequests => "max-requests",
            Self::FaultInjected => "fault-injected",
            Self::RateLimited => "rate-limited",
            Self::Overloaded => "overloaded",
            Self::ConfigUnavailable => "config-unavailable",
            Self::CertificateUnavailable => "certificate-unavailable",
            Self::Internal => "internal",
        }
    }

    /// The HTTP status that the caller receives. A caller that went away is logged as 499; a fault may have a status of
    /// its own.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeaderTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::DownstreamReset => StatusCode::from_u16(499).expect("499 is in range"),
            Self::UnknownDestination | Self::RouteNotFound => StatusCode::NOT_FOUND,
            Self::UpstreamReset | Self::UpstreamProtocolError => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout | Self::RequestTimeout | Self::StreamIdleTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::NoHealthyEndpoint
            | Self::CircuitOpen
            | Self::UpstreamConnectFailed
            | Self::UpstreamConnectTimeout
            | Self::UpstreamTlsFailed
            | Self::UpstreamIdentityMismatch
            | Self::UpstreamRefusedStream
            | Self::MaxConnections
            | Self::MaxPendingRequests
            | Self::MaxRequests
            | Self::FaultInjected
            | Self::Overloaded
            | Self::ConfigUnavailable
            | Self::CertificateUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::BackendNotFound | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC status code that a gRPC caller receives (grpc/grpc `doc/statuscodes.md`).
    pub const fn grpc_status(self) -> u8 {
        const CANCELLED: u8 = 1;
        const DEADLINE_EXCEEDED: u8 = 4;
        const RESOURCE_EXHAUSTED: u8 = 8;
        const UNIMPLEMENTED: u8 = 12;
        const INTERNAL: u8 = 13;
        const UNAVAILABLE: u8 = 14;
        match self {
            Self::DownstreamReset => CANCELLED,
            Self::HeaderTimeout
            | Self::UpstreamTimeout
            | Self::RequestTimeout
            | Self::StreamIdleTimeout => DEADLINE_EXCEEDED,
            // "Server temporarily out of resources", and "perhaps a per-user quota".
            Self::HeadersTooLarge | Self::RateLimited | Self::Overloaded => RESOURCE_EXHAUSTED,
            Self::UnknownDestination | Self::RouteNotFound => UNIMPLEMENTED,
            Self::BadRequest | Self::UpstreamProtocolError | Self::Internal => INTERNAL,
            Self::BackendNotFound
            | Self::NoHealthyEndpoint
            | Self::CircuitOpen
            | Self::UpstreamConnectFailed
            | Self::UpstreamConnectTimeout
            | Self::UpstreamTlsFailed
            | Self::UpstreamIdentityMismatch
            | Self::UpstreamRefusedStream
            | Self::UpstreamReset
            | Self::MaxConnections
            | Self::MaxPendingRequests
            | Self::MaxRequests
            | Self::FaultInjected
            | Self::ConfigUnavailable
            | Self::CertificateUnavailable => UNAVAILABLE,
        }
    }

    /// Who has to act.
    pub const fn fault(self) -> Fault {
        match self {
            Self::BadRequest
            | Self::HeadersTooLarge
            | Self::HeaderTimeout
            | Self::DownstreamReset
            | Self::UnknownDestination => Fault::Downstream,
            Self::NoHealthyEndpoint
            | Self::UpstreamConnectFailed
            | Self::UpstreamConnectTimeout
            | Self::UpstreamTlsFailed
            | Self::UpstreamIdentityMismatch
            | Self::UpstreamRefusedStream
            | Self::UpstreamReset
            | Self::UpstreamProtocolError
            | Self::UpstreamTimeout => Fault::Upstream,
            Self::RouteNotFound
            | Self::BackendNotFound
            | Self::CircuitOpen
            | Self::RequestTimeout
            | Self::StreamIdleTimeout
            | Self::MaxConnections
            | Self::MaxPendingRequests
            | Self::MaxRequests
            | Self::FaultInjected
            | Self::RateLimited
            | Self::Overloaded => Fault::Policy,
            Self::ConfigUnavailable | Self::CertificateUnavailable | Self::Internal => Fault::Mesh,
        }
    }

    /// Whether the application may have seen the request.
    pub const fn processed(self) -> Processed {
        match self {
            Self::BadRequest
            | Self::HeadersTooLarge
            | Self::HeaderTimeout
            | Self::UnknownDestination
            | Self::RouteNotFound
            | Self::BackendNotFound
            | Self::NoHealthyEndpoint
            | Self::CircuitOpen
            | Self::UpstreamConnectFailed
            | Self::UpstreamConnectTimeout
            | Self::UpstreamTlsFailed
            | Self::UpstreamIdentityMismatch
            | Self::UpstreamRefusedStream
            | Self::MaxConnections
            | Self::MaxPendingRequests
            | Self::MaxRequests
            | Self::FaultInjected
            | Self::RateLimited
            | Self::Overloaded
            | Self::ConfigUnavailable
            | Self::CertificateUnavailable => Processed::Never,
            Self::DownstreamReset
            | Self::UpstreamReset
            | Self::UpstreamProtocolError
            | Self::UpstreamTimeout
            | Self::RequestTimeout
            | Self::StreamIdleTimeout
            | Self::Internal => Processed::Maybe,
        }
    }
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for RequestError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_reason_stands_at_its_index_and_has_a_word_of_its_own() {
        for (index, error) in RequestError::ALL.into_iter().enumerate() {
            assert_eq!(error.index(), index, "{error}");
        }
        let words: BTreeSet<_> = RequestError::ALL.map(RequestError::reason).into();
        assert_eq!(words.len(), RequestError::ALL.len());
    }

    #[test]
    fn the_docs_tell_the_truth_of_every_reason() {
        let docs = include_str!("../../docs/errors.md");
        for error in RequestError::ALL {
            let start = format!("| `{error}` | {} | ", error.status().as_u16());
            let row = docs.lines().find(|line| line.starts_with(&start));
            let row = row.unwrap_or_else(|| panic!("docs/errors.md has no row {start}"));
            let processed = match error.processed() {
                Processed::Never => "never",
                Processed::Maybe => "maybe",
            };
            let fault = match error.fault() {
                Fault::Downstream => "caller",
                Fault::Upstream => "endpoint",
                Fault::Policy => "policy",
                Fault::Mesh => "mesh",
            };
            let grpc = match error.grpc_status() {
                1 => "CANCELLED",
                4 => "DEADLINE_EXCEEDED",
                8 => "RESOURCE_EXHAUSTED",
                12 => "UNIMPLEMENTED",
                13 => "INTERNAL",
                14 => "UNAVAILABLE",
                other => panic!("{error} has gRPC status {other}, which this test has no name for"),
            };
            assert!(
                row.contains(&format!("| {grpc} | {processed} | {fault} |")),
                "{row}"
            );
        }
    }
}
