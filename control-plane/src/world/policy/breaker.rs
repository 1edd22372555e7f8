//! When endpoints are given a rest.

use crate::world::quantity::Share;
use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

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

#[allow(missing_docs, reason = "named as gRPC names them")]
impl GrpcCode {
    pub const CANCELLED: Self = Self(1);
    pub const UNKNOWN: Self = Self(2);
    pub const INVALID_ARGUMENT: Self = Self(3);
    pub const DEADLINE_EXCEEDED: Self = Self(4);
    pub const NOT_FOUND: Self = Self(5);
    pub const ALREADY_EXISTS: Self = Self(6);
    pub const PERMISSION_DENIED: Self = Self(7);
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    pub const FAILED_PRECONDITION: Self = Self(9);
    pub const ABORTED: Self = Self(10);
    pub const OUT_OF_RANGE: Self = Self(11);
    pub const UNIMPLEMENTED: Self = Self(12);
    pub const INTERNAL: Self = Self(13);
    pub const UNAVAILABLE: Self = Self(14);
    pub const DATA_LOSS: Self = Self(15);
    pub const UNAUTHENTICATED: Self = Self(16);

    /// Its number, 1 to 16.
    pub const fn number(self) -> u8 {
        self.0
    }
}
