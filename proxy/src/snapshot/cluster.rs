//! Clusters: the endpoints of one destination, and how to choose among and talk to them.

use super::{Breaker, Share, WorkloadName, retry::RetryBudget};
use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};
use weft_xds_proto::spiffe::SpiffeId;

/// One upstream cluster (`envoy.config.cluster.v3.Cluster` with its `ClusterLoadAssignment`).
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The resource name: `user.demo.svc.cluster.local:80`. Live state is keyed by it.
    pub name: Arc<str>,
    /// The service, for telemetry; `unknown` when the cluster does not stand for a service.
    pub service: Arc<str>,
    /// The namespace of the service.
    pub namespace: Arc<str>,
    /// How endpoints are chosen.
    pub load_balancer: LoadBalancer,
    /// `Cluster.connect_timeout`: TCP and TLS together. Default 5 s.
    pub connect_timeout: Duration,
    /// Idle upstream connections are closed after this (`HttpProtocolOptions.idle_timeout`). Default 60 s.
    pub idle_timeout: Duration,
    /// A connection that has carried so many requests is closed (`max_requests_per_connection`). Absent: none is.
    pub max_requests_per_connection: Option<NonZeroU32>,
    /// `UpstreamConnectionOptions.tcp_keepalive`, for connections that are opened from now on.
    pub tcp_keepalive: TcpKeepalive,
    /// HTTP/2 towards endpoints, for connections that are opened from now on.
    pub http2: Http2,
    /// What may be in use at once.
    pub limits: Limits,
    /// When endpoints are given a rest. Absent: never.
    pub breaker: Option<Arc<Breaker>>,
    /// How many retries there may be.
    pub retry_budget: RetryBudget,
    /// How an endpoint that is new comes to its full share (`SlowStartConfig`). Absent: at once.
    pub slow_start: Option<SlowStart>,
    /// Whether endpoints of the proxy's own zone are preferred. Default [`Zone::Off`].
    pub zone: Zone,
    /// With a smaller share of endpoints admitted, breakers are ignored (`healthy_panic_threshold`). Default 50 %.
    pub panic_threshold: Share,
    /// The HTTP version towards endpoints, when the cluster insists (`HttpProtocolOptions.explicit_http_config`).
    pub http_version: UpstreamHttp,
    /// The endpoints that may take traffic, in no particular order.
    pub endpoints: Arc<[Arc<Endpoint>]>,
}

impl Cluster {
    /// A cluster without endpoints that has the default of every setting.
    pub fn new(name: Arc<str>) -> Self {
        Self {
            name,
            service: "unknown".into(),
            namespace: "unknown".into(),
            load_balancer: LoadBalancer::RoundRobin,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            max_requests_per_connection: None,
            tcp_keepalive: TcpKeepalive::default(),
            http2: Http2::default(),
            limits: Limits::default(),
            breaker: None,
            retry_budget: RetryBudget::default(),
            slow_start: None,
            zone: Zone::Off,
            panic_threshold: Share::percent(50),
            http_version: UpstreamHttp::AsDownstream,
            endpoints: Arc::default(),
        }
    }
}

/// The HTTP version spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamHttp {
    /// The version that the caller spoke.
    #[default]
    AsDownstream,
    /// HTTP/1.1 always.
    Http1,
    /// HTTP/2 always.
    Http2,
}

/// How an endpoint is chosen for a request or connection.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadBalancer {
    /// `ROUND_ROBIN`: in turn, by weight.
    RoundRobin,
    /// `LEAST_REQUEST` over two random choices.
    LeastRequest,
    /// `RANDOM`, by weight.
    Random,
    /// `RING_HASH`: by the hash of the request, to the next point on a ring.
    RingHash {
        /// At least so many points on the ring (`minimum_ring_size`). Default 1,024.
        minimum_size: NonZeroU32,
        /// At most so many (`maximum_ring_size`). Default 8,388,608.
        maximum_size: NonZeroU32,
        /// Percent of its share of what is in flight that an endpoint may have (`hash_balance_factor`), 100 or more.
        /// Absent: any.
        bounded_load: Option<NonZeroU32>,
    },
    /// `MAGLEV`: by the hash of the request, in a table.
    Maglev {
        /// Places in the table, a prime (`table_size`). Default 65,537.
        table_size: NonZeroU32,
        /// As for the ring.
        bounded_load: Option<NonZeroU32>,
    },
    /// `weft.v1.PeakEwma`: the lower of `ewma latency x (in flight + 1)` over two random choices.
    PeakEwma {
        /// The time in which an old peak loses all but 1/e of its weight. Default 10 s.
        decay: Duration,
        /// The latency assumed of an endpoint never used. Default 30 ms.
        default_rtt: Duration,
    },
}

