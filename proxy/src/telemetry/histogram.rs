//! A latency histogram of one worker.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets in seconds; what is longer falls into `+Inf`. Fine around the few
/// milliseconds where a mesh lives, coarse around the timeouts.
pub const BOUNDS: [f64; 20] = [
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.075, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

const BOUNDS_MICROS: [u64; BOUNDS.len()] = [
    500, 1_000, 2_000, 3_000, 4_000, 5_000, 7_500, 10_000, 15_000, 25_000, 50_000, 75_000, 100_000,
    250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// Counts of durations by bucket.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

/// The sum of several histograms at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// Counts per bucket, not cumulative; the last is `+Inf`.
    pub buckets: [u64; BOUNDS.len() + 1],
    /// The sum of all durations in microseconds.
    pub sum_micros: u64,
}

impl Histogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MICROS.partition_point(|&bound| bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Adds this histogram to a merged one.
    pub fn merge_into(&self, merged: &mut Merged) {
        for (sum, count) in merged.buckets.iter_mut().zip(&self.buckets) {
            *sum += count.load(Ordering::Relaxed);
        }
        merged.sum_micros += self.sum_micros.load(Ordering::Relaxed);
    }
}

impl Merged {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        for micros in [0, 500, 501, 30_000_000, 30_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut merged = Merged::default();
        histogram.merge_into(&mut merged);
        assert_eq!((merged.buckets[0], merged.buckets[1]), (2, 1));
        assert_eq!((merged.buckets[19], merged.buckets[20]), (1, 1));
        assert_eq!((merged.count(), merged.sum_micros), (5, 60_001_002));
    }

    #[test]
    fn both_tables_of_bounds_say_the_same() {
        for (seconds, micros) in BOUNDS.iter().zip(BOUNDS_MICROS) {
            assert_eq!((seconds * 1e6).round() as u64, micros);
        }
    }
}
