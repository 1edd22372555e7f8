//! Which endpoint of a cluster takes a request. Pure decisions: time and randomness are passed in.

mod least_request;
mod peak_ewma;
mod round_robin;

pub(crate) use peak_ewma::Latency;

use crate::snapshot::LoadBalancer;
use round_robin::RoundRobin;
use std::time::{Duration, Instant};

/// Remembers latencies when the configured balancer does not say for how long: shown in `/clusters`, and
/// there when a push changes to peak-EWMA.
const DECAY: Duration = Duration::from_secs(10);
const DEFAULT_RTT: Duration = Duration::from_millis(30);

/// What a balancer knows of an endpoint.
pub(crate) trait Load {
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
    pub(crate) fn pick(
        &mut self,
        endpoints: &[impl Load],
        now: Instant,
        random: u64,
    ) -> Option<usize> {
        match self {
            Self::RoundRobin(round_robin) => round_robin.pick(endpoints.len()),
            Self::LeastRequest => least_request::pick(endpoints, random),
            Self::PeakEwma { decay, .. } => peak_ewma::pick(endpoints, now, *decay, random),
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

/// The cheaper of two different endpoints chosen at random (Mitzenmacher, "The Power of Two Choices in
/// Randomized Load Balancing"); the first of them when both cost the same.
fn cheaper_of_two<E, C: PartialOrd>(
    endpoints: &[E],
    random: u64,
    cost: impl Fn(&E) -> C,
) -> Option<usize> {
    let (first, second) = match endpoints.len() {
        0 => return None,
        1 => return Some(0),
        len => two_of(len, random),
    };
    let second_is_cheaper = cost(&endpoints[second]) < cost(&endpoints[first]);
    Some(if second_is_cheaper { second } else { first })
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
