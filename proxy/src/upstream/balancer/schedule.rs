//! Smooth weighted round robin: every endpoint in turn, those with more weight more often, and each of them spread
//! evenly over time.
//!
//! The requests of an endpoint are jobs of a periodic schedule (Baruah, Cohen, Plaxton, Varvel, "Proportionate
//! Progress"): with share w/W, the k-th may come from slot floor(k W/w) on and must by slot ceil((k+1) W/w). The
//! earliest deadline first meets them all, so that after any number of requests every endpoint is less than one
//! request away from its exact share. nginx's algorithm, which gives no such bound, looks at every endpoint for
//! every request; here it is two heaps.

use super::chance::{Fit, draw, takes};
use fastrand::Rng;
use std::{cmp::Reverse, collections::BinaryHeap};

/// Whose turn it is, by weight.
#[derive(Debug)]
pub(super) struct Schedule {
    turns: Box<[Turns]>,
    total: u64,
    slot: u64,
    /// By the slot from which they may come.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
    /// By the slot before which they must have come.
    ready: BinaryHeap<Reverse<(u64, u32)>>,
}

/// The turns of one endpoint.
#[derive(Debug)]
struct Turns {
    weight: u64,
    /// Taken since `cycle` began.
    taken: u64,
    /// The slot in which as many turns began as there is weight.
    cycle: u64,
}

impl Turns {
    /// The slot from which the next turn may come.
    fn release(&self, total: u64) -> u64 {
        self.cycle + self.taken * total / self.weight
    }

    /// The slot before which it must have come.
    fn deadline(&self, total: u64) -> u64 {
        self.cycle + ((self.taken + 1) * total).div_ceil(self.weight)
    }
}

impl Schedule {
    /// A schedule for these weights, of which none is zero and whose sum is below 2^32. It begins anywhere, so that
    /// proxies started together do not all call the heaviest.
    pub(super) fn new(weights: &[u32], random: u64) -> Self {
        let turns: Box<[_]> = weights
            .iter()
            .map(|&weight| Turns {
                weight: weight.into(),
                taken: 0,
                cycle: 0,
            })
            .collect();
        let mut schedule = Self {
            total: turns.iter().map(|turns| turns.weight).sum(),
            slot: 0,
            waiting: (0..turns.len() as u32)
                .map(|index| Reverse((0, index)))
                .collect(),
            ready: BinaryHeap::with_capacity(turns.len()),
            turns,
        };
        let few = schedule.total.min(2 * weights.len() as u64);
        for _ in 0..random.checked_rem(few).unwrap_or_default() {
            schedule.next();
        }
        schedule
    }

    /// The index whose turn it is. Who does not take the request misses a turn, so that the others keep their shares.
    pub(super) fn pick<E>(
        &mut self,
        endpoints: &[E],
        fit: impl Fn(&E) -> Fit,
        random: u64,
    ) -> Option<usize> {
        let mut rng = Rng::with_seed(random);
        for _ in 0..2 * endpoints.len() {
            let turn = self.next()?;
            if takes(fit(&endpoints[turn]), &mut rng) {
                return Some(turn);
            }
        }
        // The heaviest do not: those who do may be far from their turns.
        let weight = |index: usize| self.turns[index].weight as f64 * fit(&endpoints[index]);
        draw(endpoints.len(), weight, &mut rng)
    }

    fn next(&mut self) -> Option<usize> {
        while let Some(&Reverse((release, index))) = self.waiting.peek()
            && release <= self.slot
        {
            self.waiting.pop();
            let deadline = self.turns[index as usize].deadline(self.total);
            self.ready.push(Reverse((deadline, index)));
        }
        // In every slot somebody is ready: by then at least one more turn was released than slots have passed.
        let Reverse((_, index)) = self.ready.pop()?;
        let turns = &mut self.turns[index as usize];
        turns.taken += 1;
        if turns.taken == turns.weight {
            turns.taken = 0;
            turns.cycle += self.total;
        }
        self.waiting
            .push(Reverse((turns.release(self.total), index)));
        self.slot += 1;
        Some(index as usize)
    }
}
