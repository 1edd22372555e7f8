//! Traffic policies: validated settings, by section. What is in force where is [`super::World`]'s to say.

use super::{
    ObjectKey,
    quantity::{Created, Factor, Share},
    route::{RouteRef, ValueMatch},
};
use std::{
    collections::BTreeSet,
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

/// A `TrafficPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficPolicy {
    /// Its name. Its targets are of the same namespace.
    pub key: ObjectKey,
    /// Of two policies on one target, the older is in force.
    pub created: Created,
    /// What it is for; never empty.
    pub targets: Vec<Target>,
    /// What it says.
    pub settings: Settings,
}

/// What a policy is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A service, or one of its ports, which is the more specific.
    Service {
        /// The service.
        service: ObjectKey,
        /// The port; absent: all of them.
        port: Option<PortRef>,
    },
    /// A route, or one of its rules, which is the more specific.
    Route {
        /// The route.
        route: RouteRef,
        /// The name of the rule; absent: all of them.
        rule: Option<Arc<str>>,
    },
}

/// A port of a service, by one of its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortRef {
    /// By the number that clients dial.
    Number(u16),
    /// By its name.
    Name(Arc<str>),
}

/// What a policy says. A section that it has counts whole; one that it lacks is left to the next less specific
/// policy (rule, route, port, service), and at last to the settings of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How endpoints are chosen. Of a service only.
    pub load_balancer: Option<Arc<LoadBalancing>>,
    /// Connections to endpoints, and their limits. Of a service only.
    pub connections: Option<Arc<Connections>>,
    /// When endpoints are given a rest. Of a service only.
    pub breaker: Option<Arc<Breaker>>,
    /// What is tried again.
    pub retry: Option<Arc<Retry>>,
    /// How long things may take.
    pub timeouts: Option<Timeouts>,
    /// How much callers may ask for. Enforced by the callee's sidecar.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// How much may be under way. Enforced by the callee's sidecar.
    pub concurrency_limit: Option<ConcurrencyLimit>,
    /// Faults made on purpose.
    pub fault: Option<Arc<Fault>>,
    /// Copies of requests.
    pub mirror: Option<Arc<Mirror>>,
}

/// How endpoints are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoadBalancing {
    /// Absent: that of the mesh.
    pub algorithm: Option<Algorithm>,
    /// How an endpoint that is new comes to its full share. Absent: at once.
    pub slow_start: Option<SlowStart>,
    /// Whether endpoints of the caller's zone are preferred.
    pub zone: Zone,
    /// With a smaller share of endpoints admitted, breakers are ignored.
    pub panic_threshold: Share,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        Self {
            algorithm: None,
            slow_start: None,
            zone: Zone::Off,
            panic_threshold: Share::percent(50),
        }
    }
}

/// How an endpoint is chosen for a request or connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Of two at random, the lower latency times load.
    PeakEwma {
        /// The time in which an old peak loses all but 1/e of its weight.
        decay: Duration,
        /// The latency assumed of an endpoint never used.
        default_rtt: Duration,
    },
    /// Of two at random, the fewer requests in flight.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// In turn, each as often as its weight says, spread evenly.
    WeightedRoundRobin,
    /// At random, by weight.
    Random,
    /// By the hash of a key, over a ring.
    RingHash {
        /// What is hashed.
        hash: ConsistentHash,
        /// Points on the ring, at least: 1 to 8,388,608.
        minimum_size: NonZeroU32,
        /// Points on the ring, at most.
        maximum_size: NonZeroU32,
    },
    /// By the hash of a key, over a table (Maglev).
    Maglev {
        /// What is hashed.
        hash: ConsistentHash,
        /// Entries of the table: a prime up to 5,000,011.
        table_size: NonZeroU32,
    },
}

impl Algorithm {
    /// [`Self::PeakEwma`] with its defaults.
    pub const PEAK_EWMA: Self = Self::PeakEwma {
        decay: Duration::from_secs(10),
        default_rtt: Duration::from_millis(30),
    };

