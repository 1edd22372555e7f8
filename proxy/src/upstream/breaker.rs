//! The breaker of one endpoint: whether it takes requests, and what its answers make of that. Pure: time and
//! randomness are passed in.
//!
//! ```text
//!            too many failures
//!   Admit ----------------------> Eject
//!     ^                           |   ^
//!     | every probe     its time  v   | a probe
//!     | succeeded       is over       | failed
//!     +------------------------ Probe +
//! ```
//!
//! Does not own: how many endpoints of a cluster may be ejected at once (see `circuit`), and what the limits of
//! the cluster turn away, which never comes here.

mod outcome;
mod reason;
mod window;

pub(crate) use outcome::{Failure, Outcome};
pub(crate) use reason::Reason;

use crate::snapshot::Breaker as Config;
use std::time::{Duration, Instant};
use window::Window;

/// Whether an endpoint takes requests.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    /// It takes any.
    Admit,
    /// It takes none.
    Eject {
        /// Then it is probed.
        until: Instant,
        /// Why it takes none.
        reason: Reason,
    },
    /// It takes a few, on trial.
    Probe {
        /// So many have yet to succeed, and no more are under way at once.
        left: u32,
    },
}

/// The states without what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// See [`State::Admit`].
    Admit,
    /// See [`State::Probe`].
    Probe,
    /// See [`State::Eject`].
    Eject,
}

/// A change from one state to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Transition {
    /// What it was.
    pub(crate) from: Phase,
    /// What it is.
    pub(crate) to: Phase,
    /// Why.
    pub(crate) reason: Reason,
}

/// What became of an outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Effect {
    /// It was counted, or came too late to be.
    Counted,
    /// It changed the state.
    Changed(Transition),
    /// It would have ejected the endpoint, had the cluster had room for another ejection.
    Withheld(Reason),
}

/// The time between two changes of state in which a request was sent. What it comes to is counted in no other:
/// a request from before an ejection is no probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Era(u32);

/// See the module.
#[derive(Debug)]
pub(crate) struct Breaker {
    state: State,
    /// Since when it is in this era.
    since: Instant,
    era: Era,
    /// Failures in a row.
    failures: u32,
    window: Window,
    /// How many times its base the next ejection lasts, less one.
    growth: u32,
    /// Requests of this era that are under way: the probes, while it is probed.
    under_way: u32,
}

impl Breaker {
    /// An endpoint of which nothing is known is admitted.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            state: State::Admit,
            since: now,
            era: Era(0),
            failures: 0,
            window: Window::new(now),
            growth: 0,
            under_way: 0,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Whether a request may be sent to the endpoint. One whose ejection is over takes its first probe.
    pub(crate) fn admits(&self, now: Instant) -> bool {
        match self.state {
            State::Admit => true,
            State::Eject { until, .. } => now >= until,
            State::Probe { left } => self.under_way < left,
        }
    }

    /// What a request that is sent now says something about.
    pub(crate) fn era(&self) -> Era {
        self.era
    }

    /// A request is sent to the endpoint.
    pub(crate) fn enter(&mut self, config: &Config, now: Instant) -> (Era, Option<Transition>) {
        let transition = self.tick(config, now);
        self.under_way += 1;
        (self.era, transition)
    }

