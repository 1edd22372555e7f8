//! How many requests an application serves well, found by the gradient of their latency. Pure.
//!
//! After Envoy's adaptive concurrency filter and Netflix's concurrency-limits (Gradient2): while requests take
//! about as long as they do without a queue, the limit grows by its square root; when they take longer, requests
//! queue, and the limit shrinks in proportion. How long they take without a queue is learnt when few are in
//! flight. A limit that has shrunk to its minimum makes it so, and that is how an application that has become
//! slower for another reason is understood, without shedding on purpose from time to time as Envoy does.

use std::{num::NonZeroU32, time::Duration};

/// Latencies within this multiple of the one without a queue are no sign of one (Gradient2, `rttTolerance`).
const TOLERANCE: f64 = 1.5;
/// The limit shrinks to no less than this in one step.
const STEEPEST: f64 = 0.5;
/// How much a new observation counts in the latency without a queue.
const WEIGHT: f64 = 0.2;

/// A limit that follows latency.
#[derive(Debug)]
pub(crate) struct Gradient {
    minimum: f64,
    maximum: f64,
    limit: f64,
    /// What requests take without a queue, in seconds.
    unqueued: Option<f64>,
}

/// What was seen in a short time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Observation {
    /// The median time to an answer.
    pub(crate) latency: Duration,
    /// The most requests that were in flight at once.
    pub(crate) in_flight: u32,
}

impl Gradient {
    /// Begins between the two, nearer to the minimum.
    pub(crate) fn new(minimum: NonZeroU32, maximum: NonZeroU32) -> Self {
        let (minimum, maximum) = (f64::from(minimum.get()), f64::from(maximum.get()));
        Self {
            minimum,
            maximum,
            limit: (minimum * maximum).sqrt(),
            unqueued: None,
        }
    }

    /// Puts other bounds in force, and keeps what was learnt.
    pub(crate) fn bound(&mut self, minimum: NonZeroU32, maximum: NonZeroU32) {
        self.minimum = minimum.get().into();
        self.maximum = maximum.get().into();
        self.limit = self
            .limit
            .clamp(self.minimum, self.maximum.max(self.minimum));
    }

    /// As many requests may be in flight.
    pub(crate) fn limit(&self) -> u32 {
        self.limit as u32
    }

    /// Learns from what was seen.
    pub(crate) fn observe(&mut self, seen: Observation) {
        let latency = seen.latency.as_secs_f64().max(1e-6);
        let in_flight = f64::from(seen.in_flight);
        let unqueued = self.unqueued.get_or_insert(latency);
        if latency < *unqueued || in_flight <= self.minimum {
            *unqueued += WEIGHT * (latency - *unqueued);
        }
        let gradient = (TOLERANCE * *unqueued / latency).clamp(STEEPEST, 1.0);
        // A limit that nobody comes near to says nothing, and need not grow.
        if gradient == 1.0 && in_flight < self.limit / 2.0 {
            return;
        }
        self.limit = (self.limit * gradient + self.limit.sqrt())
            .clamp(self.minimum, self.maximum.max(self.minimum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gradient(minimum: u32, maximum: u32) -> Gradient {
        Gradient::new(minimum.try_into().unwrap(), maximum.try_into().unwrap())
    }

    /// An application that serves so many at once; the rest queue (Little's law).
    struct Application {
        serves: f64,
        takes: Duration,
    }

    impl Application {
        /// What is seen when so many callers wait for an answer each, as far as the limit lets them.
        fn under(&self, callers: u32, gradient: &Gradient) -> Observation {
            let in_flight = callers.min(gradient.limit());
            let queue = (f64::from(in_flight) / self.serves).max(1.0);
            Observation {
                latency: self.takes.mul_f64(queue),
                in_flight,
            }
        }

        fn run(&self, windows: u32, callers: u32, gradient: &mut Gradient) -> Observation {
            for _ in 0..windows {
                gradient.observe(self.under(callers, gradient));
            }
            self.under(callers, gradient)
        }
    }

    const FAST: Application = Application {
        serves: 40.0,
        takes: Duration::from_millis(10),
    };

    #[test]
    fn an_overloaded_application_gets_what_it_serves_without_a_long_queue() {
        let mut gradient = gradient(10, 1000);
        FAST.run(20, 8, &mut gradient);
        let seen = FAST.run(200, 5_000, &mut gradient);
        assert!((40..=80).contains(&gradient.limit()), "{gradient:?}");
        assert!(seen.latency < Duration::from_millis(20), "{seen:?}");
    }

    #[test]
    fn an_application_that_becomes_slower_gets_less_and_recovers() {
        let mut gradient = gradient(4, 200);
        FAST.run(100, 60, &mut gradient);
        let before = gradient.limit();
        let slow = Application {
            serves: 8.0,
            takes: Duration::from_millis(50),
        };
        slow.run(10, 60, &mut gradient);
        assert!(gradient.limit() < before / 2, "{gradient:?}");
        slow.run(200, 60, &mut gradient);
        assert!((8..=20).contains(&gradient.limit()), "{gradient:?}");
        FAST.run(200, 60, &mut gradient);
        assert!(gradient.limit() >= 40, "{gradient:?}");
    }

    #[test]
    fn a_limit_that_nobody_comes_near_to_stays() {
        let mut gradient = gradient(10, 1000);
        let before = gradient.limit();
        FAST.run(1_000, before / 3, &mut gradient);
        assert_eq!(gradient.limit(), before);
    }

    #[test]
    fn other_bounds_keep_what_was_learnt() {
        let mut gradient = gradient(10, 1000);
        FAST.run(50, 500, &mut gradient);
        let learnt = gradient.unqueued;
        gradient.bound(NonZeroU32::MIN, 20.try_into().unwrap());
        assert_eq!((gradient.limit(), gradient.unqueued), (20, learnt));
    }

    proptest! {
        #[test]
        fn the_limit_stays_within_its_bounds(
            minimum in 1..50u32,
            more in 0..1000u32,
            seen in prop::collection::vec((0..10_000_000u64, 0..5_000u32), 1..100),
        ) {
            let mut gradient = gradient(minimum, minimum + more);
            for (micros, in_flight) in seen {
                gradient.observe(Observation { latency: Duration::from_micros(micros), in_flight });
                prop_assert!((minimum..=minimum + more).contains(&gradient.limit()));
            }
        }
    }
}
