//! Balancers as statistics: what they promise of many picks, with randomness drawn here.

mod hashing;
mod latency;
mod shares;
mod slow_start;
mod turns;
mod zones;

use super::*;
use crate::snapshot::{LoadBalancer, WorkloadName, cluster::Zone};
use fastrand::Rng;
use std::num::NonZeroU32;

/// What a balancer sees of an endpoint.
#[derive(Debug, Clone)]
struct Fake {
    address: SocketAddr,
    admits: bool,
    joined: Option<Instant>,
    in_flight: u32,
    latency: Latency,
}

impl Load for Fake {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn admits(&self, _: Instant) -> bool {
        self.admits
    }

    fn joined(&self) -> Option<Instant> {
        self.joined
    }

    fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn latency(&self) -> Latency {
        self.latency
    }
}

/// A balancer and its endpoints. The proxy is in zone `a`.
struct Bench {
    now: Instant,
    balancer: Balancer,
    endpoints: Vec<Fake>,
    rng: Rng,
}

impl Bench {
    fn new(config: &Cluster) -> Self {
        let now = Instant::now();
        let (configs, zones) = arrange(&config.endpoints, config.zone, "a");
        let balancer = Balancer::new(config, &configs, zones, now, 7);
        let fake = |config: &Arc<Endpoint>| Fake {
            address: config.address,
            admits: true,
            joined: None,
            in_flight: 0,
            latency: Latency::assumed(Duration::from_millis(30), now),
        };
        Self {
            now,
            balancer,
            endpoints: configs.iter().map(fake).collect(),
            rng: Rng::with_seed(7),
        }
    }

    fn pick(&mut self, choice: &Choice<'_>) -> Option<usize> {
        let random = self.rng.u64(..);
        self.balancer
            .pick(&self.endpoints, choice, self.now, random)
    }

    /// How often each endpoint is picked when nothing is said of whom to avoid. Every request has a hash of its own.
    fn count(&mut self, picks: u32) -> Vec<u32> {
        self.count_avoiding(&[], picks)
    }

    fn count_avoiding(&mut self, avoid: &[SocketAddr], picks: u32) -> Vec<u32> {
        let mut counts = vec![0; self.endpoints.len()];
        for _ in 0..picks {
            let hash = Some(self.rng.u64(..));
            counts[self.pick(&Choice { hash, avoid }).unwrap()] += 1;
        }
        counts
    }
}

/// Maglev with a table that is quickly made.
const MAGLEV: LoadBalancer = LoadBalancer::Maglev {
    table_size: NonZeroU32::new(4_099).unwrap(),
    bounded_load: None,
};

/// Every load balancer there is.
const ALL: [LoadBalancer; 6] = [
    LoadBalancer::RoundRobin,
    LoadBalancer::LeastRequest,
    LoadBalancer::PEAK_EWMA,
    LoadBalancer::Random,
    LoadBalancer::RING_HASH,
    MAGLEV,
];

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 80))
}

fn endpoint(number: usize, weight: u32, zone: &str) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: address(number),
        identity: None,
        workload: WorkloadName::unknown(),
        weight: NonZeroU32::new(weight).unwrap(),
        zone: zone.into(),
    })
}

/// Endpoints of such weights, in no zone.
fn weighted(load_balancer: &LoadBalancer, weights: &[u32]) -> Cluster {
    let endpoints = weights.iter().enumerate();
    Cluster {
        load_balancer: load_balancer.clone(),
        endpoints: endpoints
            .map(|(number, &weight)| endpoint(number, weight, ""))
            .collect(),
        ..Cluster::new("user.demo:80".into())
    }
}

fn equal(load_balancer: &LoadBalancer, count: usize) -> Cluster {
    weighted(load_balancer, &vec![1; count])
}

/// So many endpoints in zones `a`, `b` and so on.
fn zoned(load_balancer: &LoadBalancer, zone: Zone, counts: &[usize]) -> Cluster {
    let zones = counts.iter().zip('a'..);
    let zones = zones.flat_map(|(&count, zone)| vec![zone.to_string(); count]);
    Cluster {
        load_balancer: load_balancer.clone(),
        zone,
        endpoints: (0..)
            .zip(zones)
            .map(|(number, zone)| endpoint(number, 1, &zone))
            .collect(),
        ..Cluster::new("user.demo:80".into())
    }
}

/// Whether counts fit these shares, by Pearson's test: wrong once in 10,000 times.
#[track_caller]
fn assert_shares(counts: &[u32], shares: &[f64], of: &dyn std::fmt::Debug) {
    let picks = f64::from(counts.iter().sum::<u32>());
    let whole: f64 = shares.iter().sum();
    let mut statistic = 0.0;
    let mut degrees = -1.0;
    for (&count, share) in counts.iter().zip(shares) {
        if *share == 0.0 {
            assert_eq!(count, 0, "{of:?}: {counts:?}");
            continue;
        }
        let expected = picks * share / whole;
        statistic += (f64::from(count) - expected).powi(2) / expected;
        degrees += 1.0;
    }
    let bound = chi_square_bound(degrees);
    assert!(
        statistic <= bound,
        "{of:?}: {statistic} > {bound}: {counts:?}, {shares:?}"
    );
}

/// The value that chi-square exceeds once in 10,000 times (Wilson and Hilferty's approximation).
fn chi_square_bound(degrees: f64) -> f64 {
    if degrees == 0.0 {
        return 0.0;
    }
    let spread = 2.0 / (9.0 * degrees);
    degrees * (1.0 - spread + 3.72 * spread.sqrt()).powi(3)
}
