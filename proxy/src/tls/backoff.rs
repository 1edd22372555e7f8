//! How long to wait before trying again: exponential, with jitter, so that a thousand proxies do not return
//! to a control plane in the same instant.

use std::time::Duration;

/// Delays that double from `first` to `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first`.
    pub fn new(first: Duration, cap: Duration) -> Self {
        Self {
            first,
            cap,
            next: first.min(cap),
        }
    }

    /// The next delay: between half and all of the current step. `roll` is uniform in 0..1.
    pub fn delay(&mut self, roll: f64) -> Duration {
        let step = self.next;
        self.next = step.saturating_mul(2).min(self.cap);
        step.mul_f64(0.5 + 0.5 * roll.clamp(0.0, 1.0))
    }

    /// Starts over, after a success.
    pub fn reset(&mut self) {
        self.next = self.first.min(self.cap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_over_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(500));
        let delays: Vec<_> = (0..4).map(|_| backoff.delay(1.0)).collect();
        assert_eq!(delays, [ms(100), ms(200), ms(400), ms(500)]);
        backoff.reset();
        assert_eq!(backoff.delay(0.0), ms(50));
    }
}
