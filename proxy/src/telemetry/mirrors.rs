//! Counters of mirrored requests.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of a request that was to be mirrored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mirrored {
    /// It was answered, whatever the answer says.
    Answered,
    /// It was not: no endpoint, no connection, or not in time.
    Failed,
    /// It was not sent, as too many were under way.
    Busy,
    /// It was not sent, as its body is too long.
    TooLong,
}

impl Mirrored {
    /// Every one, in order.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Failed, Self::Busy, Self::TooLong];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::TooLong => "too-long",
        }
    }
}

/// The counters of one worker.
#[derive(Debug, Default)]
pub(super) struct Mirrors([AtomicU64; Mirrored::ALL.len()]);

impl Mirrors {
    pub(super) fn count(&self, mirrored: Mirrored) {
        self.0[mirrored as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, mirrored: Mirrored) -> u64 {
        self.0[mirrored as usize].load(Ordering::Relaxed)
    }
}
