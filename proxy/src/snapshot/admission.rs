//! What requests to the workload have to pass: rate limits and concurrency limits.
//!
//! Only how much is allowed; how much of it is used lives in `admission`, by the names of filter and rule, and
//! outlives a push.

use super::route::{Conditions, PathMatch};
use http::HeaderName;
use std::{
    num::{NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

/// The limits of an inbound port. A request has to pass every filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// `weft.v1.RateLimit`.
    pub rate: Vec<Filter<RateLimit>>,
    /// `weft.v1.ConcurrencyLimit`.
    pub concurrency: Vec<Filter<ConcurrencyLimit>>,
}

/// Rules in order: the first that is for a request decides on it. One that none is for passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter<L> {
    /// `HttpFilter.name`. What is used of a limit is kept by this name and that of its rule.
    pub name: Arc<str>,
    /// In order.
    pub rules: Vec<Rule<L>>,
}

/// A limit, and the requests that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<L> {
    /// What it is for. Rules of one name in a filter have the same limit, and share what is used of it.
    pub name: Arc<str>,
    /// The requests that it is for: those that one of these matches; none: every one.
    pub matches: Vec<Match>,
    /// The limit; `None` lets its requests pass.
    pub limit: Option<L>,
}

/// What a request must be like (`RouteMatch`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Its path.
    pub path: PathMatch,
    /// What else.
    pub conditions: Option<Arc<Conditions>>,
}

/// Token buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimit {
    /// Of each bucket.
    pub rate: Rate,
    /// One bucket for each combination of these; none: one bucket that callers share fairly.
    pub by: Vec<Key>,
    /// Buckets that are remembered. Default 10,000.
    pub maximum_keys: NonZeroUsize,
}

/// How many tokens come back, and how many a bucket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The nanoseconds in which a token comes back, rounded up: a rate is never exceeded.
    interval: NonZeroU64,
    burst: NonZeroU32,
}

/// What tells callers apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The identity that the caller proved. Those without one are one caller.
    Identity,
    /// The address of the caller.
    SourceAddress,
    /// The value of a header field. Requests without it are of one caller.
    Header(HeaderName),
    /// The authority: a `Host` field, or what stands for it in HTTP/2.
    Authority,
}

/// Requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcurrencyLimit {
    /// So many.
    Fixed(NonZeroU32),
    /// As many as the application is found to serve without becoming slower.
    Adaptive {
        /// Never fewer. Default 10.
        minimum: NonZeroU32,
        /// Never more. Default 1,000.
        maximum: NonZeroU32,
    },
}

/// [`Rate::LONGEST`] in nanoseconds.
const LONGEST: NonZeroU64 =
    NonZeroU64::new(100 * 365 * 24 * 3600 * 1_000_000_000).expect("100 years are not zero");

impl Limits {
    /// Whether every request passes.
    pub fn is_empty(&self) -> bool {
        self.rate.is_empty() && self.concurrency.is_empty()
    }
}

impl Rate {
    /// The longest time in which a burst may come back: 100 years.
    pub const LONGEST: Duration = Duration::from_nanos(LONGEST.get());

    /// So many requests in a time, and so many at once. `None` when a request would have less than a nanosecond,
    /// or a burst take longer than [`Rate::LONGEST`] to come back.
    pub fn new(requests: NonZeroU32, per: Duration, burst: NonZeroU32) -> Option<Self> {
        let requests = u128::from(requests.get());
        if per.as_nanos() < requests {
            return None;
        }
        let interval = per.as_nanos().div_ceil(requests);
        let fits = interval * u128::from(burst.get()) <= Self::LONGEST.as_nanos();
        let interval = u64::try_from(interval).ok().filter(|_| fits)?;
        Some(Self {
            interval: NonZeroU64::new(interval)?,
            burst,
        })
    }

    /// The nanoseconds in which a token comes back.
    pub const fn interval(self) -> u64 {
        self.interval.get()
    }

    /// How many tokens a bucket holds.
    pub const fn burst(self) -> NonZeroU32 {
        self.burst
    }

    /// The nanoseconds in which an empty bucket becomes full.
    pub const fn depth(self) -> u64 {
        self.time_of(self.burst.get())
    }

    /// The nanoseconds in which so many tokens, at most a burst, come back.
    pub const fn time_of(self, tokens: u32) -> u64 {
        self.interval.get() * tokens as u64
    }

    /// The part of one among so many who share a bucket: of the rate, and of half of the burst, but at least one
    /// token.
    pub fn share(self, of: NonZeroU32) -> Self {
        let burst = self.burst.get() / 2 / of.get();
        Self {
            interval: self.interval.saturating_mul(of.into()).min(LONGEST),
            burst: NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN),
        }
    }
}
