//! Round robin: every endpoint in turn.

use super::chance::{Fit, takes};
use fastrand::Rng;

/// The turn of a round robin.
#[derive(Debug)]
pub(super) struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// Begins with any endpoint, so that proxies started together do not all call the same one.
    pub(super) fn starting_at(random: u64) -> Self {
        // The low half: the whole would be within one step of overflow once in 2^64 / len starts.
        Self {
            next: random as u32 as usize,
        }
    }

    /// The index whose turn it is. Who does not take the request misses a turn, so that the others keep equal
    /// shares.
    pub(super) fn pick<E>(
        &mut self,
        endpoints: &[E],
        fit: impl Fn(&E) -> Fit,
        random: u64,
    ) -> Option<usize> {
        let len = endpoints.len();
        let mut index = self.next.checked_rem(len)?;
        let mut rng = Rng::with_seed(random);
        let mut reluctant = None;
        for _ in 0..len {
            let turn = index;
            index += 1;
            self.next = index;
            if index == len {
                index = 0;
            }
            let fit = fit(&endpoints[turn]);
            if takes(fit, &mut rng) {
                return Some(turn);
            }
            if fit > 0.0 {
                reluctant.get_or_insert(turn);
            }
        }
        reluctant
    }
}
