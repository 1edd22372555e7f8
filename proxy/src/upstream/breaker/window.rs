//! How many requests of late failed: a sliding window in constant memory and time.

use std::time::{Duration, Instant};

/// The window slides by a tenth of its length: it holds at least nine tenths of it, at most all.
const BUCKETS: usize = 10;

/// Counts by time.
#[derive(Debug)]
pub(super) struct Window {
    buckets: [Counts; BUCKETS],
    sum: Counts,
    /// The bucket of now, and when it began.
    newest: usize,
    began: Instant,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    failed: u32,
    all: u32,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            buckets: [Counts::default(); BUCKETS],
            sum: Counts::default(),
            newest: 0,
            began: now,
        }
    }

    /// Counts a request. When `length` is another than before, what is there ages by the new one.
    pub(super) fn count(&mut self, failed: bool, length: Duration, now: Instant) {
        self.slide(length, now);
        for counts in [&mut self.buckets[self.newest], &mut self.sum] {
            counts.failed = counts.failed.saturating_add(u32::from(failed));
            counts.all = counts.all.saturating_add(1);
        }
    }

    /// Failed requests and all requests, as of the last one.
    pub(super) fn sum(&self) -> (u32, u32) {
        (self.sum.failed, self.sum.all)
    }

    fn slide(&mut self, length: Duration, now: Instant) {
        let width = (length / BUCKETS as u32).max(Duration::from_nanos(1));
        let age = now.saturating_duration_since(self.began);
        if age < width {
            return;
        }
        let steps = age.as_nanos() / width.as_nanos();
        if steps >= BUCKETS as u128 {
            *self = Self::new(now);
            return;
        }
        for _ in 0..steps {
            self.newest = (self.newest + 1) % BUCKETS;
            let oldest = std::mem::take(&mut self.buckets[self.newest]);
            self.sum.failed = self.sum.failed.saturating_sub(oldest.failed);
            self.sum.all = self.sum.all.saturating_sub(oldest.all);
            self.began += width;
        }
    }
}
