//! The budget of retries of a cluster: how many all requests to it may cause together. Pure: time is passed in.
//!
//! Shared by the workers of the proxy, without a lock. Owns what was spent, which survives a push; how much may be
//! spent is configuration and comes along with every question.

use crate::snapshot::retry::RetryBudget;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

/// How many seconds a request counts for, the current one included.
const WINDOW: u32 = 10;

/// More than the window, so that a worker whose clock was read a moment earlier finds its seconds still there.
const SLOTS: usize = 16;

/// What was asked for, and what was spent of late.
#[derive(Debug)]
pub(super) struct Budget {
    epoch: Instant,
    requests: Seconds,
    retries: Seconds,
}

impl Budget {
    /// Nothing was asked for yet. No time that is passed in may lie before `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            requests: Seconds::default(),
            retries: Seconds::default(),
        }
    }

    /// A request that may be retried.
    pub(super) fn deposit(&self, now: Instant) {
        self.requests.add(self.second(now));
    }

    /// Leave for one retry.
    ///
    /// Of any requests, at most their share is retried, each counting for ten seconds; beyond that at most the
    /// floor in any second of the clock. Workers that ask at the same moment may be refused the last retry that
    /// there is, never be given more.
    pub(super) fn withdraw(&self, budget: &RetryBudget, now: Instant) -> bool {
        let second = self.second(now);
        // Counted before it is looked at: of two that come at once, the one that looks later sees both.
        self.retries.add(second);
        let of_requests = budget.ratio.of(self.requests.sum(second, WINDOW) as usize) as u64;
        let allowed = self.retries.sum(second, 1) <= u64::from(budget.floor)
            || self.retries.sum(second, WINDOW) <= of_requests;
        if !allowed {
            self.retries.take_back(second);
        }
        allowed
    }

    /// Counted from [`WINDOW`], so that the slots of no second are those of one that has not been.
    fn second(&self, now: Instant) -> u32 {
        let seconds = now.saturating_duration_since(self.epoch).as_secs();
        u32::try_from(seconds)
            .unwrap_or(u32::MAX)
            .saturating_add(WINDOW)
    }
}

/// Counts by second, for as many seconds as there are slots. A cache line of its own: every worker writes to it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Seconds([AtomicU64; SLOTS]);

impl Seconds {
    fn add(&self, second: u32) {
        self.change(second, |count| Some(count.saturating_add(1)));
    }

    fn take_back(&self, second: u32) {
        self.change(second, |count| count.checked_sub(1));
    }

    fn change(&self, second: u32, change: impl Fn(u32) -> Option<u32>) {
        // An error is a change that was not wanted.
        let _ = self.0[second as usize % SLOTS].fetch_update(
            Ordering::SeqCst,
            Ordering::SeqCst,
            |packed| {
                let count = match unpack(packed) {
                    (of, count) if of == second => count,
                    // Of a second that is long over.
                    _ => 0,
                };
                change(count).map(|count| pack(second, count))
            },
        );
    }

    /// Over the last so many seconds, and what another worker's clock says comes after.
    fn sum(&self, second: u32, seconds: u32) -> u64 {
        let counts = self
            .0
            .iter()
            .map(|slot| unpack(slot.load(Ordering::SeqCst)));
        let recent = counts.filter(|(of, _)| *of > second.saturating_sub(seconds));
        recent.map(|(_, count)| u64::from(count)).sum()
    }
}

fn pack(second: u32, count: u32) -> u64 {
    u64::from(second) << 32 | u64::from(count)
}

