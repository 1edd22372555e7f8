//! A token bucket: one number, shared by every worker, changed without a lock.
//!
//! It is the generic cell rate algorithm (ITU-T I.371, annex A), turned round: kept is the moment at which the
//! bucket was empty, had tokens come back at the rate ever since. The theoretical arrival time is that moment and
//! the time of a whole burst. Kept so, a bucket that nobody uses is full whatever its burst becomes.

use crate::snapshot::Rate;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// A moment, in nanoseconds since long before the proxy was started: zero is before every bucket was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment(u64);

/// Tells moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: Instant,
}

/// A bucket of tokens. A new one is full.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// A [`Moment`].
    empty: AtomicU64,
}

/// How full a bucket is, as the time in which so much comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(u64);

/// There is no token to take; one will be after this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) Duration);

impl Moment {
    /// 146 years after zero: more than any burst takes to come back ([`Rate::LONGEST`]).
    const START: u64 = 1 << 62;

    /// So long after the proxy was started.
    pub(crate) fn after_start(elapsed: Duration) -> Self {
        Self(Self::START + nanos(elapsed))
    }

    pub(crate) fn nanos(self) -> u64 {
        self.0
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self {
            epoch: Instant::now(),
        }
    }

    pub(crate) fn at(self, instant: Instant) -> Moment {
        Moment::after_start(instant.saturating_duration_since(self.epoch))
    }

    pub(crate) fn now(self) -> Moment {
        self.at(Instant::now())
    }
}

impl Bucket {
    /// Takes a token.
    ///
    /// Whatever the order in which workers come with their moments: within any interval no more tokens are taken
    /// than the burst and what comes back in the interval. Each taken token moves `empty` by the time in which it
    /// comes back, starting from no earlier than a burst before the first moment, and never beyond the last.
    pub(crate) fn take(&self, rate: Rate, now: Moment) -> Result<(), Wait> {
        self.take_above(0, rate, now)
    }

    /// Takes a token if so many are left afterwards.
    pub(crate) fn take_above(&self, left: u32, rate: Rate, now: Moment) -> Result<(), Wait> {
        let earliest = now.0 - rate.depth();
        let left = rate.time_of(left);
        let mut before = self.empty.load(Ordering::Relaxed);
        loop {
            let empty = before.max(earliest) + rate.interval();
            match now.0.checked_sub(empty) {
                Some(level) if level >= left => {}
                _ => return Err(Wait(Duration::from_nanos(empty + left - now.0))),
            }
            match self.empty.compare_exchange_weak(
                before,
                empty,
                Ordering::AcqRel,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Ok(()),
                Err(other) => before = other,
            }
        }
    }

    /// How long it takes until there is a token to take.
    pub(crate) fn wait(&self, rate: Rate, now: Moment) -> Duration {
        let Level(level) = self.level(rate, now);
        Duration::from_nanos(rate.interval().saturating_sub(level))
    }

    /// How full it is.
    pub(crate) fn level(&self, rate: Rate, now: Moment) -> Level {
        let empty = self.empty.load(Ordering::Acquire);
        Level(now.0.saturating_sub(empty).min(rate.depth()))
    }

    /// Whether it holds all that it can: then it is like a new one.
    pub(crate) fn is_full(&self, rate: Rate, now: Moment) -> bool {
        self.level(rate, now).0 >= rate.depth()
    }

    /// Leaves a single token in it.
    pub(crate) fn leave_one(&self, rate: Rate, now: Moment) {
        self.empty.store(now.0 - rate.interval(), Ordering::Release);
    }

    /// The same bucket at another rate: it has as many tokens as before, if it can hold them. One that was full
    /// is full.
    pub(crate) fn at_rate(&self, before: Rate, rate: Rate, now: Moment) -> Self {
        let Level(level) = self.level(before, now);
        if level >= before.depth() {
            return Self::default();
        }
        let level = u128::from(level) * u128::from(rate.interval()) / u128::from(before.interval());
        // What a smaller bucket cannot hold is cut off whenever a token is taken.
        let level = u64::try_from(level).map_or(rate.depth(), |level| level.min(rate.depth()));
        Self {
            empty: AtomicU64::new(now.0 - level),
        }
    }
}

impl Level {
    /// How long until the bucket is full.
    pub(crate) fn full_in(self, rate: Rate) -> Duration {
        Duration::from_nanos(rate.depth() - self.0)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::thread;

    fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
        Rate::new(requests.try_into().unwrap(), per, burst.try_into().unwrap()).unwrap()
    }

    fn at(millis: u64) -> Moment {
        Moment::after_start(Duration::from_millis(millis))
    }

    const SECOND: Duration = Duration::from_secs(1);

    impl Level {
        /// Whole tokens.
        fn tokens(self, rate: Rate) -> u64 {
            self.0 / rate.interval()
        }
    }

