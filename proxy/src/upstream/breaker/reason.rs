//! Why a breaker changes its state: a closed list.

use super::{Failure, Phase};
use std::fmt;

/// Why a breaker changed its state. As text, for people: with what led to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reason {
    /// So many failures in a row.
    ConsecutiveFailures {
        /// How many.
        failures: u32,
        /// The last of them.
        last: Failure,
    },
    /// Too large a share of failures.
    FailureRatio {
        /// How many of the requests of the window failed.
        failed: u32,
        /// How many requests the window had.
        of: u32,
        /// The last failure.
        last: Failure,
    },
    /// A probe failed.
    ProbeFailed {
        /// How.
        failure: Failure,
    },
    /// The time of the ejection is over.
    EjectionOver,
    /// All probes succeeded.
    ProbesSucceeded,
    /// A push left the cluster with fewer endpoints, or a smaller share of them that may be ejected.
    MaxEjected,
    /// A push took the breaker away.
    BreakerRemoved,
}

impl Reason {
    /// How many reasons there are.
    pub(crate) const COUNT: usize = 7;

    /// What the reasons are called in logs and metrics, and the state that each leads to, in the order of
    /// [`Reason::index`].
    pub(crate) const ALL: [(&'static str, Phase); Self::COUNT] = [
        ("consecutive-failures", Phase::Eject),
        ("failure-ratio", Phase::Eject),
        ("probe-failed", Phase::Eject),
        ("ejection-over", Phase::Probe),
        ("probes-succeeded", Phase::Admit),
        ("max-ejected", Phase::Admit),
        ("breaker-removed", Phase::Admit),
    ];

    /// A dense number, for tables of counters.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::ConsecutiveFailures { .. } => 0,
            Self::FailureRatio { .. } => 1,
            Self::ProbeFailed { .. } => 2,
            Self::EjectionOver => 3,
            Self::ProbesSucceeded => 4,
            Self::MaxEjected => 5,
            Self::BreakerRemoved => 6,
        }
    }

    /// What it is called in logs and metrics.
    pub(crate) fn label(self) -> &'static str {
        Self::ALL[self.index()].0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures { failures, last } => {
                write!(f, "{failures} failures in a row, the last: {last}")
            }
            Self::FailureRatio { failed, of, last } => {
                write!(f, "{failed} of {of} requests failed, the last: {last}")
            }
            Self::ProbeFailed { failure } => write!(f, "a probe failed: {failure}"),
            Self::EjectionOver => f.write_str("its ejection is over"),
            Self::ProbesSucceeded => f.write_str("all probes succeeded"),
            Self::MaxEjected => f.write_str("fewer endpoints may be ejected"),
            Self::BreakerRemoved => f.write_str("the breaker was removed"),
        }
    }
}
