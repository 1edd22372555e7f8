//! Zones: what stays near and what goes elsewhere.

use super::super::zones::spread;
use super::*;
use proptest::prelude::*;

/// What each zone takes when its own is the first.
fn shares(own: usize, capacities: &[f64]) -> Vec<f64> {
    let mut zones = capacities.to_vec();
    zones.swap(0, own);
    spread(&mut zones);
    zones.swap(0, own);
    zones
}

proptest! {
    #[test]
    fn shares_are_all_of_it(capacities in prop::collection::vec(0_u32..100, 1..10)) {
        let capacities: Vec<_> = capacities.into_iter().map(f64::from).collect();
        let shares = shares(0, &capacities);
        prop_assert!(shares.iter().all(|&share| share >= 0.0));
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{shares:?}");
    }

    #[test]
    fn when_every_zone_does_so_all_endpoints_are_loaded_equally(
        capacities in prop::collection::vec(1_u32..100, 1..10),
    ) {
        let capacities: Vec<_> = capacities.into_iter().map(f64::from).collect();
        let mut loads = vec![0.0; capacities.len()];
        for own in 0..capacities.len() {
            for (load, share) in loads.iter_mut().zip(shares(own, &capacities)) {
                *load += share;
            }
        }
        let fair = loads.len() as f64 / capacities.iter().sum::<f64>();
        for (load, capacity) in loads.iter().zip(capacities) {
            prop_assert!((load / capacity - fair).abs() < 1e-9, "{loads:?}");
        }
    }
}

#[test]
fn with_half_of_its_fair_share_a_zone_keeps_half() {
    assert_eq!(shares(0, &[1.0, 2.0, 3.0]), [0.5, 0.0, 0.5]);
    assert_eq!(shares(0, &[2.0, 3.0, 7.0]), [0.5, 0.0, 0.5]);
    assert_eq!(shares(0, &[3.0, 1.0, 2.0]), [1.0, 0.0, 0.0]);
    assert_eq!(shares(0, &[0.0, 1.0, 1.0]), [0.0, 0.5, 0.5]);
}

#[test]
fn the_own_zone_keeps_what_it_can_bear_under_every_algorithm() {
    for config in ALL {
        let mut bench = Bench::new(&zoned(&config, Zone::Prefer, &[4, 4, 4]));
        assert_eq!(
            bench.count(2_000)[..4].iter().sum::<u32>(),
            2_000,
            "{config:?}"
        );

        // Two of four: a fair share is ten thirds, so the zone keeps six tenths.
        bench.endpoints[0].admits = false;
        bench.endpoints[1].admits = false;
        bench.count(100);
        bench.now += RECOUNT;
        let counts = bench.count(20_000);
        let zones: Vec<_> = counts.chunks(4).map(|zone| zone.iter().sum()).collect();
        assert_shares(&zones, &[0.6, 0.2, 0.2], &config);

        // None at all, and back again.
        bench.endpoints[2].admits = false;
        bench.endpoints[3].admits = false;
        bench.now += RECOUNT;
        assert_eq!(bench.count(2_000)[..4], [0; 4], "{config:?}");
        for endpoint in &mut bench.endpoints {
            endpoint.admits = true;
        }
        bench.now += RECOUNT;
        assert_eq!(
            bench.count(2_000)[..4].iter().sum::<u32>(),
            2_000,
            "{config:?}"
        );
    }
}

#[test]
fn weights_are_what_a_zone_can_bear_where_they_count() {
    let endpoints = [endpoint(0, 1, "a"), endpoint(1, 3, "b")];
    for (load_balancer, own) in [
        (LoadBalancer::Random, 0.5),
        (LoadBalancer::RoundRobin, 0.5),
        (LoadBalancer::LeastRequest, 1.0),
    ] {
        let config = Cluster {
            load_balancer,
            zone: Zone::Prefer,
            endpoints: Arc::new(endpoints.clone()),
            ..Cluster::new("user.demo:80".into())
        };
        let counts = Bench::new(&config).count(2_000);
        assert_shares(&counts, &[own, 1.0 - own], &config.load_balancer);
    }
}

#[test]
fn an_endpoint_to_avoid_sends_a_request_to_another_zone_unless_that_is_forbidden() {
    let avoid = [address(0)];
    let mut preferred = Bench::new(&zoned(&LoadBalancer::LeastRequest, Zone::Prefer, &[1, 1]));
    assert_eq!(preferred.count(100), [100, 0]);
    assert_eq!(preferred.count_avoiding(&avoid, 100), [0, 100]);
    let mut strict = Bench::new(&zoned(&LoadBalancer::LeastRequest, Zone::Strict, &[1, 1]));
    assert_eq!(strict.count_avoiding(&avoid, 100), [100, 0]);
}

#[test]
fn a_strict_zone_fails_rather_than_call_elsewhere() {
    for config in ALL {
        let cluster = zoned(&config, Zone::Strict, &[2, 6]);
        let mut bench = Bench::new(&cluster);
        let counts = bench.count(1_000);
        assert_eq!(counts[..2].iter().sum::<u32>(), 1_000, "{config:?}");

        let mut bench = Bench::new(&Cluster {
            panic_threshold: Share::NONE,
            ..cluster
        });
        bench.endpoints[0].admits = false;
        bench.endpoints[1].admits = false;
        assert_eq!(bench.pick(&Choice::default()), None, "{config:?}");
    }
}

#[test]
fn without_endpoints_of_the_own_zone_all_zones_are_alike() {
    for zone in [Zone::Off, Zone::Prefer, Zone::Strict] {
        let counts = Bench::new(&zoned(&LoadBalancer::Random, zone, &[0, 2, 6])).count(2_000);
        assert_shares(&counts, &[1.0; 8], &zone);
    }
}

#[test]
fn endpoints_of_the_own_zone_come_first() {
    let endpoints = ["b", "a", "", "b", "a"].into_iter().enumerate();
    let endpoints: Vec<_> = endpoints
        .map(|(number, zone)| endpoint(number, 1, zone))
        .collect();
    let numbers = |arranged: &[Arc<Endpoint>]| -> Vec<_> {
        arranged.iter().map(|endpoint| endpoint.address).collect()
    };
    for (zone, own, order, sizes) in [
        (Zone::Off, "a", [0, 1, 2, 3, 4], vec![5]),
        (Zone::Prefer, "", [0, 1, 2, 3, 4], vec![5]),
        (Zone::Prefer, "c", [0, 1, 2, 3, 4], vec![5]),
        (Zone::Strict, "c", [0, 1, 2, 3, 4], vec![5]),
        (Zone::Prefer, "b", [0, 3, 2, 1, 4], vec![2, 1, 2]),
        (Zone::Strict, "a", [1, 4, 2, 0, 3], vec![2]),
    ] {
        let (arranged, zones) = arrange(&endpoints, zone, own);
        assert_eq!(numbers(&arranged), order.map(address));
        assert_eq!(zones.iter().map(Range::len).collect::<Vec<_>>(), sizes);
        assert!(zones.windows(2).all(|next| next[0].end == next[1].start));
    }
}