    /// Whether the weights of endpoints count.
    pub fn is_weighted(&self) -> bool {
        match self {
            Self::WeightedRoundRobin
            | Self::Random
            | Self::RingHash { .. }
            | Self::Maglev { .. } => true,
            Self::PeakEwma { .. } | Self::LeastRequest | Self::RoundRobin => false,
        }
    }

    /// What is hashed, if anything is.
    pub fn hash(&self) -> Option<&ConsistentHash> {
        match self {
            Self::RingHash { hash, .. } | Self::Maglev { hash, .. } => Some(hash),
            Self::PeakEwma { .. }
            | Self::LeastRequest
            | Self::RoundRobin
            | Self::WeightedRoundRobin
            | Self::Random => None,
        }
    }
}

/// What a consistent hash is made of, and how far it binds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsistentHash {
    /// What is hashed. A request without it goes anywhere.
    pub key: HashKey,
    /// No endpoint gets more than this many percent of the mean load, 101 or more: what is above goes to the next.
    /// Absent: no bound.
    pub bounded_load: Option<NonZeroU32>,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// The value of a header, by its name in lower case.
    Header(Arc<str>),
    /// The value of a cookie.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// A request without it is given one, for so long; zero: for the session. Absent: it is not.
        ttl: Option<Duration>,
        /// The path of a cookie that is given.
        path: Option<Arc<str>>,
    },
    /// The value of a query parameter.
    QueryParameter(Arc<str>),
    /// The address of the caller.
    SourceAddress,
}

/// How an endpoint that is new comes to its full share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlowStart {
    /// How long that takes.
    pub window: Duration,
    /// The exponent of the growth; 1 is linear.
    pub aggression: Factor,
    /// What it begins with.
    pub minimum: Share,
}

/// Whether endpoints of the caller's zone are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Zone {
    /// Zones play no part.
    Off,
    /// Own zone first; others take, in proportion, what it lacks.
    Prefer,
    /// Own zone only, unless it has no endpoint at all.
    Strict,
}

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

/// When endpoints are given a rest, and how they come back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Breaker {
    /// So many failures in a row eject an endpoint. Absent: they do not.
    pub consecutive_failures: Option<NonZeroU32>,
    /// Such a share of failures ejects an endpoint. Absent: it does not.
    pub failure_ratio: Option<FailureRatio>,
    /// What is a failure.
    pub failures: Failures,
    /// How long the first ejection lasts; each one that follows lasts as much longer again.
    pub open_for: Duration,
    /// The longest that an ejection lasts, at least [`Self::open_for`].
    pub max_open_for: Duration,
    /// At most so much is added at random to every ejection.
    pub jitter: Duration,
    /// How many requests an endpoint is probed with when its ejection is over.
    pub half_open_requests: NonZeroU32,
    /// At most such a share of the endpoints is ejected at once, and always one.
    pub max_ejected: Share,
}

/// Which share of failures ejects.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FailureRatio {
    /// At least this share of the requests of the window failed.
    pub ratio: Share,
    /// With fewer requests in the window it says nothing.
    pub minimum_requests: NonZeroU32,
    /// How far back requests count.
    pub window: Duration,
}

/// What counts as a failure of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Failures {
    /// It could not be connected to, reset the connection, or answered what is not HTTP.
    pub connect_errors: bool,
    /// Any status of 500 and above.
    pub server_errors: bool,
    /// These statuses besides, 100 to 599.
    pub statuses: BTreeSet<u16>,
    /// These gRPC codes.
    pub grpc_codes: BTreeSet<GrpcCode>,
    /// An answer whose head takes longer. Absent: slowness is no failure.
    pub slower_than: Option<Duration>,
}

/// A gRPC status code other than OK, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrpcCode(u8);