    #[test]
    fn a_burst_is_taken_at_once_and_then_what_comes_back() {
        let (bucket, rate) = (Bucket::default(), rate(10, SECOND, 3));
        let left: Vec<_> = (0..3)
            .map(|_| {
                let taken = bucket.take(rate, at(0));
                taken.map(|()| bucket.level(rate, at(0)).tokens(rate))
            })
            .collect();
        assert_eq!(left, [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(
            bucket.take(rate, at(40)),
            Err(Wait(Duration::from_millis(60)))
        );
        assert_eq!(
            bucket.level(rate, at(40)).full_in(rate),
            Duration::from_millis(260)
        );
        assert_eq!(bucket.take(rate, at(250)), Ok(()));
        let level = bucket.level(rate, at(250));
        assert_eq!(level.tokens(rate), 1);
        assert_eq!(level.full_in(rate), Duration::from_millis(150));
    }

    #[test]
    fn tokens_beyond_the_burst_do_not_come_back() {
        let (bucket, rate) = (Bucket::default(), rate(1000, SECOND, 2));
        let taken = |now| (0..5).filter(|_| bucket.take(rate, now).is_ok()).count();
        assert_eq!((taken(at(0)), taken(at(60_000))), (2, 2));
    }

    #[test]
    fn a_changed_rate_neither_fills_nor_empties() {
        let slow = rate(1, SECOND, 4);
        let fast = rate(100, SECOND, 200);
        let bucket = Bucket::default();
        for _ in 0..3 {
            bucket.take(slow, at(0)).unwrap();
        }
        let faster = bucket.at_rate(slow, fast, at(0));
        assert_eq!(faster.level(fast, at(0)).tokens(fast), 1);
        assert_eq!(faster.level(fast, at(500)).tokens(fast), 51);
        let slower = faster.at_rate(fast, slow, at(500));
        assert_eq!(slower.level(slow, at(500)).tokens(slow), 4, "all it holds");
        let untouched = Bucket::default().at_rate(slow, fast, at(0));
        assert!(untouched.is_full(fast, at(0)));
    }

    fn rates() -> impl Strategy<Value = Rate> {
        (1..=1000u32, 1..=5_000u64, 1..=50u32)
            .prop_map(|(requests, per, burst)| rate(requests, Duration::from_millis(per), burst))
    }

    proptest! {
        #[test]
        fn no_interval_sees_more_than_the_burst_and_the_rate(
            rate in rates(),
            gaps in prop::collection::vec(0..20u64, 1..300),
        ) {
            let bucket = Bucket::default();
            let mut now = 0;
            let mut admitted = Vec::new();
            for gap in gaps {
                now += gap;
                if bucket.take(rate, at(now)).is_ok() {
                    admitted.push(at(now));
                }
            }
            prop_assert_eq!(over_admitted(&admitted, rate), None);
        }

        #[test]
        fn many_threads_see_no_more_either(rate in rates(), step in 1..200u64) {
            let bucket = Bucket::default();
            let mut admitted: Vec<Moment> = thread::scope(|scope| {
                let threads: Vec<_> = (0..4u64)
                    .map(|thread| {
                        let bucket = &bucket;
                        // Each with a clock that is a little off.
                        scope.spawn(move || {
                            (0..300)
                                .map(|n| Moment::after_start(Duration::from_micros(n * step + thread)))
                                .filter(|now| bucket.take(rate, *now).is_ok())
                                .collect::<Vec<_>>()
                        })
                    })
                    .collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
            });
            admitted.sort();
            prop_assert_eq!(over_admitted(&admitted, rate), None);
        }

        #[test]
        fn who_waits_as_told_is_admitted_and_not_sooner(
            rate in rates(),
            taken in 1..60u32,
        ) {
            let bucket = Bucket::default();
            for _ in 0..taken {
                let _ = bucket.take(rate, at(0));
            }
            let later = |wait: Duration| Moment::after_start(wait);
            match bucket.take(rate, at(0)) {
                Ok(_) => prop_assert!(taken < rate.burst().get()),
                Err(Wait(wait)) => {
                    prop_assert_eq!(bucket.wait(rate, at(0)), wait);
                    let sooner = wait - Duration::from_nanos(1);
                    prop_assert!(bucket.take(rate, later(sooner)).is_err());
                    prop_assert!(bucket.take(rate, later(wait)).is_ok());
                }
            }
        }
    }

    /// An interval in which more was admitted than the burst and what came back, if there is one.
    fn over_admitted(admitted: &[Moment], rate: Rate) -> Option<(usize, usize)> {
        (0..admitted.len())
            .flat_map(|first| (first..admitted.len()).map(move |last| (first, last)))
            .find(|&(first, last)| {
                let time = admitted[last].since(admitted[first]).as_nanos();
                let back = time / u128::from(rate.interval());
                (last - first + 1) as u128 > u128::from(rate.burst().get()) + back
            })
    }
}
