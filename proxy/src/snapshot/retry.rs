//! Retries: what is tried again, how often and how soon.

use super::{Share, breaker::GrpcCodes};
use http::{Method, StatusCode};
use std::{num::NonZeroU32, time::Duration};

/// How a route retries (`envoy.config.route.v3.RetryPolicy`).
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Attempts after the first (`num_retries`).
    pub retries: NonZeroU32,
    /// On what.
    pub on: Conditions,
    /// The methods of requests that are tried again although the endpoint may have processed them. What provably
    /// was not processed is tried again whatever its method. Default: the idempotent ones (RFC 9110 section 9.2.2).
    pub methods: Box<[Method]>,
    /// An attempt without a response head after this is given up (`per_try_timeout`), and counts as one that may
    /// have been processed. Absent: only the request's own timeout ends it.
    pub per_try_timeout: Option<Duration>,
    /// How long to wait before the next attempt.
    pub backoff: Backoff,
    /// `Retry-After` of the endpoint is kept to when it asks for no more than this, and not retried when it asks for
    /// more (`rate_limited_retry_back_off.max_interval`). Absent: it is not looked at.
    pub retry_after: Option<Duration>,
    /// A request whose body is longer is not kept to be sent again. Default 64 KiB.
    pub body_limit: usize,
    /// A second attempt beside the first, for idempotent requests.
    pub hedge: Option<Hedge>,
}

/// When an attempt is tried again (Envoy's names, `x-envoy-retry-on` and `x-envoy-retry-grpc-on`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// `connect-failure`: no connection, or no TLS.
    pub connect_failure: bool,
    /// `refused-stream`: HTTP/2 REFUSED_STREAM, or GOAWAY below the stream.
    pub refused_stream: bool,
    /// `reset-before-request`: the connection broke before the request was sent.
    pub reset_before_request: bool,
    /// `reset`: the endpoint broke the connection or did not answer in time, before a response head.
    pub reset: bool,
    /// `5xx`: any status of 500 and above, and what `reset` is.
    pub server_errors: bool,
    /// `gateway-error`: 502, 503 or 504.
    pub gateway_error: bool,
    /// `retriable-4xx`: 409.
    pub retriable_4xx: bool,
    /// `retriable-status-codes`: these.
    pub statuses: Box<[StatusCode]>,
    /// `cancelled`, `deadline-exceeded`, `internal`, `resource-exhausted`, `unavailable`: in trailers-only answers.
    pub grpc_codes: GrpcCodes,
}

/// Exponential backoff with full jitter: before the n-th retry a random time below
/// `min(max, base x multiplier^(n-1))`.
#[derive(Debug, Clone, PartialEq)]
pub struct Backoff {
    /// `retry_back_off.base_interval`. Default 25 ms.
    pub base: Duration,
    /// `retry_back_off.max_interval`. Default ten times the base.
    pub max: Duration,
    /// At least 1. Default 2, which is Envoy's and fixed there.
    pub multiplier: f64,
    /// Whether the time is random at all. Default true.
    pub jitter: bool,
}

/// A second attempt while the first is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hedge {
    /// After so long without a response head.
    pub delay: Duration,
}

/// How many retries all requests to a cluster may cause together (`Thresholds.retry_budget`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Of the requests of the last ten seconds. Default 20 %.
    pub ratio: Share,
    /// Allowed in any second, whatever the ratio says. Default 3.
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
