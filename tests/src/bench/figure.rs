//! What can be measured.

/// A quantity in its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Requests answered a second.
    RequestsPerSecond,
    /// User and system time of both sidecars for a request, in microseconds.
    CpuPerRequest,
    /// Opaque gigabytes a second.
    GbPerSecond,
    /// User and system time of both sidecars for a gigabyte, in seconds.
    CpuPerGb,
    /// TLS handshakes a second.
    HandshakesPerSecond,
    /// User and system time of the server's sidecar for a handshake, in microseconds.
    CpuPerHandshake,
    /// Resident memory that a resting connection adds to both sidecars together, in KiB.
    RssPerConnection,
    /// Resident memory of the larger sidecar when it is ready and before the first connection, in megabytes.
    RssIdle,
    /// The most resident memory of the larger sidecar under load, in megabytes.
    RssPeak,
    /// Resident memory of the larger sidecar a minute after a burst, in megabytes.
    RssAfter,
    /// Latency of half of the requests, in milliseconds.
    P50,
    /// Latency of 90 %.
    P90,
    /// Latency of 99 %.
    P99,
    /// Latency of 99.9 %.
    P999,
    /// What is added to [`P50`](Self::P50) without sidecars.
    AddedP50,
    /// What is added to [`P90`](Self::P90) without sidecars.
    AddedP90,
    /// What is added to [`P99`](Self::P99) without sidecars.
    AddedP99,
    /// What is added to [`P999`](Self::P999) without sidecars.
    AddedP999,
    /// From the start of a sidecar's process until it says that it is ready, the slower of both, in milliseconds.
    Ready,
}

impl Figure {
    /// The name with the unit: the head of its column, and its key in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests/s",
            Self::CpuPerRequest => "CPU us/request",
            Self::GbPerSecond => "GB/s",
            Self::CpuPerGb => "CPU s/GB",
            Self::HandshakesPerSecond => "handshakes/s",
            Self::CpuPerHandshake => "CPU us/handshake",
            Self::RssPerConnection => "RSS KiB/connection",
            Self::RssIdle => "RSS idle MB",
            Self::RssPeak => "RSS peak MB",
            Self::RssAfter => "RSS after MB",
            Self::P50 => "p50 ms",
            Self::P90 => "p90 ms",
            Self::P99 => "p99 ms",
            Self::P999 => "p99.9 ms",
            Self::AddedP50 => "added p50 ms",
            Self::AddedP90 => "added p90 ms",
            Self::AddedP99 => "added p99 ms",
            Self::AddedP999 => "added p99.9 ms",
            Self::Ready => "ready ms",
        }
    }

    /// For a latency, what the sidecars add to it.
    pub fn added(self) -> Option<Self> {
        match self {
            Self::P50 => Some(Self::AddedP50),
            Self::P90 => Some(Self::AddedP90),
            Self::P99 => Some(Self::AddedP99),
            Self::P999 => Some(Self::AddedP999),
            Self::RequestsPerSecond
            | Self::CpuPerRequest
            | Self::GbPerSecond
            | Self::CpuPerGb
            | Self::HandshakesPerSecond
            | Self::CpuPerHandshake
            | Self::RssPerConnection
            | Self::RssIdle
            | Self::RssPeak
            | Self::RssAfter
            | Self::AddedP50
            | Self::AddedP90
            | Self::AddedP99
            | Self::AddedP999
            | Self::Ready => None,
        }
    }
}
