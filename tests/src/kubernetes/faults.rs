//! What a test may let go wrong.

use std::{
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::watch;

/// Faults that are in force.
#[derive(Debug)]
pub struct Faults {
    set: Mutex<Set>,
    cuts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Set {
    lifetimes: Option<Range<Duration>>,
    list_delay: Duration,
    watch_delay: Duration,
    refusals: Vec<Refusal>,
}

#[derive(Debug)]
struct Refusal {
    verb: String,
    plural: String,
    times: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            set: Mutex::default(),
            cuts: watch::Sender::new(0),
        }
    }
}

impl Faults {
    /// Cuts every watch that is open.
    pub fn cut_watches(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Cuts every watch from now on at a random age; `None` ends that.
    pub fn limit_watches(&self, lifetimes: Option<Range<Duration>>) {
        self.set().lifetimes = lifetimes;
    }

    /// Lets every list wait.
    pub fn delay_lists(&self, delay: Duration) {
        self.set().list_delay = delay;
    }

    /// Lets every event of a watch wait.
    pub fn delay_watches(&self, delay: Duration) {
        self.set().watch_delay = delay;
    }

    /// Refuses the next requests of a verb for a resource with 503.
    pub fn refuse(&self, verb: &str, plural: &str, times: u64) {
        self.set().refusals.push(Refusal {
            verb: verb.to_owned(),
            plural: plural.to_owned(),
            times,
        });
    }

    /// Tells of every cut.
    pub(super) fn cuts(&self) -> watch::Receiver<u64> {
        self.cuts.subscribe()
    }

    /// How long a watch that begins now may last.
    pub(super) fn lifetime(&self) -> Option<Duration> {
        let lifetimes = self.set().lifetimes.clone()?;
        let spread = lifetimes.end.saturating_sub(lifetimes.start);
        Some(lifetimes.start + spread.mul_f64(fastrand::f64()))
    }

    pub(super) fn list_delay(&self) -> Duration {
        self.set().list_delay
    }

    pub(super) fn watch_delay(&self) -> Duration {
        self.set().watch_delay
    }

    /// Whether this request is one of those to be refused.
    pub(super) fn refuses(&self, verb: &str, plural: &str) -> bool {
        let mut set = self.set();
        let mut refusals = set.refusals.iter_mut();
        let refusal = refusals
            .find(|refusal| refusal.times > 0 && refusal.verb == verb && refusal.plural == plural);
        match refusal {
            Some(refusal) => {
                refusal.times -= 1;
                true
            }
            None => false,
        }
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
