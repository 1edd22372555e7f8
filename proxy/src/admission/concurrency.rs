//! The requests in flight to the application under one limit, over all workers.

use super::{
    bucket::Moment,
    gradient::{Gradient, Observation},
};
use crate::snapshot::ConcurrencyLimit;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// What is seen is judged this often, at most.
const WINDOW: Duration = Duration::from_millis(100);
/// And after this long even when little was seen.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);
/// So many answers make a median.
const ENOUGH: u32 = 50;

/// A limit and what is in use of it.
#[derive(Debug)]
pub(crate) struct Concurrency {
    in_flight: InFlight,
    limit: AtomicU32,
    adaptive: AtomicBool,
    window: Window,
    gradient: Mutex<Option<Gradient>>,
}

/// A cache line of its own: every worker writes to it on every request.
#[derive(Debug, Default)]
#[repr(align(64))]
struct InFlight(AtomicU32);

/// One of the requests in flight, no longer on drop.
#[derive(Debug)]
pub(crate) struct Permit {
    of: Arc<Concurrency>,
    began: Moment,
}

/// As many are in flight as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overloaded {
    pub(crate) limit: u32,
}

impl Concurrency {
    pub(crate) fn new(limit: &ConcurrencyLimit) -> Self {
        let concurrency = Self {
            in_flight: InFlight::default(),
            limit: AtomicU32::new(1),
            adaptive: AtomicBool::new(false),
            window: Window::default(),
            gradient: Mutex::default(),
        };
        concurrency.configure(limit);
        concurrency
    }

    /// Puts a limit in force. What is in flight beyond it finishes.
    pub(crate) fn configure(&self, limit: &ConcurrencyLimit) {
        let mut gradient = self.gradient();
        let limit = match *limit {
            ConcurrencyLimit::Fixed(limit) => {
                *gradient = None;
                limit.get()
            }
            ConcurrencyLimit::Adaptive { minimum, maximum } => {
                let gradient = gradient.get_or_insert_with(|| Gradient::new(minimum, maximum));
                gradient.bound(minimum, maximum);
                gradient.limit()
            }
        };
        self.limit.store(limit, Ordering::Relaxed);
        self.adaptive.store(gradient.is_some(), Ordering::Relaxed);
    }

