//! Slow start: how fast an endpoint that joins comes to its share.

use super::super::slow_start::factor;
use super::*;
use proptest::prelude::*;

fn config(window: Duration, aggression: f64, minimum: Share) -> SlowStart {
    SlowStart {
        window,
        aggression,
        minimum,
    }
}

fn half_a_minute() -> SlowStart {
    config(Duration::from_secs(30), 1.0, Share::percent(10))
}

proptest! {
    #[test]
    fn a_share_only_grows_from_the_minimum_to_all_of_it(
        seconds in 1_u64..1_000,
        aggression in 0.1_f64..10.0,
        minimum in 0_u32..=100,
        mut ages in prop::collection::vec(0_u64..2_000_000, 1..20),
    ) {
        let minimum = Share::percent(minimum);
        let config = config(Duration::from_secs(seconds), aggression, minimum);
        ages.sort_unstable();
        let factors: Vec<_> =
            ages.iter().map(|&age| factor(&config, Duration::from_millis(age))).collect();
        prop_assert!(factors.is_sorted());
        prop_assert!(factors.iter().all(|&factor| factor >= minimum.as_f64() && factor <= 1.0));
        prop_assert_eq!(factor(&config, config.window), 1.0);
    }
}

#[test]
fn aggression_bends_the_growth() {
    let after = |seconds, aggression| {
        let config = config(Duration::from_secs(16), aggression, Share::percent(10));
        factor(&config, Duration::from_secs(seconds))
    };
    assert_eq!(
        [after(0, 1.0), after(4, 1.0), after(8, 1.0)],
        [0.1, 0.25, 0.5]
    );
    assert_eq!([after(4, 2.0), after(8, 0.5)], [0.5, 0.25]);
}

#[test]
fn one_that_joined_takes_its_part_of_a_share() {
    for load_balancer in [LoadBalancer::RoundRobin, LoadBalancer::Random] {
        for weight in [1, 3] {
            let config = Cluster {
                slow_start: Some(half_a_minute()),
                ..weighted(&load_balancer, &[weight, 1, 1, 1])
            };
            for age in [0, 6, 15, 29, 30] {
                let mut bench = Bench::new(&config);
                bench.endpoints[0].joined = Some(bench.now);
                bench.now += Duration::from_secs(age);
                let part = factor(&half_a_minute(), Duration::from_secs(age));
                let shares = [part * f64::from(weight), 1.0, 1.0, 1.0];
                assert_shares(&bench.count(20_000), &shares, &(&load_balancer, age));
            }
        }
    }
}

#[test]
fn one_that_joined_is_seldom_one_of_two_choices() {
    for load_balancer in [LoadBalancer::LeastRequest, LoadBalancer::PEAK_EWMA] {
        let config = Cluster {
            slow_start: Some(half_a_minute()),
            ..equal(&load_balancer, 10)
        };
        let mut last = 0;
        for age in [0, 10, 20, 30] {
            let mut bench = Bench::new(&config);
            bench.endpoints[4].joined = Some(bench.now);
            // The others are busy: it would win every choice.
            for endpoint in &mut bench.endpoints {
                endpoint.in_flight = 5;
            }
            bench.endpoints[4].in_flight = 0;
            bench.now += Duration::from_secs(age);
            let part = factor(&half_a_minute(), Duration::from_secs(age));
            let count = bench.count(10_000)[4];
            // It is among two of ten in two of ten choices.
            assert!(
                f64::from(count) < 2_000.0 * part * 1.2 + 50.0,
                "{age} s: {count}"
            );
            assert!(count > last, "{age} s: {count}");
            last = count;
        }
    }
}

#[test]
fn a_hash_decides_from_the_beginning() {
    for load_balancer in [LoadBalancer::RING_HASH, MAGLEV] {
        let config = Cluster {
            slow_start: Some(half_a_minute()),
            ..equal(&load_balancer, 3)
        };
        let mut old = Bench::new(&config);
        let mut new = Bench::new(&config);
        new.endpoints[1].joined = Some(new.now);
        assert_eq!(new.count(1_000), old.count(1_000));
    }
}

#[test]
fn an_endpoint_that_is_alone_takes_everything() {
    let config = Cluster {
        slow_start: Some(config(Duration::from_secs(30), 1.0, Share::NONE)),
        ..equal(&LoadBalancer::RoundRobin, 1)
    };
    let mut bench = Bench::new(&config);
    bench.endpoints[0].joined = Some(bench.now);
    assert_eq!(bench.count(100), [100]);
}
