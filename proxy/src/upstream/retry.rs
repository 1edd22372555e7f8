//! Whether an attempt at a request is followed by another one, and how soon. Pure: time and randomness are passed in.
//!
//! Not decided here: whether the cluster's budget has a retry left (`budget`), and which endpoint is next (`balancer`,
//! which avoids those that were tried).

use crate::{
    error::{Processed, RequestError},
    snapshot::{
        Retry,
        retry::{Backoff, Conditions},
    },
};
use http::{Method, StatusCode};
use std::time::Duration;

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempted {
    /// The head of a response.
    Answered {
        status: StatusCode,
        /// There when the answer has only trailers: no message of the call was answered.
        grpc_status: Option<u8>,
        /// Whether the application has seen the request, which its proxy may know that it has not.
        processed: Processed,
    },
    /// No response.
    Failed {
        error: RequestError,
        processed: Processed,
    },
}

/// What is known of the request besides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances<'r> {
    pub(super) method: &'r Method,
    /// How often it was tried, the attempt in question included.
    pub(super) attempts: u32,
    /// Whether it can be sent once more, its body included.
    pub(super) replayable: bool,
    /// For how long the endpoint asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// How much of its time is left, where that has an end.
    pub(super) left: Option<Duration>,
    /// From 0 to 1, exclusive.
    pub(super) random: f64,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The caller gets what there is: a good answer, or one that is not to be tried again.
    Settled,
    /// The policy would have it tried again, but.
    GiveUp(Ending),
    /// Another attempt after so long.
    Again(Duration),
}

/// How it ended when a retry policy had something to do: the label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A later attempt was answered well.
    Success,
    /// Every attempt that the policy allows failed.
    Exhausted,
    /// The cluster's budget had no retry left.
    Budget,
    /// The endpoint may have processed it, and its method does not allow for a second time.
    Unsafe,
    /// Its body is longer than the policy has bodies kept.
    Body,
    /// Its time would have been up before the next attempt.
    Late,
    /// The endpoint asked for a longer rest than the policy keeps to.
    RetryAfter,
}

impl Ending {
    /// Every one, in the order of [`Ending::index`].
    pub const ALL: [Self; 7] = [
        Self::Success,
        Self::Exhausted,
        Self::Budget,
        Self::Unsafe,
        Self::Body,
        Self::Late,
        Self::RetryAfter,
    ];

    /// A dense number, for tables of counters.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Exhausted => "exhausted",
            Self::Budget => "budget",
            Self::Unsafe => "unsafe",
            Self::Body => "body",
            Self::Late => "late",
            Self::RetryAfter => "retry-after",
        }
    }
}

/// What follows an attempt, as far as the request itself goes.
pub(super) fn decide(
    retry: &Retry,
    attempted: &Attempted,
    request: &Circumstances<'_>,
) -> Decision {
    let safe = match allowance(&retry.on, attempted) {
        None => return Decision::Settled,
        Some(Allowance::AnyMethod) => true,
        Some(Allowance::ByMethod) => retry.methods.contains(request.method),
    };
    if !safe {
        return Decision::GiveUp(Ending::Unsafe);
    }
    if request.attempts > retry.retries.get() {
        return Decision::GiveUp(Ending::Exhausted);
    }
    if !request.replayable {
        return Decision::GiveUp(Ending::Body);
    }
    let asked = match (request.retry_after, retry.retry_after) {
        (Some(asked), Some(longest)) if asked > longest => {
            return Decision::GiveUp(Ending::RetryAfter);
        }
        (Some(asked), Some(_)) => asked,
        (None, _) | (_, None) => Duration::ZERO,
    };
    // On top of what was asked for: everybody was asked for the same.
    let wait = asked.saturating_add(backoff(&retry.backoff, request.attempts, request.random));
    match request.left {
        Some(left) if left <= wait => Decision::GiveUp(Ending::Late),
        _ => Decision::Again(wait),
    }
}

/// Whether the policy would have it tried again.
pub(super) fn matches(retry: &Retry, attempted: &Attempted) -> bool {
    allowance(&retry.on, attempted).is_some()
}

/// Whether a second attempt may run beside the first. Nobody knows yet what becomes of that one, so it takes a method
/// that may be processed twice.
pub(super) fn may_hedge(retry: &Retry, method: &Method) -> bool {
    retry.hedge.is_some() && retry.methods.contains(method)
}

/// Full jitter: before the n-th retry any time below `min(max, base x multiplier^(n-1))`.
fn backoff(backoff: &Backoff, retry: u32, random: f64) -> Duration {
    let exponent = i32::try_from(retry.saturating_sub(1)).unwrap_or(i32::MAX);
    let grown = backoff.base.as_secs_f64() * backoff.multiplier.powi(exponent);
    // Of a number and of none, min takes the number: what grows beyond all bounds ends at the longest.
    let longest = grown.min(backoff.max.as_secs_f64());
    let wait = match backoff.jitter {
        true => longest * random,
        false => longest,
    };
    // Rounding may take it a nanosecond above.
    Duration::from_secs_f64(wait).min(backoff.max)
}

/// For which methods a condition has a request tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allowance {
    /// It was not processed.
    AnyMethod,
    /// It may have been processed.
    ByMethod,
}

fn allowance(on: &Conditions, attempted: &Attempted) -> Option<Allowance> {
    match *attempted {
        Attempted::Answered {
            status,
            grpc_status,
            processed,
        } => answer_matches(on, status, grpc_status, processed),
        Attempted::Failed { error, processed } => failure_matches(on, error, processed),
    }
}

fn answer_matches(
    on: &Conditions,
    status: StatusCode,
    grpc_status: Option<u8>,
    processed: Processed,
) -> Option<Allowance> {
    let matches = grpc_status.is_some_and(|code| on.grpc_codes.contains(code))
        || on.server_errors && status.as_u16() >= 500
        || on.gateway_error && matches!(status.as_u16(), 502..=504)
        || on.retriable_4xx && status == StatusCode::CONFLICT
        || on.statuses.contains(&status);
    matches.then_some(processed.into())
}

fn failure_matches(
    on: &Conditions,
    error: RequestError,
    processed: Processed,
) -> Option<Allowance> {
    // As Envoy has it: what ends without an answer is a reset, and a gateway answers a reset with 5xx.
    let any_end = on.reset || on.server_errors || on.gateway_error;
    let matches = match error {
        RequestError::UpstreamConnectFailed
        | RequestError::UpstreamConnectTimeout
        | RequestError::UpstreamTlsFailed
        | RequestError::UpstreamIdentityMismatch => any_end || on.connect_failure,
        RequestError::UpstreamRefusedStream => any_end || on.refused_stream,
        RequestError::UpstreamReset => {
            any_end || on.reset_before_request && processed == Processed::Never
        }
        RequestError::UpstreamProtocolError | RequestError::UpstreamTimeout => any_end,
        // The caller's own doing, a limit, or something that another attempt would not change.
        _ => false,
    };
    matches.then_some(processed.into())
}

impl From<Processed> for Allowance {
    fn from(processed: Processed) -> Self {
        match processed {
            Processed::Never => Self::AnyMethod,
            Processed::Maybe => Self::ByMethod,
        }
    }
}

#[cfg(test)]
mod tests;
