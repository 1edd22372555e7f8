//! Circuit breaking: when an endpoint is given a rest, for how long, and how it comes back.

use super::Share;
use http::StatusCode;
use std::{num::NonZeroU32, time::Duration};

/// The breaker of each endpoint of a cluster (`envoy.config.cluster.v3.OutlierDetection` and `weft.v1.Breaker`).
#[derive(Debug, Clone, PartialEq)]
pub struct Breaker {
    /// So many failures in a row eject an endpoint (`OutlierDetection.consecutive_5xx`). Absent: they do not.
    pub consecutive_failures: Option<NonZeroU32>,
    /// Such a share of failures ejects an endpoint. Absent: it does not.
    pub failure_ratio: Option<FailureRatio>,
    /// What is a failure.
    pub failures: Failures,
    /// How long the first ejection lasts (`base_ejection_time`); each one that follows lasts as much longer again.
    /// Default 30 s.
    pub open_for: Duration,
    /// The longest that an ejection lasts (`max_ejection_time`). Default 5 min.
    pub max_open_for: Duration,
    /// At most so much is added at random to every ejection (`max_ejection_time_jitter`). Default none.
    pub jitter: Duration,
    /// How many requests an endpoint is probed with when its ejection is over. Default 1.
    pub half_open_requests: NonZeroU32,
    /// At most such a share of the endpoints is ejected or probed at once, and always one (`max_ejection_percent`).
    /// Default 10 %.
    pub max_ejected: Share,
}

/// Which share of failures ejects.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureRatio {
    /// At least this share of the requests of the window failed.
    pub ratio: Share,
    /// With fewer requests in the window it says nothing.
    pub minimum_requests: NonZeroU32,
    /// How far back requests count. Default 10 s.
    pub window: Duration,
}

/// What counts as a failure of an endpoint. What the proxy itself refuses because of a limit never does.
#[derive(Debug, Clone, PartialEq)]
pub struct Failures {
    /// It could not be connected to, reset the connection, answered what is not HTTP, or did not answer within the
    /// timeout of the attempt or of the request. Default true.
    pub connect_errors: bool,
    /// Any status of 500 and above. Default true.
    pub server_errors: bool,
    /// These statuses besides.
    pub statuses: Box<[StatusCode]>,
    /// These gRPC codes, by number, in headers or trailers. Default UNKNOWN (2), INTERNAL (13), UNAVAILABLE (14) and
    /// DATA_LOSS (15).
    pub grpc_codes: GrpcCodes,
    /// An answer whose head takes longer. Absent: slowness is no failure.
    pub slower_than: Option<Duration>,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            connect_errors: true,
            server_errors: true,
            statuses: Box::default(),
            grpc_codes: GrpcCodes::of(&[2, 13, 14, 15]),
            slower_than: None,
        }
    }
}

/// A set of gRPC status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GrpcCodes(u32);

impl GrpcCodes {
    /// These codes; those above 31 do not exist and are left out.
    pub const fn of(codes: &[u8]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < codes.len() {
            if codes[i] < 32 {
                bits |= 1 << codes[i];
            }
            i += 1;
        }
        Self(bits)
    }

    /// Whether a code is one of them.
    pub const fn contains(self, code: u8) -> bool {
        code < 32 && self.0 & (1 << code) != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
