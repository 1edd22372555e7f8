//! Liveness and readiness of the proxy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A worker that shows no sign of life for so long is stuck, and a restart is the remedy.
const STUCK: Duration = Duration::from_secs(15);

/// What must hold before the proxy takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The listeners of every worker are bound.
    Listeners,
    /// The workload has a certificate.
    Certificate,
    /// The inbound configuration of the workload has arrived.
    Configuration,
}

impl Condition {
    const ALL: [Self; 3] = [Self::Listeners, Self::Certificate, Self::Configuration];

    /// What is missing while the condition does not hold.
    const fn missing(self) -> &'static str {
        match self {
            Self::Listeners => "listeners are not bound",
            Self::Certificate => "no certificate from the control plane yet",
            Self::Configuration => "no inbound configuration from the control plane yet",
        }
    }
}

/// The health of the proxy. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    met: [AtomicBool; Condition::ALL.len()],
    draining: AtomicBool,
    /// Milliseconds after `started` of the last sign of life of each worker.
    beats: Vec<AtomicU64>,
}

impl Health {
    /// The health of a proxy that has just started, with so many workers.
    pub fn new(workers: usize, now: Instant) -> Self {
        Self(Arc::new(Inner {
            started: now,
            met: Default::default(),
            draining: AtomicBool::new(false),
            beats: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        }))
    }

    /// Notes that a condition holds from now on.
    pub fn met(&self, condition: Condition) {
        self.0.met[condition as usize].store(true, Ordering::Relaxed);
    }

    /// Notes that the proxy is on its way out: alive, no longer ready.
    pub fn draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// A sign of life of a worker, expected about once a second.
    pub fn beat(&self, worker: usize, now: Instant) {
        let since_start = now.saturating_duration_since(self.0.started);
        let millis = u64::try_from(since_start.as_millis()).unwrap_or(u64::MAX);
        self.0.beats[worker].store(millis, Ordering::Relaxed);
    }

    /// Why the proxy takes no traffic; empty when it does.
    pub fn not_ready(&self) -> Vec<&'static str> {
        let mut missing: Vec<_> = Condition::ALL
            .into_iter()
            .filter(|&condition| !self.0.met[condition as usize].load(Ordering::Relaxed))
            .map(Condition::missing)
            .collect();
        if self.0.draining.load(Ordering::Relaxed) {
            missing.push("the proxy is draining");
        }
        missing
    }

    /// The workers that are stuck; empty when all is well.
    pub fn stuck(&self, now: Instant) -> Vec<usize> {
        let beats = self.0.beats.iter().enumerate();
        beats
            .filter(|(_, beat)| {
                let last = self.0.started + Duration::from_millis(beat.load(Ordering::Relaxed));
                now.saturating_duration_since(last) > STUCK
            })
            .map(|(worker, _)| worker)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_is_ready_when_every_condition_is_met_until_it_drains() {
        let health = Health::new(1, Instant::now());
        assert_eq!(health.not_ready().len(), 3);
        for condition in Condition::ALL {
            health.met(condition);
        }
        assert!(health.not_ready().is_empty());
        health.draining();
        assert_eq!(health.not_ready(), ["the proxy is draining"]);
    }

    #[test]
    fn a_worker_without_a_sign_of_life_is_stuck() {
        let start = Instant::now();
        let health = Health::new(2, start);
        health.beat(1, start + Duration::from_secs(10));
        assert_eq!(health.stuck(start + STUCK), [0; 0]);
        assert_eq!(health.stuck(start + STUCK + Duration::from_secs(1)), [0]);
    }
}
