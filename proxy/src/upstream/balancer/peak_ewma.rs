//! Peak-EWMA: of two endpoints at random, the one with the lower expected wait.
//!
//! After Finagle (`com.twitter.finagle.loadbalancer.PeakEwma`) and tower (`tower::load::peak_ewma`), which
//! Linkerd uses: an exponentially weighted moving average of latencies that jumps to every peak at once and
//! comes down slowly, multiplied by the number of requests that would share the endpoint. What differs:
//!
//! - What was last seen a decay ago says nothing any more. An endpoint that lost every choice for so long gets one
//!   request to show how it is, and what that finds counts alone: it has its share again at once, or is left alone for
//!   as long. By decay only, an endpoint a thousand times slower than its peers would be avoided for seven decays.
//! - An endpoint never used begins at a default, not at zero, so that a new replica is not flooded.
//! - A failure counts as [`PENALTY`] times the average. Without it an endpoint that fails in microseconds
//!   would look like the best of all and draw the traffic of its healthy peers.

use super::{Load, chance::Fit, two_choices::cheaper};
use std::time::{Duration, Instant};

/// How much worse than its average a failed request makes an endpoint look. With the default decay of 10 s
/// one failure is forgotten after 23 s, earlier when its peers are busy; repeated failures add up to the
/// cluster's connect timeout.
const PENALTY: f64 = 10.0;

/// The index of the endpoint to use.
pub(super) fn pick<E: Load>(
    endpoints: &[E],
    fit: impl Fn(&E) -> Fit,
    now: Instant,
    decay: Duration,
    random: u64,
) -> Option<usize> {
    cheaper(endpoints, fit, random, |endpoint| {
        match (endpoint.latency(), endpoint.in_flight()) {
            // Only one at a time: as long as it is under way the average stands.
            (latency, 0) if latency.is_stale(now, decay) => 0.0,
            (latency, in_flight) => latency.at(now, decay) * (f64::from(in_flight) + 1.0),
        }
    })
}

/// A peak-sensitive moving average of latencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Latency {
    /// In seconds, as of `stamp`.
    average: f64,
    stamp: Instant,
}

impl Latency {
    /// The latency of an endpoint never used.
    pub(crate) fn assumed(rtt: Duration, now: Instant) -> Self {
        Self {
            average: rtt.as_secs_f64(),
            stamp: now,
        }
    }

    /// The average in seconds, decayed to `now`.
    pub(crate) fn at(&self, now: Instant, decay: Duration) -> f64 {
        self.average * self.weight(now, decay)
    }

    /// Whether nothing was taken in for so long that the average is no guide.
    pub(crate) fn is_stale(&self, now: Instant, decay: Duration) -> bool {
        now.saturating_duration_since(self.stamp) >= decay
    }

    /// Takes in the latency of one response.
    pub(crate) fn observe(&mut self, rtt: Duration, now: Instant, decay: Duration) {
        let rtt = rtt.as_secs_f64();
        self.average = if rtt > self.average || self.is_stale(now, decay) {
            rtt
        } else {
            let weight = self.weight(now, decay);
            self.average * weight + rtt * (1.0 - weight)
        };
        self.stamp = now;
    }

    /// Takes in a failure after `elapsed`. The penalty stays below `most`, the failure's own time does not.
    pub(crate) fn penalize(
        &mut self,
        elapsed: Duration,
        most: Duration,
        now: Instant,
        decay: Duration,
    ) {
        let penalty = (self.at(now, decay) * PENALTY).min(most.as_secs_f64());
        self.observe(elapsed.max(Duration::from_secs_f64(penalty)), now, decay);
    }

    fn weight(&self, now: Instant, decay: Duration) -> f64 {
        let age = now.saturating_duration_since(self.stamp).as_secs_f64();
        let decay = decay.as_secs_f64();
        if decay > 0.0 {
            (-age / decay).exp()
        } else {
            0.0
        }
    }
}
