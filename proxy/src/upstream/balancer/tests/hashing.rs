//! Ring and Maglev: which requests move when endpoints come and go, and how full an endpoint may get.

use super::super::{maglev::Maglev, ring::Ring};
use super::*;
use fastrand::Rng;
use proptest::prelude::*;

const HASHES: u64 = 20_000;

fn members(numbers: impl IntoIterator<Item = usize>) -> Vec<(SocketAddr, u32)> {
    numbers
        .into_iter()
        .map(|number| (address(number), 1))
        .collect()
}

/// Who takes which hash, by address.
fn placed<I: Iterator<Item = usize>>(
    members: &[(SocketAddr, u32)],
    line: impl Fn(u64) -> I,
) -> Vec<SocketAddr> {
    let mut rng = Rng::with_seed(7);
    (0..HASHES)
        .map(|_| members[line(rng.u64(..)).next().unwrap()].0)
        .collect()
}

fn on_ring(members: &[(SocketAddr, u32)], minimum: u32) -> Vec<SocketAddr> {
    let ring = Ring::new(members, minimum, u32::MAX);
    placed(members, |hash| ring.from(hash))
}

fn by_maglev(members: &[(SocketAddr, u32)]) -> Vec<SocketAddr> {
    let table = Maglev::new(members, 65_537);
    placed(members, |hash| table.from(hash))
}

/// How many hashes moved, of those that could have stayed.
fn moved(before: &[SocketAddr], after: &[SocketAddr], left: SocketAddr) -> usize {
    let pairs = before.iter().zip(after);
    pairs
        .filter(|(before, after)| **before != left && before != after)
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_ring_of_as_many_points_each_moves_nothing_but_what_the_lost_endpoint_had(
        len in 2_usize..40,
        lost: prop::sample::Index,
    ) {
        let all = members(0..len);
        let lost = lost.index(len);
        let rest = members((0..len).filter(|&number| number != lost));
        let before = on_ring(&all, 100 * len as u32);
        let after = on_ring(&rest, 100 * rest.len() as u32);
        prop_assert_eq!(moved(&before, &after, address(lost)), 0);
        // Among the points of all, those of one cover a share whose deviation is 1/sqrt(points) of it.
        let had = before.iter().filter(|place| **place == address(lost)).count();
        let mean = HASHES as f64 / len as f64;
        prop_assert!((had as f64 - mean).abs() < mean * 6.0 * 0.1, "{had} of {mean}");
    }

    #[test]
    fn who_is_kept_back_moves_nothing_but_its_own_requests(
        load_balancer in prop::sample::select(vec![LoadBalancer::RING_HASH, MAGLEV]),
        weights in prop::collection::vec(1_u32..20, 3..12),
        lost: prop::sample::Index,
    ) {
        let mut bench = Bench::new(&weighted(&load_balancer, &weights));
        let lost = lost.index(weights.len());
        let hashes: Vec<_> = (0..500).map(|_| bench.rng.u64(..)).collect();
        let picks = |bench: &mut Bench| -> Vec<_> {
            let choice = |hash| Choice { hash: Some(hash), avoid: &[] };
            hashes.iter().map(|&hash| bench.pick(&choice(hash)).unwrap()).collect()
        };
        let before = picks(&mut bench);
        bench.endpoints[lost].admits = false;
        for (before, after) in before.iter().zip(picks(&mut bench)) {
            prop_assert!(after != lost);
            prop_assert!(*before == after || *before == lost);
        }
        bench.endpoints[lost].admits = true;
        prop_assert_eq!(before, picks(&mut bench));
    }

    #[test]
    fn no_endpoint_has_more_than_its_bound(
        load_balancer in prop_oneof![
            (100_u32..300).prop_map(|percent| LoadBalancer::RingHash {
                minimum_size: NonZeroU32::new(64).unwrap(),
                maximum_size: NonZeroU32::new(1024).unwrap(),
                bounded_load: NonZeroU32::new(percent),
            }),
            (100_u32..300).prop_map(|percent| LoadBalancer::Maglev {
                table_size: NonZeroU32::new(251).unwrap(),
                bounded_load: NonZeroU32::new(percent),
            }),
        ],
        weights in prop::collection::vec(1_u32..10, 1..10),
        steps in prop::collection::vec((0_u64..3, 0_u8..4, any::<prop::sample::Index>()), 1..200),
    ) {
        let (LoadBalancer::RingHash { bounded_load, .. } | LoadBalancer::Maglev { bounded_load, .. }) =
            load_balancer
        else {
            unreachable!("both are bounded");
        };
        let percent = u64::from(bounded_load.unwrap().get());
        let mut bench = Bench::new(&weighted(&load_balancer, &weights));
        let total: u64 = weights.iter().copied().map(u64::from).sum();
        for (hash, action, index) in steps {
            if action == 0 {
                let endpoint = &mut bench.endpoints[index.index(weights.len())];
                endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
                continue;
            }
            let picked = bench.pick(&Choice { hash: Some(hash), avoid: &[] }).unwrap();
            bench.endpoints[picked].in_flight += 1;
            let in_flight = bench.endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight));
            let share = in_flight.sum::<u64>() * percent * u64::from(weights[picked]);
            let most = share.div_ceil(100 * total);
            prop_assert!(u64::from(bench.endpoints[picked].in_flight) <= most);
        }
    }

    #[test]
    fn maglev_gives_places_by_weight_except_for_rounding(
        weights in prop::collection::vec(1_u32..20, 1..30),
    ) {
        let all: Vec<_> = (0..).map(address).zip(weights.iter().copied()).collect();
        let table = Maglev::new(&all, 4_099);
        let mut places = vec![0_u32; all.len()];
        for owner in table.from(0) {
            places[owner] += 1;
        }
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        for (places, weight) in places.into_iter().zip(weights) {
            let share = 4_099.0 * f64::from(weight) / total;
            // Everyone rounds up in its turns, and all of them together bear what that takes.
            let rounding = 1.0 + share * all.len() as f64 / 4_099.0;
            prop_assert!((f64::from(places) - share).abs() <= rounding, "{places} of {share}");
        }
    }
}

