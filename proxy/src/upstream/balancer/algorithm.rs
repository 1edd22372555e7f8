//! The algorithms that a cluster can be configured with, each with the state that it keeps itself.

use super::{
    Load, chance::Fit, consistent, least_request, maglev::Maglev, peak_ewma, random::Random,
    ring::Ring, round_robin::RoundRobin, schedule::Schedule,
};
use crate::snapshot::{Endpoint, LoadBalancer};
use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

/// How one of several endpoints is chosen.
#[derive(Debug)]
pub(super) struct Algorithm {
    kind: Kind,
    /// Of every endpoint; empty where weights do not count.
    weights: Box<[u32]>,
}

#[derive(Debug)]
enum Kind {
    RoundRobin(RoundRobin),
    Schedule(Schedule),
    LeastRequest,
    PeakEwma { decay: Duration },
    Random(Random),
    Ring(Ring, Option<NonZeroU32>),
    Maglev(Maglev, Option<NonZeroU32>),
}

impl Algorithm {
    /// What is configured, for these endpoints. `random` keeps the workers of a proxy, and the proxies of a mesh,
    /// from walking through the endpoints in step.
    pub(super) fn new(config: &LoadBalancer, endpoints: &[Arc<Endpoint>], random: u64) -> Self {
        let weights = || endpoints.iter().map(|endpoint| endpoint.weight.get());
        let named = || -> Vec<_> {
            let addresses = endpoints.iter().map(|endpoint| endpoint.address);
            addresses.zip(weights()).collect()
        };
        let kind = match *config {
            LoadBalancer::RoundRobin => match relative(weights()) {
                None => Kind::RoundRobin(RoundRobin::starting_at(random)),
                Some(weights) => Kind::Schedule(Schedule::new(&weights, random)),
            },
            LoadBalancer::LeastRequest => Kind::LeastRequest,
            LoadBalancer::PeakEwma { decay, .. } => Kind::PeakEwma { decay },
            LoadBalancer::Random => Kind::Random(Random::new(&weights().collect::<Vec<_>>())),
            LoadBalancer::RingHash {
                minimum_size,
                maximum_size,
                bounded_load,
            } => {
                let ring = Ring::new(&named(), minimum_size.get(), maximum_size.get());
                Kind::Ring(ring, bounded_load)
            }
            LoadBalancer::Maglev {
                table_size,
                bounded_load,
            } => Kind::Maglev(Maglev::new(&named(), table_size.get().into()), bounded_load),
        };
        let weights = match kind {
            Kind::LeastRequest | Kind::PeakEwma { .. } => Box::default(),
            _ => weights().collect(),
        };
        Self { kind, weights }
    }

    /// The index of the endpoint to use; `None` when no endpoint takes the request. `random` is 64 uniform bits.
    pub(super) fn pick<E: Load>(
        &mut self,
        endpoints: &[E],
        fit: impl Fn(&E) -> Fit,
        hash: Option<u64>,
        now: Instant,
        random: u64,
    ) -> Option<usize> {
        let Self { kind, weights } = self;
        let weight = |index| weight(weights, index);
        let hash = || hash.unwrap_or(random);
        match kind {
            Kind::RoundRobin(turn) => turn.pick(endpoints, fit, random),
            Kind::Schedule(schedule) => schedule.pick(endpoints, fit, random),
            Kind::LeastRequest => least_request::pick(endpoints, fit, random),
            Kind::PeakEwma { decay } => peak_ewma::pick(endpoints, fit, now, *decay, random),
            Kind::Random(table) => table.pick(endpoints, fit, weight, random),
            Kind::Ring(ring, bound) => {
                consistent::pick(ring.from(hash()), endpoints, fit, weight, *bound)
            }
            Kind::Maglev(maglev, bound) => {
                consistent::pick(maglev.from(hash()), endpoints, fit, weight, *bound)
            }
        }
    }

    /// What an endpoint counts for: 1 where weights do not count.
    pub(super) fn weight(&self, index: usize) -> u32 {
        weight(&self.weights, index)
    }

    /// Whether who gets a request is decided by its hash.
    pub(super) fn hashes(&self) -> bool {
        matches!(self.kind, Kind::Ring(..) | Kind::Maglev(..))
    }
}

fn weight(weights: &[u32], index: usize) -> u32 {
    weights.get(index).copied().unwrap_or(1)
}

/// Weights in lowest terms; `None` when they are all the same.
fn relative(weights: impl Iterator<Item = u32> + Clone) -> Option<Vec<u32>> {
    let divisor = weights.clone().fold(0, gcd);
    let weights = weights.map(|weight| weight / divisor);
    weights
        .clone()
        .any(|weight| weight > 1)
        .then(|| weights.collect())
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