impl GrpcCode {
    /// Names by number.
    pub const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];

    /// The code of a name, `UNAVAILABLE`; none for OK.
    pub fn of(name: &str) -> Option<Self> {
        let number = Self::NAMES.iter().position(|known| *known == name)?;
        u8::try_from(number)
            .ok()
            .filter(|number| *number != 0)
            .map(Self)
    }

    /// Its number, 1 to 16.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.0 as usize]
    }
}

/// What is tried again, how often and how soon.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Retry {
    /// All of them, the first included. 1: nothing is tried again.
    pub attempts: NonZeroU32,
    /// On what.
    pub on: RetryOn,
    /// The methods of requests that are tried again although the endpoint may have processed them.
    pub methods: BTreeSet<Arc<str>>,
    /// An attempt without a response head after this is given up. Absent: only the request's own timeout ends it.
    pub per_try_timeout: Option<Duration>,
    /// How long to wait before the next attempt.
    pub backoff: Backoff,
    /// `Retry-After` of the endpoint is kept to when it asks for no more than this. Absent: it is not looked at.
    pub retry_after: Option<Duration>,
    /// How many retries all requests to a service may cause together. Of a service only: a route's policy has the
    /// default here, and [`super::PortPolicy::retry_budget`] is what is in force.
    pub budget: RetryBudget,
    /// A request whose body is longer, in bytes, is not kept to be sent again.
    pub body_limit: u32,
    /// A second attempt beside the first, after so long without a response head, for idempotent requests.
    pub hedge: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        use RetryCondition as On;
        Self {
            attempts: const { NonZeroU32::new(3).unwrap() },
            on: RetryOn {
                conditions: BTreeSet::from([
                    On::ConnectFailure,
                    On::RefusedStream,
                    On::ResetBeforeRequest,
                    On::Reset,
                    On::GatewayError,
                    On::Unavailable,
                ]),
                statuses: BTreeSet::new(),
            },
            methods: Self::IDEMPOTENT.into_iter().map(Arc::from).collect(),
            per_try_timeout: None,
            backoff: Backoff::default(),
            retry_after: Some(Duration::from_secs(5)),
            budget: RetryBudget::default(),
            body_limit: 64 * 1024,
            hedge: None,
        }
    }
}

impl Retry {
    /// The idempotent methods (RFC 9110 section 9.2.2).
    pub const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"];
}

/// When an attempt is tried again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RetryOn {
    /// By name.
    pub conditions: BTreeSet<RetryCondition>,
    /// These statuses besides, 400 to 599.
    pub statuses: BTreeSet<u16>,
}

/// A condition on which an attempt is tried again, by Envoy's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RetryCondition {
    /// No connection, or no TLS.
    ConnectFailure,
    /// HTTP/2 REFUSED_STREAM, or GOAWAY below the stream.
    RefusedStream,
    /// The connection broke before the request was sent.
    ResetBeforeRequest,
    /// The endpoint broke the connection or did not answer in time, before a response head.
    Reset,
    /// Any status of 500 and above, and what [`Self::Reset`] is.
    ServerError,
    /// 502, 503 or 504.
    GatewayError,
    /// 409.
    Retriable4xx,
    /// gRPC CANCELLED.
    Cancelled,
    /// gRPC DEADLINE_EXCEEDED.
    DeadlineExceeded,
    /// gRPC INTERNAL.
    Internal,
    /// gRPC RESOURCE_EXHAUSTED.
    ResourceExhausted,
    /// gRPC UNAVAILABLE.
    Unavailable,
}

