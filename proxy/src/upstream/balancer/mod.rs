//! Which endpoint of a cluster takes a request. Pure decisions: time and randomness are passed in.

mod least_request;
mod peak_ewma;
mod round_robin;

pub(crate) use peak_ewma::Latency;

use crate::snapshot::LoadBalancer;
use round_robin::RoundRobin;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Remembers latencies when the configured balancer does not say for how long: shown in `/clusters`, and
/// there when a push changes to peak-EWMA.
const DECAY: Duration = Duration::from_secs(10);
const DEFAULT_RTT: Duration = Duration::from_millis(30);

/// What a request says of the endpoint that it wants.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Choice<'a> {
    /// What a consistent hash goes by. Absent: chance.
    #[expect(dead_code, reason = "for the balancers that hash")]
    pub(crate) hash: Option<u64>,
    /// Endpoints that have failed the request: taken only when there is no other.
    pub(crate) avoid: &'a [SocketAddr],
}

/// What a balancer knows of an endpoint.
pub(crate) trait Load {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Whether its breaker lets a request through.
    fn admits(&self, _now: Instant) -> bool {
        true
    }

    /// Requests sent whose response is not complete, and open opaque connections.
    fn in_flight(&self) -> u32;

    /// How long its responses took of late.
    fn latency(&self) -> Latency;
}

/// A configured balancer with the state that it keeps itself.
#[derive(Debug)]
pub(crate) enum Balancer {
    RoundRobin(RoundRobin),
    LeastRequest,
    PeakEwma {
        decay: Duration,
        default_rtt: Duration,
    },
}

impl Balancer {
    /// The balancer as configured. `random` keeps the workers of a proxy, and the proxies of a mesh, from
    /// walking through the endpoints in step.
    pub(crate) fn new(config: &LoadBalancer, random: u64) -> Self {
        match *config {
            LoadBalancer::RoundRobin => Self::RoundRobin(RoundRobin::starting_at(random)),
            LoadBalancer::LeastRequest => Self::LeastRequest,
            LoadBalancer::PeakEwma { decay, default_rtt } => Self::PeakEwma { decay, default_rtt },
        }
    }

    /// The index of the endpoint to use; `None` when there is none. `random` is 64 uniform bits.
    pub(crate) fn pick<E: Load>(
        &mut self,
        endpoints: &[E],
        choice: &Choice<'_>,
        now: Instant,
        random: u64,
    ) -> Option<usize> {
        let admitted = |endpoint: &E| endpoint.admits(now);
        if choice.avoid.is_empty() {
            return self.pick_usable(endpoints, admitted, now, random);
        }
        let other =
            |endpoint: &E| admitted(endpoint) && !choice.avoid.contains(&endpoint.address());
        self.pick_usable(endpoints, other, now, random)
            .or_else(|| self.pick_usable(endpoints, admitted, now, random))
    }

    fn pick_usable<E: Load>(
        &mut self,
        endpoints: &[E],
        usable: impl Fn(&E) -> bool,
        now: Instant,
        random: u64,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(round_robin) => round_robin.pick(endpoints, usable),
            Self::LeastRequest => least_request::pick(endpoints, usable, random),
            Self::PeakEwma { decay, .. } => peak_ewma::pick(endpoints, usable, now, *decay, random),
        }
    }

    /// The time in which a latency loses all but 1/e of its weight.
    pub(crate) fn decay(&self) -> Duration {
        match *self {
            Self::PeakEwma { decay, .. } => decay,
            Self::RoundRobin(_) | Self::LeastRequest => DECAY,
        }
    }

    /// The latency assumed of an endpoint never used.
    pub(crate) fn default_rtt(&self) -> Duration {
        match *self {
            Self::PeakEwma { default_rtt, .. } => default_rtt,
            Self::RoundRobin(_) | Self::LeastRequest => DEFAULT_RTT,
        }
    }
}

/// The cheaper of two different usable endpoints chosen at random (Mitzenmacher, "The Power of Two Choices in
/// Randomized Load Balancing"); the first of them when both cost the same.
fn cheaper_of_two<E, C: PartialOrd>(
    endpoints: &[E],
    usable: impl Fn(&E) -> bool,
    random: u64,
    cost: impl Fn(&E) -> C,
) -> Option<usize> {
    let (mut first, mut second) = match endpoints.len() {
        0 => return None,
        1 => return usable(&endpoints[0]).then_some(0),
        len => two_of(len, random),
    };
    if !(usable(&endpoints[first]) && usable(&endpoints[second])) {
        (first, second) = two_usable(endpoints, usable, random)?;
    }
    let second_is_cheaper = cost(&endpoints[second]) < cost(&endpoints[first]);
    Some(if second_is_cheaper { second } else { first })
}

/// Two usable endpoints, every pair equally likely; twice the same one when it is the only one.
#[cold]
fn two_usable<E>(
    endpoints: &[E],
    usable: impl Fn(&E) -> bool,
    random: u64,
) -> Option<(usize, usize)> {
    let indices = || (0..endpoints.len()).filter(|&index| usable(&endpoints[index]));
    let (first, second) = match indices().count() {
        0 => return None,
        1 => (0, 0),
        // Not the bits that led here: they belong to pairs with an endpoint that is not usable.
        len => two_of(len, fastrand::Rng::with_seed(random).u64(..)),
    };
    Some((indices().nth(first)?, indices().nth(second)?))
}

/// Two different indices below `len`, which is at least 2. Every ordered pair is equally likely.
fn two_of(len: usize, random: u64) -> (usize, usize) {
    // Multiply-shift (Lemire, "Fast Random Integer Generation in an Interval"): the bias is len / 2^32.
    let below = |bits: u64, bound: usize| (((bits & 0xffff_ffff) * bound as u64) >> 32) as usize;
    let first = below(random, len);
    let second = below(random >> 32, len - 1);
    (first, if second >= first { second + 1 } else { second })
}

#[cfg(test)]
mod tests;
