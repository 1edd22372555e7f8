//! Turns: round robin, smooth by weight.

use super::super::schedule::Schedule;
use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn round_robin_gives_every_endpoint_its_turn(len in 1_usize..50, rounds in 1_u32..5) {
        let counts = Bench::new(&equal(&LoadBalancer::RoundRobin, len)).count(rounds * len as u32);
        prop_assert_eq!(counts, vec![rounds; len]);
    }

    #[test]
    fn after_any_number_of_turns_everyone_is_less_than_one_from_its_share(
        weights in prop::collection::vec(prop_oneof![1_u32..5, 1_u32..1000], 1..40),
    ) {
        let total = weights.iter().copied().map(i64::from).sum::<i64>();
        let mut schedule = Schedule::new(&weights, 0);
        let mut taken = vec![0_i64; weights.len()];
        for turn in 1..=(2 * total).min(1_500) {
            let everyone: Vec<()> = vec![(); weights.len()];
            taken[schedule.pick(&everyone, |()| 1.0, 0).unwrap()] += 1;
            for (taken, weight) in taken.iter().zip(&weights) {
                let error = taken * total - turn * i64::from(*weight);
                prop_assert!(error.abs() < total, "{error} of {total} at turn {turn}");
            }
        }
    }

    #[test]
    fn a_schedule_begins_anywhere_and_repeats(weights in prop::collection::vec(1_u32..50, 1..10), random: u64) {
        let total: u32 = weights.iter().sum();
        let mut schedule = Schedule::new(&weights, random);
        let mut taken = vec![0; weights.len()];
        for _ in 0..3 * total {
            taken[schedule.pick(&weights, |_| 1.0, 0).unwrap()] += 1;
        }
        prop_assert_eq!(taken, weights.iter().map(|weight| 3 * weight).collect::<Vec<_>>());
    }
}

#[test]
fn the_heaviest_is_not_picked_in_one_go() {
    let mut schedule = Schedule::new(&[5, 1, 1], 0);
    let turns: Vec<_> = (0..7)
        .map(|_| schedule.pick(&[(); 3], |()| 1.0, 0).unwrap())
        .collect();
    let longest = turns
        .chunk_by(|one, other| one == other)
        .map(<[_]>::len)
        .max();
    assert!(longest <= Some(3), "{turns:?}");
}

#[test]
fn equal_weights_of_any_size_are_a_plain_round_robin() {
    let mut bench = Bench::new(&weighted(&LoadBalancer::RoundRobin, &[900; 5]));
    assert_eq!(bench.count(5), [1; 5]);
}

#[test]
fn the_lightest_is_found_when_nobody_else_takes_requests() {
    for load_balancer in [LoadBalancer::RoundRobin, LoadBalancer::Random] {
        let config = Cluster {
            panic_threshold: Share::NONE,
            ..weighted(&load_balancer, &[u32::MAX / 2, 1, u32::MAX / 2])
        };
        let mut bench = Bench::new(&config);
        bench.endpoints[0].admits = false;
        bench.endpoints[2].admits = false;
        assert_eq!(bench.count(100), [0, 100, 0]);
    }
}
