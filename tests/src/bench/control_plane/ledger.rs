//! Which change reached whom, and when the last of them said so.

use super::world::Change;
use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

/// The changes of a phase.
#[derive(Debug, Default)]
pub struct Ledger {
    /// How many proxies follow a service.
    followers: HashMap<u32, u32>,
    events: BTreeMap<u32, Event>,
    by_service: HashMap<u32, Vec<u32>>,
    unfinished: usize,
}

#[derive(Debug)]
struct Event {
    service: u32,
    at: Instant,
    followers: u32,
    waiting: u32,
    last: Instant,
}

/// How long changes took to be acknowledged by the last of those that follow what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latency {
    /// How many changes.
    pub changes: usize,
    /// How many of them are still not acknowledged by everyone.
    pub unfinished: usize,
    /// Half of them took at most this.
    pub p50: Duration,
    /// 99 of 100 took at most this.
    pub p99: Duration,
    /// All of them.
    pub max: Duration,
}

impl Ledger {
    /// A ledger of a world in which so many proxies follow a service, for those that anybody does.
    pub fn new(followers: HashMap<u32, u32>) -> Self {
        Self {
            followers,
            ..Self::default()
        }
    }

    /// Notes that a change happens now, before anybody can have seen it.
    pub fn changed(&mut self, change: Change, at: Instant) {
        let followers = self.followers.get(&change.service).copied().unwrap_or(0);
        self.unfinished += usize::from(followers > 0);
        let event = Event {
            service: change.service,
            at,
            followers,
            waiting: followers,
            last: at,
        };
        self.events.insert(change.number, event);
        let of_service = self.by_service.entry(change.service).or_default();
        of_service.push(change.number);
    }

    /// Notes that a proxy that knew a service as of the change `before` has acknowledged it as of `now`: with that
    /// all changes in between, of which it may have seen none.
    pub fn acknowledged(&mut self, service: u32, before: u32, now: u32, at: Instant) {
        let Some(numbers) = self.by_service.get(&service) else {
            return;
        };
        let first = numbers.partition_point(|number| *number <= before);
        for number in numbers[first..].iter().take_while(|number| **number <= now) {
            let event = self.events.get_mut(number).expect("it is listed");
            event.last = event.last.max(at);
            event.waiting = event.waiting.saturating_sub(1);
            self.unfinished -= usize::from(event.waiting == 0);
        }
    }

    /// Whether every change is acknowledged by all who follow what changed.
    pub fn is_settled(&self) -> bool {
        self.unfinished == 0
    }

    /// How long the changes took that concerned anybody, and that a condition on service and time picks.
    pub fn latency(&self, picks: impl Fn(u32, Instant) -> bool) -> Latency {
        let picked = self
            .events
            .values()
            .filter(|event| event.followers > 0 && picks(event.service, event.at));
        let mut took = Vec::new();
        let mut unfinished = 0;
        for event in picked {
            match event.waiting {
                0 => took.push(event.last - event.at),
                _ => unfinished += 1,
            }
        }
        took.sort_unstable();
        Latency {
            changes: took.len() + unfinished,
            unfinished,
            p50: percentile(&took, 50),
            p99: percentile(&took, 99),
            max: took.last().copied().unwrap_or_default(),
        }
    }

    /// How many pushes there would be if every change went to every follower on its own.
    pub fn owed(&self) -> u64 {
        self.events
            .values()
            .map(|event| u64::from(event.followers))
            .sum()
    }
}

/// The least value that so many of a hundred do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(number: u32, service: u32) -> Change {
        Change { number, service }
    }

    #[test]
    fn a_change_takes_as_long_as_the_last_follower() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut ledger = Ledger::new([(0, 2), (1, 1)].into());
        ledger.changed(change(1, 0), after(0));
        ledger.changed(change(2, 1), after(10));
        // Nobody follows it.
        ledger.changed(change(3, 2), after(10));
        ledger.changed(change(4, 0), after(20));
        ledger.acknowledged(0, 0, 1, after(5));
        ledger.acknowledged(1, 0, 2, after(11));
        // Two changes in one.
        ledger.acknowledged(0, 0, 4, after(30));
        assert!(!ledger.is_settled());
        ledger.acknowledged(0, 1, 4, after(32));
        assert!(ledger.is_settled());
        assert_eq!(
            ledger.latency(|service, _| service == 0),
            Latency {
                changes: 2,
                unfinished: 0,
                p50: Duration::from_millis(12),
                p99: Duration::from_millis(30),
                max: Duration::from_millis(30),
            }
        );
        assert_eq!(ledger.latency(|_, _| true).changes, 3);
        assert_eq!(ledger.owed(), 5);
    }

    #[test]
    fn what_nobody_acknowledged_is_unfinished() {
        let start = Instant::now();
        let mut ledger = Ledger::new([(0, 2)].into());
        ledger.changed(change(1, 0), start);
        ledger.acknowledged(0, 0, 1, start);
        let latency = ledger.latency(|_, _| true);
        assert_eq!((latency.changes, latency.unfinished), (1, 1));
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50), Duration::from_millis(100));
        assert_eq!(percentile(&values, 99), Duration::from_millis(198));
        assert_eq!(percentile(&[], 99), Duration::ZERO);
    }
}