fn unpack(packed: u64) -> (u32, u32) {
    ((packed >> 32) as u32, packed as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Share;
    use proptest::prelude::*;
    use std::time::Duration;

    const fn budget(percent: u32, floor: u32) -> RetryBudget {
        RetryBudget {
            ratio: Share::percent(percent),
            floor,
        }
    }

    fn withdrawn(budget: &Budget, config: &RetryBudget, tries: u32, now: Instant) -> u32 {
        (0..tries)
            .map(|_| u32::from(budget.withdraw(config, now)))
            .sum()
    }

    #[test]
    fn a_share_of_the_requests_may_be_retried() {
        let start = Instant::now();
        let state = Budget::new(start);
        for _ in 0..1_000 {
            state.deposit(start);
        }
        assert_eq!(withdrawn(&state, &budget(20, 3), 1_000, start), 200);
    }

    #[test]
    fn the_floor_is_there_without_requests_and_anew_every_second() {
        let start = Instant::now();
        let state = Budget::new(start);
        for second in 0..30 {
            let now = start + Duration::from_secs(second);
            assert_eq!(
                withdrawn(&state, &budget(20, 3), 10, now),
                3,
                "second {second}"
            );
        }
        assert_eq!(withdrawn(&state, &budget(0, 0), 10, start), 0);
    }

    #[test]
    fn requests_count_for_ten_seconds() {
        let start = Instant::now();
        let state = Budget::new(start);
        for _ in 0..100 {
            state.deposit(start);
        }
        let later = start + Duration::from_secs(9);
        assert_eq!(withdrawn(&state, &budget(20, 0), 10, later), 10);
        let too_late = start + Duration::from_secs(10);
        assert_eq!(withdrawn(&state, &budget(20, 0), 10, too_late), 0);
    }

    #[test]
    fn a_push_that_changes_the_share_keeps_what_was_spent() {
        let start = Instant::now();
        let state = Budget::new(start);
        for _ in 0..100 {
            state.deposit(start);
        }
        assert_eq!(withdrawn(&state, &budget(20, 0), 100, start), 20);
        assert_eq!(withdrawn(&state, &budget(50, 0), 100, start), 30);
        assert_eq!(withdrawn(&state, &budget(20, 0), 100, start), 0);
    }

    #[test]
    fn workers_that_withdraw_at_once_are_not_given_more_than_there_is() {
        let start = Instant::now();
        let state = Budget::new(start);
        for _ in 0..10_000 {
            state.deposit(start);
        }
        let given: u32 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| withdrawn(&state, &budget(20, 0), 2_000, start)))
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        assert!(given <= 2_000, "{given}");
        let left = withdrawn(&state, &budget(20, 0), 2_000, start);
        assert_eq!(given + left, 2_000);
    }

    proptest! {
        /// Over any window: what was withdrawn in it is at most the share of the requests that counted in it, those
        /// of the ten seconds before included, and the floor in each of its seconds.
        #[test]
        fn no_window_has_more_retries_than_its_requests_and_seconds_allow(
            percent in 0..=100_u32,
            floor in 0..5_u32,
            steps in prop::collection::vec((0..3_000_u64, 0..20_usize, 0..10_u32), 1..60),
        ) {
            let config = budget(percent, floor);
            let start = Instant::now();
            let state = Budget::new(start);
            let mut elapsed = Duration::ZERO;
            let mut history = Vec::new();
            for (millis, requests, tries) in steps {
                elapsed += Duration::from_millis(millis);
                for _ in 0..requests {
                    state.deposit(start + elapsed);
                }
                let retries = withdrawn(&state, &config, tries, start + elapsed);
                history.push((elapsed.as_secs(), requests, retries as usize));
            }
            for (index, &(first, ..)) in history.iter().enumerate() {
                let mut retries = 0;
                for (until, &(last, _, retried)) in history.iter().enumerate().skip(index) {
                    retries += retried;
                    let counting = history[..=until]
                        .iter()
                        .filter(|(second, ..)| second + u64::from(WINDOW) > first)
                        .map(|(_, requests, _)| requests)
                        .sum();
                    let seconds = (last - first + 1) as usize;
                    let allowed = config.ratio.of(counting) + floor as usize * seconds;
                    prop_assert!(retries <= allowed, "{retries} > {allowed} in {first}..={last}");
                }
            }
        }

        #[test]
        fn over_its_life_a_budget_gives_no_more_than_the_share_and_the_floor(
            percent in 0..=100_u32,
            floor in 0..5_u32,
            steps in prop::collection::vec((0..3_000_u64, 0..20_usize, 0..10_u32), 1..200),
        ) {
            let config = budget(percent, floor);
            let start = Instant::now();
            let state = Budget::new(start);
            let (mut elapsed, mut asked, mut given) = (Duration::ZERO, 0, 0);
            for (millis, requests, tries) in steps {
                elapsed += Duration::from_millis(millis);
                for _ in 0..requests {
                    state.deposit(start + elapsed);
                }
                asked += requests;
                given += withdrawn(&state, &config, tries, start + elapsed) as usize;
                let seconds = elapsed.as_secs() as usize + 1;
                prop_assert!(given <= config.ratio.of(asked) + floor as usize * seconds);
            }
        }
    }
}
