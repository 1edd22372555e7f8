//! Traffic policies: validated settings, by section. What is in force where is [`super::World`]'s to say.

mod balancing;
mod breaker;
mod connections;
mod retry;

pub use balancing::{Algorithm, ConsistentHash, HashKey, LoadBalancing, SlowStart, Zone};
pub use breaker::{Breaker, FailureRatio, Failures, GrpcCode};
pub use connections::{Connections, Http2, TcpKeepalive, Transport};
pub use retry::{Backoff, Retry, RetryBudget, RetryCondition, RetryOn};

use super::{
    ObjectKey,
    quantity::{Created, Share},
    route::{RouteRef, ValueMatch},
};
use std::{
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

/// A time that something may take at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeLimit {
    /// So long; more than zero.
    After(Duration),
    /// It may take for ever.
    Never,
}

impl From<Duration> for TimeLimit {
    /// Zero is for ever (GEP-1742).
    fn from(duration: Duration) -> Self {
        if duration.is_zero() {
            Self::Never
        } else {
            Self::After(duration)
        }
    }
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