    /// Lets a request pass, if not too many are in flight.
    pub(crate) fn acquire(self: &Arc<Self>, now: Moment) -> Result<Permit, Overloaded> {
        let limit = self.limit.load(Ordering::Relaxed);
        let others = self
            .in_flight
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |in_flight| {
                (in_flight < limit).then_some(in_flight + 1)
            })
            .map_err(|_| Overloaded { limit })?;
        if self.adaptive.load(Ordering::Relaxed) {
            self.window
                .in_flight
                .fetch_max(others + 1, Ordering::Relaxed);
        }
        Ok(Permit {
            of: self.clone(),
            began: now,
        })
    }

    /// How many are in flight, and how many may be.
    pub(crate) fn usage(&self) -> (u32, u32) {
        (
            self.in_flight.0.load(Ordering::Relaxed),
            self.limit.load(Ordering::Relaxed),
        )
    }

    fn answered(&self, latency: Duration, now: Moment) {
        if !self.adaptive.load(Ordering::Relaxed) {
            return;
        }
        self.window.add(latency);
        if !self.window.close(now) {
            return;
        }
        let (in_flight, _) = self.usage();
        let seen = self.window.take(in_flight);
        if let (Some(seen), Some(gradient)) = (seen, &mut *self.gradient()) {
            gradient.observe(seen);
            self.limit.store(gradient.limit(), Ordering::Relaxed);
        }
    }

    fn gradient(&self) -> MutexGuard<'_, Option<Gradient>> {
        self.gradient.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The application has answered. Only that tells of its load: how long a body takes is up to both ends.
    pub(crate) fn answered(&self, now: Moment) {
        self.of.answered(now.since(self.began), now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.of.in_flight.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is seen until it is judged.
#[derive(Debug)]
struct Window {
    /// A [`Moment`].
    began: AtomicU64,
    in_flight: AtomicU32,
    answers: AtomicU32,
    /// Of answers, by latency.
    latencies: [AtomicU32; BUCKETS],
}

/// Four to a doubling, from a microsecond up to half an hour: within an eighth of the latency.
const BUCKETS: usize = 4 * 31;

impl Default for Window {
    fn default() -> Self {
        Self {
            began: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            answers: AtomicU32::new(0),
            latencies: [const { AtomicU32::new(0) }; BUCKETS],
        }
    }
}

impl Window {
    fn add(&self, latency: Duration) {
        self.latencies[bucket(latency)].fetch_add(1, Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it is the caller's turn to judge what was seen.
    fn close(&self, now: Moment) -> bool {
        let began = self.began.load(Ordering::Relaxed);
        let elapsed = Duration::from_nanos(now.nanos().saturating_sub(began));
        let enough = self.answers.load(Ordering::Relaxed) >= ENOUGH;
        if elapsed < WINDOW || !(enough || elapsed >= LONGEST_WINDOW) {
            return false;
        }
        let next = now.nanos();
        self.began
            .compare_exchange(began, next, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// What was seen, and begins anew with those that are still in flight.
    fn take(&self, in_flight: u32) -> Option<Observation> {
        let counts = self
            .latencies
            .each_ref()
            .map(|count| count.swap(0, Ordering::Relaxed));
        self.answers.store(0, Ordering::Relaxed);
        let most = self.in_flight.swap(in_flight, Ordering::Relaxed);
        Some(Observation {
            latency: median(&counts)?,
            in_flight: most.max(in_flight),
        })
    }
}

fn bucket(latency: Duration) -> usize {
    let micros = u64::try_from(latency.as_micros())
        .unwrap_or(u64::MAX)
        .max(1);
    let doublings = micros.ilog2();
    // The two bits behind the first.
    let quarter = if doublings >= 2 {
        micros >> (doublings - 2) & 3
    } else {
        micros << (2 - doublings) & 3
    };
    (doublings as usize * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The lowest latency of a bucket, in microseconds.
fn lower(bucket: usize) -> f64 {
    let (doublings, quarter) = (bucket / 4, bucket % 4);
    2f64.powi(doublings as i32) * (1.0 + quarter as f64 / 4.0)
}

fn median(counts: &[u32; BUCKETS]) -> Option<Duration> {
    let total: u32 = counts.iter().sum();
    let mut before = 0;
    let bucket = counts.iter().position(|count| {
        before += count;
        before * 2 > total
    })?;
    // As if the answers of a bucket were spread over it evenly.
    let within = counts[bucket];
    let rank = f64::from(total) / 2.0 - f64::from(before - within);
    let (from, to) = (lower(bucket), lower(bucket + 1));
    let micros = from + (to - from) * rank / f64::from(within);
    Some(Duration::from_secs_f64(micros / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fixed(limit: u32) -> ConcurrencyLimit {
        ConcurrencyLimit::Fixed(limit.try_into().unwrap())
    }

    fn adaptive(minimum: u32, maximum: u32) -> ConcurrencyLimit {
        ConcurrencyLimit::Adaptive {
            minimum: minimum.try_into().unwrap(),
            maximum: maximum.try_into().unwrap(),
        }
    }

    fn at(millis: u64) -> Moment {
        Moment::after_start(Duration::from_millis(millis))
    }

    #[test]
    fn as_many_pass_as_may_be_in_flight() {
        let limit = Arc::new(Concurrency::new(&fixed(2)));
        let first = limit.acquire(at(0)).unwrap();
        let _second = limit.acquire(at(0)).unwrap();
        assert_eq!(limit.acquire(at(0)).err(), Some(Overloaded { limit: 2 }));
        drop(first);
        assert!(limit.acquire(at(0)).is_ok());
    }

    #[test]
    fn a_push_changes_the_limit_and_keeps_what_is_in_flight() {
        let limit = Arc::new(Concurrency::new(&fixed(3)));
        let held = [limit.acquire(at(0)), limit.acquire(at(0))];
        limit.configure(&fixed(1));
        assert_eq!(limit.usage(), (2, 1));
        assert!(limit.acquire(at(0)).is_err());
        drop(held);
        limit.configure(&adaptive(10, 1000));
        assert_eq!(limit.usage(), (0, 100));
    }

    /// Rounds of so many callers, each answered after so long.
    fn rounds(limit: &Arc<Concurrency>, from: u64, rounds: u64, callers: u32, takes: u64) -> u64 {
        let mut now = from;
        for _ in 0..rounds {
            let permits: Vec<_> = (0..callers)
                .filter_map(|_| limit.acquire(at(now)).ok())
                .collect();
            now += takes;
            for permit in permits {
                permit.answered(at(now));
            }
        }
        now
    }

    #[test]
    fn a_slower_application_is_sent_less() {
        let limit = Arc::new(Concurrency::new(&adaptive(4, 400)));
        let now = rounds(&limit, 0, 200, 30, 10);
        let (_, before) = limit.usage();
        assert!(before >= 30, "{before}");
        rounds(&limit, now, 20, 30, 100);
        let (_, after) = limit.usage();
        assert!(after < 15, "{after}");
    }

    #[test]
    fn few_answers_are_judged_after_a_second() {
        let window = Window::default();
        window.close(at(0));
        window.add(Duration::from_millis(1));
        assert!(!window.close(at(999)));
        assert!(window.close(at(1000)));
    }

    #[test]
    fn a_window_without_answers_says_nothing() {
        assert_eq!(Window::default().take(0), None);
    }

    proptest! {
        #[test]
        fn the_median_is_near_the_true_one(mut micros in prop::collection::vec(1..5_000_000u64, 1..200)) {
            let window = Window::default();
            for latency in &micros {
                window.add(Duration::from_micros(*latency));
            }
            let median = window.take(0).unwrap().latency.as_secs_f64() * 1e6;
            micros.sort_unstable();
            let middle = micros.len() / 2;
            let lower = micros[middle.saturating_sub(1)].min(micros[middle]) as f64;
            let upper = micros[middle] as f64;
            prop_assert!(median >= lower / 1.26 && median <= upper * 1.26 + 1.0, "{median}");
        }

        #[test]
        fn a_latency_falls_into_the_bucket_around_it(micros in 1..1_000_000_000u64) {
            let bucket = bucket(Duration::from_micros(micros));
            let micros = micros as f64;
            prop_assert!(lower(bucket) <= micros, "{bucket}");
            prop_assert!(micros < lower(bucket + 1), "{bucket}");
        }
    }
}