impl RetryCondition {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ConnectFailure,
        Self::RefusedStream,
        Self::ResetBeforeRequest,
        Self::Reset,
        Self::ServerError,
        Self::GatewayError,
        Self::Retriable4xx,
        Self::Cancelled,
        Self::DeadlineExceeded,
        Self::Internal,
        Self::ResourceExhausted,
        Self::Unavailable,
    ];

    /// Its name, as in `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConnectFailure => "connect-failure",
            Self::RefusedStream => "refused-stream",
            Self::ResetBeforeRequest => "reset-before-request",
            Self::Reset => "reset",
            Self::ServerError => "5xx",
            Self::GatewayError => "gateway-error",
            Self::Retriable4xx => "retriable-4xx",
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::Internal => "internal",
            Self::ResourceExhausted => "resource-exhausted",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Exponential backoff: before the n-th retry up to `min(max, base x multiplier^(n-1))`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backoff {
    /// Before the first retry; more than zero.
    pub base: Duration,
    /// At least the base.
    pub max: Duration,
    /// At least 1.
    pub multiplier: Factor,
    /// Whether the time is random (full jitter) or exact.
    pub jitter: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: Duration::from_millis(250),
            multiplier: Factor::from_thousandths(2000),
            jitter: true,
        }
    }
}

/// How many retries all requests to a service may cause together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RetryBudget {
    /// Of the requests of the last ten seconds.
    pub ratio: Share,
    /// Allowed in any second, whatever the ratio says.
    pub floor: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            ratio: Share::percent(20),
            floor: 3,
        }
    }
}

/// A time that something may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeLimit {
    /// So long; more than zero.
    After(Duration),
    /// It may take for ever.
    Never,
}

impl TimeLimit {
    /// The limit, if there is one.
    pub fn duration(self) -> Option<Duration> {
        match self {
            Self::After(duration) => Some(duration),
            Self::Never => None,
        }
    }
}

/// How long things may take. What is absent is the mesh's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Timeouts {
    /// From the end of the request to the end of the response, with all attempts.
    pub request: Option<TimeLimit>,
    /// No byte in either direction of a stream.
    pub idle: Option<TimeLimit>,
}

/// A token bucket, or one for each caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RateLimit {
    /// So many...
    pub requests: NonZeroU32,
    /// ...in so long.
    pub per: Duration,
    /// So many at once after a pause.
    pub burst: NonZeroU32,
    /// Requests that agree in all of these share a bucket; empty: all do.
    pub by: Vec<RateLimitKey>,
    /// Buckets at most.
    pub maximum_keys: NonZeroU32,
}

/// What tells callers apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RateLimitKey {
    /// The SPIFFE identity.
    Identity,
    /// The address.
    SourceAddress,
    /// The value of a header, by its name in lower case.
    Header(Arc<str>),
}

/// How much may be under way at once in one workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConcurrencyLimit {
    /// So many requests.
    Fixed {
        /// At most.
        maximum: NonZeroU32,
    },
    /// As many as do not make it slow.
    Adaptive {
        /// Always so many.
        minimum: NonZeroU32,
        /// Never more.
        maximum: NonZeroU32,
    },
}

/// Faults made on purpose. At least one of delay and abort is set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fault {
    /// Requests that are held back.
    pub delay: Option<Delay>,
    /// Requests that fail.
    pub abort: Option<Abort>,
    /// Only requests that have all of these.
    pub headers: Vec<ValueMatch>,
}

/// Requests that are held back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delay {
    /// How many.
    pub share: Share,
    /// How long.
    pub duration: Duration,
}

/// Requests that fail.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Abort {
    /// How many.
    pub share: Share,
    /// With what.
    pub status: AbortStatus,
}

/// What an aborted request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AbortStatus {
    /// An HTTP status, 200 to 599.
    Http(u16),
    /// A gRPC status.
    Grpc(GrpcCode),
}

/// Copies of requests. Their answers are thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mirror {
    /// The namespace of who asks for it.
    pub from: Arc<str>,
    /// Where the copies go.
    pub backend: ServiceRef,
    /// How many requests are copied.
    pub share: Share,
}

/// A port of a service, as something else names it. Whether it exists and may be named is [`super::World`]'s to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceRef {
    /// The service.
    pub service: ObjectKey,
    /// The number that clients dial.
    pub port: NonZeroU16,
}
