//! The shares of endpoints, and what becomes of them when some do not take requests.

use super::super::two_choices::two_of;
use super::*;
use fastrand::Rng;
use proptest::prelude::*;

/// Those whose shares are weights.
const WEIGHTED: [LoadBalancer; 2] = [LoadBalancer::RoundRobin, LoadBalancer::Random];

/// Those of one weight: a ring is no more even than its points are many.
fn even() -> impl Iterator<Item = LoadBalancer> {
    let ring = LoadBalancer::RING_HASH;
    ALL.into_iter()
        .filter(move |load_balancer| *load_balancer != ring)
}

proptest! {
    #[test]
    fn no_endpoint_is_picked_from_an_empty_cluster(random: u64) {
        for config in ALL {
            let mut bench = Bench::new(&equal(&config, 0));
            bench.rng = Rng::with_seed(random);
            prop_assert_eq!(bench.pick(&Choice::default()), None);
        }
    }

    #[test]
    fn a_single_endpoint_is_always_picked(random: u64, hash: Option<u64>, in_flight: u32) {
        for config in ALL {
            let mut bench = Bench::new(&equal(&config, 1));
            bench.rng = Rng::with_seed(random);
            bench.endpoints[0].in_flight = in_flight;
            let choice = Choice { hash, avoid: &[address(0)] };
            prop_assert_eq!(bench.pick(&choice), Some(0));
        }
    }

    #[test]
    fn two_choices_are_different_endpoints_of_the_cluster(len in 2_usize..200, random: u64) {
        let (first, second) = two_of(len, random);
        prop_assert!(first < len && second < len && first != second);
    }

    #[test]
    fn who_is_kept_back_or_avoided_is_not_picked_while_there_is_another(
        load_balancer in prop::sample::select(&ALL[..]),
        weights in prop::collection::vec(1_u32..100, 1..12),
        kept_back: u16,
        avoided: u16,
        random: u64,
    ) {
        let config = Cluster {
            panic_threshold: Share::NONE,
            ..weighted(&load_balancer, &weights)
        };
        let mut bench = Bench::new(&config);
        bench.rng = Rng::with_seed(random);
        let among = |set: u16, index: usize| set & (1 << index) != 0;
        for (index, endpoint) in bench.endpoints.iter_mut().enumerate() {
            endpoint.admits = !among(kept_back, index);
        }
        let avoid: Vec<_> = (0..weights.len())
            .filter(|&index| among(avoided, index))
            .map(address)
            .collect();
        let admitted: Vec<_> = (0..weights.len()).filter(|&index| !among(kept_back, index)).collect();
        let others: Vec<_> = admitted.iter().copied().filter(|&index| !among(avoided, index)).collect();
        let allowed = if others.is_empty() { admitted } else { others };
        for _ in 0..20 {
            let hash = Some(bench.rng.u64(..));
            match bench.pick(&Choice { hash, avoid: &avoid }) {
                Some(picked) => prop_assert!(allowed.contains(&picked)),
                None => prop_assert!(allowed.is_empty()),
            }
        }
    }
}

#[test]
fn equal_endpoints_share_equally() {
    for config in even() {
        for len in [2, 3, 10, 100] {
            let counts = Bench::new(&equal(&config, len)).count(30_000);
            assert_shares(&counts, &vec![1.0; len], &config);
        }
    }
}

#[test]
fn weights_are_shares_where_they_count() {
    let weights = [1, 2, 3, 10, 1, 83];
    let shares = weights.map(f64::from);
    for config in WEIGHTED.into_iter().chain([MAGLEV]) {
        let counts = Bench::new(&weighted(&config, &weights)).count(30_000);
        assert_shares(&counts, &shares, &config);
    }
    for config in [LoadBalancer::LeastRequest, LoadBalancer::PEAK_EWMA] {
        let counts = Bench::new(&weighted(&config, &weights)).count(30_000);
        assert_shares(&counts, &[1.0; 6], &config);
    }
}

#[test]
fn what_one_does_not_take_the_others_share_as_they_share_the_rest() {
    for config in even() {
        let mut bench = Bench::new(&equal(&config, 7));
        bench.endpoints[1].admits = false;
        bench.endpoints[2].admits = false;
        let counts = bench.count_avoiding(&[address(4)], 30_000);
        // The places of Maglev's table are not that even after one another.
        if config != MAGLEV {
            assert_shares(&counts, &[1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0], &config);
        }
    }
    for config in WEIGHTED {
        let mut bench = Bench::new(&weighted(&config, &[5, 3, 2, 7, 50]));
        bench.endpoints[4].admits = false;
        let counts = bench.count(30_000);
        assert_shares(&counts, &[5.0, 3.0, 2.0, 7.0, 0.0], &config);
    }
}

#[test]
fn the_busiest_endpoint_loses_every_choice_under_least_request() {
    let mut bench = Bench::new(&equal(&LoadBalancer::LeastRequest, 5));
    bench.endpoints[3].in_flight = 1;
    assert_eq!(bench.count(10_000)[3], 0);
}

#[test]
fn with_too_few_admitted_breakers_are_ignored() {
    for config in even() {
        let mut bench = Bench::new(&equal(&config, 4));
        for kept_back in 0..3 {
            bench.endpoints[kept_back].admits = false;
            let counts = bench.count(10_000);
            let shares: Vec<_> = match kept_back {
                // Half of them are just enough.
                0 | 1 => bench
                    .endpoints
                    .iter()
                    .map(|endpoint| f64::from(endpoint.admits))
                    .collect(),
                _ => vec![1.0; 4],
            };
            if config != MAGLEV || kept_back == 2 {
                assert_shares(&counts, &shares, &config);
            }
            bench.now += RECOUNT;
        }
        for endpoint in &mut bench.endpoints {
            endpoint.admits = true;
        }
        bench.endpoints[0].admits = false;
        bench.now += RECOUNT;
        assert_eq!(bench.count(1_000)[0], 0, "{config:?} panics no longer");
    }
}

#[test]
fn a_single_endpoint_is_not_panicked_over() {
    for config in ALL {
        let mut bench = Bench::new(&equal(&config, 1));
        bench.endpoints[0].admits = false;
        assert_eq!(bench.pick(&Choice::default()), None);
        bench.endpoints[0].admits = true;
        assert_eq!(bench.pick(&Choice::default()), Some(0));
    }
}
