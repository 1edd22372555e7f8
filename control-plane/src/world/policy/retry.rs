//! What is tried again.

use crate::world::quantity::{Factor, Share};
use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc, time::Duration};

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
    /// default here, and [`PortPolicy::retry_budget`](crate::world::PortPolicy::retry_budget) is what is in force.
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