impl LoadBalancer {
    /// Peak-EWMA with the default of every setting.
    pub const PEAK_EWMA: Self = Self::PeakEwma {
        decay: DECAY,
        default_rtt: DEFAULT_RTT,
    };

    /// A ring with the default of every setting.
    pub const RING_HASH: Self = Self::RingHash {
        minimum_size: some(1_024),
        maximum_size: some(8 << 20),
        bounded_load: None,
    };

    /// Maglev with the default of every setting.
    pub const MAGLEV: Self = Self::Maglev {
        table_size: some(65_537),
        bounded_load: None,
    };

    /// How long a latency is remembered, by other balancers as well: it is shown, and there for a push that
    /// changes to peak-EWMA.
    pub fn decay(&self) -> Duration {
        match self {
            Self::PeakEwma { decay, .. } => *decay,
            _ => DECAY,
        }
    }

    /// The latency assumed of an endpoint never used.
    pub fn default_rtt(&self) -> Duration {
        match self {
            Self::PeakEwma { default_rtt, .. } => *default_rtt,
            _ => DEFAULT_RTT,
        }
    }
}

const DECAY: Duration = Duration::from_secs(10);
const DEFAULT_RTT: Duration = Duration::from_millis(30);

/// How an endpoint that is new comes to its full share.
#[derive(Debug, Clone, PartialEq)]
pub struct SlowStart {
    /// How long that takes (`slow_start_window`).
    pub window: Duration,
    /// The exponent of the growth; 1 is linear (`aggression`). Default 1.
    pub aggression: f64,
    /// What it begins with (`min_weight_percent`). Default 10 %.
    pub minimum: Share,
}

/// Whether endpoints of the proxy's own zone are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Zone {
    /// Zones play no part.
    #[default]
    Off,
    /// Own zone first; others take what it lacks, in proportion: with half of its fair share of endpoints admitted, the
    /// zone keeps half.
    Prefer,
    /// Own zone only, unless it has no endpoint at all.
    Strict,
}

/// Probes on a silent connection (`envoy.config.core.v3.TcpKeepalive`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// Silence before the first probe, in whole seconds. Default 60 s.
    pub time: Duration,
    /// Between probes, in whole seconds. Default 15 s.
    pub interval: Duration,
    /// Unanswered probes that end the connection. Default 4.
    pub probes: NonZeroU32,
}

impl Default for TcpKeepalive {
    /// Without an answer the connection breaks after two minutes, not after the hours of the system's defaults.
    fn default() -> Self {
        Self {
            time: Duration::from_secs(60),
            interval: Duration::from_secs(15),
            probes: some(4),
        }
    }
}

/// What the proxy allows on an HTTP/2 connection to an endpoint (`Http2ProtocolOptions`). Absent: what the proxy has
/// for all connections ([`HttpLimits`](crate::http::limits::HttpLimits)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Http2 {
    /// Streams at once, when the endpoint allows as many (`max_concurrent_streams`).
    pub concurrent_streams: Option<NonZeroU32>,
    /// Bytes of a response under way to us (`initial_stream_window_size`).
    pub stream_window: Option<NonZeroU32>,
    /// Bytes of all responses of a connection (`initial_connection_window_size`).
    pub connection_window: Option<NonZeroU32>,
}

/// Limits of a cluster over all workers of the proxy (`CircuitBreakers.thresholds`). What passes a limit
/// fails at once and is never held against an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. Default 10,000.
    pub connections: NonZeroU32,
    /// Requests that wait for a connection. Default 1,024.
    pub pending: NonZeroU32,
    /// Requests in flight. Default 10,000.
    pub requests: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: some(10_000),
            pending: some(1_024),
            requests: some(10_000),
        }
    }
}

const fn some(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("no default is zero")
}

/// One address that serves a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The identity it must prove: mutual TLS when present, plaintext when absent.
    pub identity: Option<SpiffeId>,
    /// What telemetry calls it.
    pub workload: WorkloadName,
    /// Its share under weighted balancers. Default 1.
    pub weight: NonZeroU32,
    /// Its zone (`Locality.zone`), empty when unknown.
    pub zone: Arc<str>,
}