    /// A request that was sent in that era is over, whatever became of it.
    pub(crate) fn leave(&mut self, era: Era) {
        if self.era == era {
            self.under_way = self.under_way.saturating_sub(1);
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, config: &Config, now: Instant) -> Option<Transition> {
        match self.state {
            State::Eject { until, .. } if now >= until => {
                let left = config.half_open_requests.get();
                Some(self.change(State::Probe { left }, Reason::EjectionOver, now))
            }
            // Streams that say nothing must not keep the endpoint from being tried by other requests.
            State::Probe { left }
                if self.under_way >= left && now >= self.since + config.open_for =>
            {
                self.begin_era(now);
                None
            }
            _ => None,
        }
    }

    /// Takes in what a request that was sent in `era` came to. `room` says whether the cluster may eject another
    /// endpoint; one that is probed has its room already. `random` is 64 uniform bits.
    pub(crate) fn observe(
        &mut self,
        config: &Config,
        outcome: Outcome,
        era: Era,
        room: bool,
        now: Instant,
        random: u64,
    ) -> Effect {
        if era != self.era {
            return Effect::Counted;
        }
        match (self.state, outcome) {
            (State::Admit, Outcome::Success) => {
                self.failures = 0;
                if let Some(rule) = &config.failure_ratio {
                    self.window.count(false, rule.window, now);
                }
                Effect::Counted
            }
            (State::Admit, Outcome::Failure(failure)) => {
                match self.count_failure(config, failure, now) {
                    None => Effect::Counted,
                    Some(reason) if !room => Effect::Withheld(reason),
                    Some(reason) => {
                        self.recover(config, now);
                        Effect::Changed(self.eject(config, reason, now, random))
                    }
                }
            }
            (State::Probe { left: 0 | 1 }, Outcome::Success) => {
                Effect::Changed(self.change(State::Admit, Reason::ProbesSucceeded, now))
            }
            (State::Probe { left }, Outcome::Success) => {
                self.state = State::Probe { left: left - 1 };
                Effect::Counted
            }
            (State::Probe { .. }, Outcome::Failure(failure)) => {
                let reason = Reason::ProbeFailed { failure };
                Effect::Changed(self.eject(config, reason, now, random))
            }
            // Sent although it was ejected: too few others were left.
            (State::Eject { .. }, _) => Effect::Counted,
        }
    }

    /// Puts a changed configuration in force. Nothing counted is lost; what goes beyond a new bound is cut.
    pub(crate) fn reconfigure(&mut self, config: &Config) {
        self.growth = self.growth.min(most_growth(config));
        match &mut self.state {
            State::Admit => {}
            State::Eject { until, .. } => {
                *until = (*until).min(self.since + longest(config) + config.jitter);
            }
            State::Probe { left } => *left = (*left).min(config.half_open_requests.get()),
        }
    }

    /// Admits the endpoint for a reason that is none of its own.
    pub(crate) fn admit(&mut self, reason: Reason, now: Instant) -> Option<Transition> {
        match self.state {
            State::Admit => None,
            State::Eject { .. } | State::Probe { .. } => {
                Some(self.change(State::Admit, reason, now))
            }
        }
    }

    /// Which of the rules a failure breaks, if any.
    fn count_failure(&mut self, config: &Config, last: Failure, now: Instant) -> Option<Reason> {
        self.failures = self.failures.saturating_add(1);
        let failures = self.failures;
        let ratio = config.failure_ratio.as_ref().and_then(|rule| {
            self.window.count(true, rule.window, now);
            let (failed, of) = self.window.sum();
            let broken = of >= rule.minimum_requests.get() && rule.ratio.is_reached_by(failed, of);
            broken.then_some(Reason::FailureRatio { failed, of, last })
        });
        config
            .consecutive_failures
            .filter(|most| failures >= most.get())
            .map(|_| Reason::ConsecutiveFailures { failures, last })
            .or(ratio)
    }

    /// Every `open_for` in which the endpoint was admitted makes its next ejection one step shorter.
    fn recover(&mut self, config: &Config, now: Instant) {
        let healthy = now.saturating_duration_since(self.since);
        let steps = healthy.as_nanos() / config.open_for.as_nanos().max(1);
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        self.growth = self.growth.saturating_sub(steps);
    }

    fn eject(&mut self, config: &Config, reason: Reason, now: Instant, random: u64) -> Transition {
        let lasts = config
            .open_for
            .saturating_mul(self.growth.saturating_add(1))
            .min(longest(config));
        self.growth = self.growth.saturating_add(1).min(most_growth(config));
        let until = now + lasts + share_of(config.jitter, random);
        self.change(State::Eject { until, reason }, reason, now)
    }

    fn change(&mut self, state: State, reason: Reason, now: Instant) -> Transition {
        let from = self.state.phase();
        self.state = state;
        self.failures = 0;
        self.window = Window::new(now);
        self.begin_era(now);
        Transition {
            from,
            to: state.phase(),
            reason,
        }
    }

    fn begin_era(&mut self, now: Instant) {
        self.since = now;
        self.era = Era(self.era.0.wrapping_add(1));
        self.under_way = 0;
    }
}

impl State {
    pub(crate) fn phase(self) -> Phase {
        match self {
            Self::Admit => Phase::Admit,
            Self::Probe { .. } => Phase::Probe,
            Self::Eject { .. } => Phase::Eject,
        }
    }
}

impl Phase {
    /// What it is called in logs, metrics and `/clusters`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Probe => "probe",
            Self::Eject => "eject",
        }
    }
}

/// The longest ejection, without jitter: the first one may be longer than all others may.
fn longest(config: &Config) -> Duration {
    config.max_open_for.max(config.open_for)
}

/// More growth would not make an ejection longer, and would take longer to lose.
fn most_growth(config: &Config) -> u32 {
    let steps = longest(config).as_nanos() / config.open_for.as_nanos().max(1);
    u32::try_from(steps).unwrap_or(u32::MAX)
}

/// A uniformly random part of a duration.
fn share_of(whole: Duration, random: u64) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    let part = (u128::from(nanos) * u128::from(random)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