#[test]
fn the_order_in_which_endpoints_are_told_does_not_matter() {
    let mut all: Vec<_> = (0..20)
        .map(|number| (address(number), 1 + number as u32 % 3))
        .collect();
    let (ring, table) = (on_ring(&all, 1_024), by_maglev(&all));
    Rng::with_seed(7).shuffle(&mut all);
    assert!(ring == on_ring(&all, 1_024));
    assert!(table == by_maglev(&all));
}

#[test]
fn a_ring_has_as_many_points_as_envoys() {
    let points = |weights: &[u32], minimum, maximum| {
        let all: Vec<_> = (0..).map(address).zip(weights.iter().copied()).collect();
        let ring = Ring::new(&all, minimum, maximum);
        let mut points = vec![0; weights.len()];
        for owner in ring.from(0) {
            points[owner] += 1;
        }
        points
    };
    assert_eq!(points(&[1, 1, 1], 1_024, 8 << 20), [342, 342, 342]);
    assert_eq!(points(&[1, 2], 3, 8 << 20), [1, 2]);
    assert_eq!(points(&[1, 2], 1_024, 8 << 20), [342, 684]);
    assert_eq!(points(&[1, 1, 1, 1], 1_024, 100), [25, 25, 25, 25]);
    assert_eq!(points(&[1, 3, 1], 1_024, 10), [2, 6, 2]);
}

#[test]
fn an_endpoint_without_a_point_still_serves_when_it_is_the_only_one() {
    let load_balancer = LoadBalancer::RingHash {
        minimum_size: NonZeroU32::MIN,
        maximum_size: NonZeroU32::MIN,
        bounded_load: None,
    };
    let config = Cluster {
        panic_threshold: Share::NONE,
        ..equal(&load_balancer, 3)
    };
    for only in 0..3 {
        let mut bench = Bench::new(&config);
        for (index, endpoint) in bench.endpoints.iter_mut().enumerate() {
            endpoint.admits = index == only;
        }
        assert_eq!(bench.pick(&Choice::default()), Some(only));
    }
}

/// With n endpoints, one that leaves had 1/n of the places of Maglev's table. The others choose again in the same
/// order of preference, and lose a place only to one that came to it earlier than before.
#[test]
fn maglev_moves_little_besides_what_the_lost_endpoint_had() {
    for len in [3, 10, 100] {
        let all = members(0..len);
        let before = by_maglev(&all);
        for lost in [0, len / 2, len - 1] {
            let after = by_maglev(&members((0..len).filter(|&number| number != lost)));
            let moved = moved(&before, &after, address(lost)) as f64 / HASHES as f64;
            assert!(
                moved < 0.01,
                "{moved} of all moved besides when {lost} of {len} left"
            );
        }
    }
}

#[test]
fn the_default_ring_moves_what_the_lost_endpoint_had_and_what_falls_to_the_points_that_make_up_for_it()
 {
    for len in [4_usize, 10, 30] {
        let before = on_ring(&members(0..len), 1_024);
        let after = on_ring(&members(1..len), 1_024);
        let points = |len: usize| 1_024_f64 / len as f64;
        // New points split the arcs of the others, so they take as large a part of all arcs as they are of all points.
        let new = points(len - 1).ceil() - points(len).ceil();
        let expected = new / points(len - 1).ceil();
        let moved = moved(&before, &after, address(0)) as f64 / HASHES as f64;
        assert!(
            moved < expected * 1.5,
            "{moved} of all moved, {expected} expected, {len}"
        );
    }
}

#[test]
fn requests_without_a_hash_go_anywhere() {
    for config in [LoadBalancer::RING_HASH, MAGLEV] {
        let mut bench = Bench::new(&equal(&config, 3));
        let mut seen = [0; 3];
        for _ in 0..3_000 {
            seen[bench.pick(&Choice::default()).unwrap()] += 1;
        }
        assert!(
            seen.iter().all(|&count| count > 500),
            "{config:?}: {seen:?}"
        );
    }
}
