//! What the breakers are doing, for `/clusters` and for metrics.

use super::Count;
use crate::{
    tls::rfc3339,
    upstream::breaker::{Phase, Reason, State},
};
use serde::Serialize;
use std::{
    sync::{Mutex, PoisonError},
    time::{Instant, SystemTime},
};

/// The breakers of a cluster, as people read them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CircuitSummary {
    /// Endpoints that at least one worker has ejected.
    pub ejected: usize,
    /// Endpoints that at least one worker probes, and none has ejected.
    pub probed: usize,
    /// Ejections that came to nothing because as many endpoints were ejected as may be.
    pub withheld: u64,
    /// How often breakers changed their state.
    pub transitions: Vec<TransitionSummary>,
}

/// How often the breakers of a cluster changed their state for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransitionSummary {
    /// The state that they changed to: `admit`, `probe` or `eject`.
    pub to: &'static str,
    /// The reason.
    pub reason: &'static str,
    /// How often, over all workers.
    pub count: u64,
}

/// The breakers that the workers have for an endpoint, as people read them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BreakerSummary {
    /// `admit`, `probe` or `eject`: the worst of all workers'.
    pub state: &'static str,
    /// How many workers' breakers are in this state.
    pub workers: usize,
    /// What led to it. Absent while nothing has ever happened.
    pub reason: Option<String>,
    /// Since when, as of the first worker.
    pub since: Option<String>,
    /// When the last worker's ejection is over.
    pub until: Option<String>,
}

/// What one worker counts of the breakers of a cluster.
#[derive(Debug, Default)]
pub(in crate::upstream) struct CircuitCounters {
    /// By [`Reason::index`].
    pub(in crate::upstream) transitions: [Count; Reason::COUNT],
    pub(in crate::upstream) withheld: Count,
}

impl Default for CircuitSummary {
    fn default() -> Self {
        Self {
            ejected: 0,
            probed: 0,
            withheld: 0,
            transitions: Reason::ALL
                .map(|(reason, to)| TransitionSummary {
                    to: to.label(),
                    reason,
                    count: 0,
                })
                .into(),
        }
    }
}

impl CircuitSummary {
    pub(super) fn add(&mut self, counters: &CircuitCounters) {
        self.withheld += counters.withheld.read();
        for (summary, counter) in self.transitions.iter_mut().zip(&counters.transitions) {
            summary.count += counter.read();
        }
    }

    pub(super) fn count(&mut self, breakers: &[Shown]) {
        match breakers.iter().map(|breaker| breaker.phase).max() {
            Some(Phase::Eject) => self.ejected += 1,
            Some(Phase::Probe) => self.probed += 1,
            Some(Phase::Admit) | None => {}
        }
    }
}

impl BreakerSummary {
    /// Of all workers that have a breaker for the endpoint.
    pub(super) fn of(breakers: &[Shown]) -> Option<Self> {
        let phase = breakers.iter().map(|breaker| breaker.phase).max()?;
        let same = || breakers.iter().filter(|breaker| breaker.phase == phase);
        let times = |time: fn(&Shown) -> Option<SystemTime>| same().filter_map(time);
        Some(Self {
            state: phase.label(),
            workers: same().count(),
            reason: same().find_map(|breaker| breaker.reason.map(|reason| reason.to_string())),
            since: times(|breaker| breaker.since).min().map(rfc3339),
            until: times(|breaker| breaker.until).max().map(rfc3339),
        })
    }
}

/// The breaker of one worker for an endpoint, as of its last change.
#[derive(Debug, Default)]
pub(in crate::upstream) struct ShownBreaker(Mutex<Option<Shown>>);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    phase: Phase,
    reason: Option<Reason>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
}

impl ShownBreaker {
    /// A push may have changed how long the state lasts, but not why or since when it is there.
    pub(in crate::upstream) fn keep(&self, state: State, now: Instant) {
        self.change(|shown| {
            let until = until(state, now);
            Some(match shown.take() {
                Some(shown) => Shown { until, ..shown },
                None => Shown {
                    phase: state.phase(),
                    reason: None,
                    since: None,
                    until,
                },
            })
        });
    }

    /// The breaker has changed its state.
    pub(in crate::upstream) fn set(&self, state: State, reason: Reason, now: Instant) {
        self.change(|_| {
            Some(Shown {
                phase: state.phase(),
                reason: Some(reason),
                since: Some(SystemTime::now()),
                until: until(state, now),
            })
        });
    }

    /// There is no breaker.
    pub(in crate::upstream) fn clear(&self) {
        self.change(|_| None);
    }

    pub(super) fn read(&self) -> Option<Shown> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }

    fn change(&self, change: impl FnOnce(&mut Option<Shown>) -> Option<Shown>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = change(&mut shown);
    }
}

fn until(state: State, now: Instant) -> Option<SystemTime> {
    match state {
        State::Eject { until, .. } => {
            SystemTime::now().checked_add(until.saturating_duration_since(now))
        }
        State::Admit | State::Probe { .. } => None,
    }
}
