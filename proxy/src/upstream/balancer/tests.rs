//! Balancers as statistics: the distributions that they promise, with randomness drawn here.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Fake {
    address: SocketAddr,
    admits: bool,
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

    fn in_flight(&self) -> u32 {
        self.in_flight
    }

    fn latency(&self) -> Latency {
        self.latency
    }
}

const DECAY_10S: Duration = Duration::from_secs(10);
const RTT: Duration = Duration::from_millis(30);

fn idle(count: usize, now: Instant) -> Vec<Fake> {
    let endpoint = |number| Fake {
        address: address(number),
        admits: true,
        in_flight: 0,
        latency: Latency::assumed(RTT, now),
    };
    (0..count).map(endpoint).collect()
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (number >> 8) as u8, number as u8], 80))
}

fn every_balancer(random: u64) -> [Balancer; 3] {
    [
        LoadBalancer::RoundRobin,
        LoadBalancer::LeastRequest,
        LoadBalancer::PeakEwma {
            decay: DECAY_10S,
            default_rtt: RTT,
        },
    ]
    .map(|config| Balancer::new(&config, random))
}

fn count_picks(balancer: &mut Balancer, endpoints: &[Fake], now: Instant, picks: u32) -> Vec<u32> {
    count_choices(balancer, endpoints, &Choice::default(), now, picks)
}

fn count_choices(
    balancer: &mut Balancer,
    endpoints: &[Fake],
    choice: &Choice<'_>,
    now: Instant,
    picks: u32,
) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut counts = vec![0; endpoints.len()];
    for _ in 0..picks {
        let picked = balancer.pick(endpoints, choice, now, random.u64(..));
        counts[picked.unwrap()] += 1;
    }
    counts
}

/// Pearson's statistic against a uniform distribution.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts
        .iter()
        .map(|&count| (f64::from(count) - expected).powi(2) / expected)
        .sum()
}

/// The value that chi-square exceeds once in 10,000 times (Wilson and Hilferty's approximation).
fn chi_square_bound(degrees: f64) -> f64 {
    let spread = 2.0 / (9.0 * degrees);
    degrees * (1.0 - spread + 3.72 * spread.sqrt()).powi(3)
}

proptest! {
    #[test]
    fn no_endpoint_is_picked_from_an_empty_cluster(random: u64) {
        for mut balancer in every_balancer(random) {
            prop_assert_eq!(balancer.pick(&[] as &[Fake], &Choice::default(), Instant::now(), random), None);
        }
    }

    #[test]
    fn a_single_endpoint_is_always_picked(random: u64, in_flight: u32) {
        let now = Instant::now();
        let mut endpoints = idle(1, now);
        endpoints[0].in_flight = in_flight;
        for mut balancer in every_balancer(random) {
            prop_assert_eq!(balancer.pick(&endpoints, &Choice::default(), now, random), Some(0));
        }
    }

    #[test]
    fn two_choices_are_different_endpoints_of_the_cluster(len in 2_usize..200, random: u64) {
        let (first, second) = two_of(len, random);
        prop_assert!(first < len && second < len && first != second);
    }

    #[test]
    fn round_robin_gives_every_endpoint_its_turn(len in 1_usize..50, rounds in 1_u32..5, random: u64) {
        let now = Instant::now();
        let mut balancer = Balancer::new(&LoadBalancer::RoundRobin, random);
        let counts = count_picks(&mut balancer, &idle(len, now), now, rounds * len as u32);
        prop_assert_eq!(counts, vec![rounds; len]);
    }

    #[test]
    fn round_robin_survives_a_change_of_its_endpoints(lens in prop::collection::vec(1_usize..9, 1..40), random: u64) {
        let now = Instant::now();
        let mut balancer = Balancer::new(&LoadBalancer::RoundRobin, random);
        for len in lens {
            prop_assert!(balancer.pick(&idle(len, now), &Choice::default(), now, 0).unwrap() < len);
        }
    }

    #[test]
    fn an_average_stays_between_what_it_saw(rtts in prop::collection::vec(0_u64..5_000, 1..50)) {
        let start = Instant::now();
        let mut latency = Latency::assumed(RTT, start);
        let most = rtts.iter().copied().max().unwrap().max(30);
        let most = Duration::from_millis(most).as_secs_f64();
        for (second, rtt) in (0..).zip(rtts) {
            let now = start + Duration::from_secs(second);
            let rtt = Duration::from_millis(rtt);
            latency.observe(rtt, now, DECAY_10S);
            let average = latency.at(now, DECAY_10S);
            prop_assert!(average >= rtt.as_secs_f64() && average <= most);
        }
    }
}

#[test]
fn equal_endpoints_share_equally_under_two_choices() {
    let now = Instant::now();
    for config in [
        LoadBalancer::LeastRequest,
        LoadBalancer::PeakEwma {
            decay: DECAY_10S,
            default_rtt: RTT,
        },
    ] {
        for len in [2, 3, 10, 100] {
            let mut balancer = Balancer::new(&config, 0);
            let counts = count_picks(&mut balancer, &idle(len, now), now, 100_000);
            let statistic = chi_square(&counts);
            assert!(
                statistic < chi_square_bound(len as f64 - 1.0),
                "{config:?} over {len}: {statistic}, {counts:?}"
            );
        }
    }
}

#[test]
fn what_is_avoided_or_ejected_leaves_an_equal_share_to_each_of_the_others() {
    let now = Instant::now();
    for mut balancer in every_balancer(3) {
        let mut endpoints = idle(7, now);
        endpoints[1].admits = false;
        endpoints[2].admits = false;
        let choice = Choice {
            avoid: &[address(4)],
            ..Choice::default()
        };
        let counts = count_choices(&mut balancer, &endpoints, &choice, now, 100_000);
        let taken: Vec<_> = [0, 3, 5, 6].map(|index| counts[index]).into();
        assert_eq!(taken.iter().sum::<u32>(), 100_000, "{balancer:?}");
        let statistic = chi_square(&taken);
        assert!(
            statistic < chi_square_bound(3.0),
            "{balancer:?}: {counts:?}"
        );
    }
}

#[test]
fn what_is_avoided_is_taken_when_there_is_no_other() {
    let now = Instant::now();
    for mut balancer in every_balancer(3) {
        let mut endpoints = idle(3, now);
        endpoints[0].admits = false;
        let choice = Choice {
            avoid: &[address(1), address(2)],
            ..Choice::default()
        };
        let counts = count_choices(&mut balancer, &endpoints, &choice, now, 1_000);
        assert_eq!(counts[0], 0);
        assert!(
            counts[1] > 400 && counts[2] > 400,
            "{balancer:?}: {counts:?}"
        );
    }
}

#[test]
fn nothing_is_picked_when_no_breaker_lets_it_through() {
    let now = Instant::now();
    for mut balancer in every_balancer(3) {
        for len in [1, 2, 3] {
            let mut endpoints = idle(len, now);
            endpoints
                .iter_mut()
                .for_each(|endpoint| endpoint.admits = false);
            for random in 0..10 {
                let picked = balancer.pick(&endpoints, &Choice::default(), now, random);
                assert_eq!(picked, None);
            }
        }
    }
}

#[test]
fn the_busiest_endpoint_loses_every_choice_under_least_request() {
    let now = Instant::now();
    let mut endpoints = idle(5, now);
    endpoints[3].in_flight = 1;
    let counts = count_picks(
        &mut Balancer::new(&LoadBalancer::LeastRequest, 0),
        &endpoints,
        now,
        10_000,
    );
    assert_eq!(counts[3], 0);
}

/// Requests arrive at a steady rate and take as long as their endpoint is slow.
#[test]
fn a_slow_endpoint_gets_less_under_peak_ewma() {
    let start = Instant::now();
    let mut random = fastrand::Rng::with_seed(11);
    let mut balancer = Balancer::new(
        &LoadBalancer::PeakEwma {
            decay: DECAY_10S,
            default_rtt: RTT,
        },
        0,
    );
    let rtts = [10, 10, 10, 200].map(Duration::from_millis);
    let mut endpoints = idle(rtts.len(), start);
    let mut running: Vec<(Instant, usize)> = Vec::new();
    let mut counts = vec![0_u32; rtts.len()];
    for request in 0..20_000 {
        let now = start + Duration::from_millis(request);
        running.retain(|&(end, index)| {
            if end <= now {
                endpoints[index].in_flight -= 1;
                endpoints[index]
                    .latency
                    .observe(rtts[index], end, DECAY_10S);
            }
            end > now
        });
        let random = random.u64(..);
        let index = balancer.pick(&endpoints, &Choice::default(), now, random);
        let index = index.unwrap();
        endpoints[index].in_flight += 1;
        counts[index] += 1;
        running.push((now + rtts[index], index));
    }
    assert!(
        counts[3] > 0,
        "the slow endpoint is tried from time to time"
    );
    assert!(
        counts[..3].iter().all(|&fast| counts[3] * 10 < fast),
        "{counts:?}"
    );
    assert!(
        chi_square(&counts[..3]) < chi_square_bound(2.0) * 4.0,
        "the fast ones share fairly: {counts:?}"
    );
}

#[test]
fn a_peak_counts_at_once_and_wears_off() {
    let start = Instant::now();
    let mut latency = Latency::assumed(RTT, start);
    latency.observe(Duration::from_secs(2), start, DECAY_10S);
    assert_eq!(latency.at(start, DECAY_10S), 2.0);
    let later = start + DECAY_10S;
    assert!((latency.at(later, DECAY_10S) - 2.0 / std::f64::consts::E).abs() < 1e-9);
}

#[test]
fn failing_fast_makes_an_endpoint_look_worse_up_to_a_bound() {
    let now = Instant::now();
    let most = Duration::from_secs(5);
    let failure = Duration::from_micros(50);
    let mut latency = Latency::assumed(RTT, now);
    latency.penalize(failure, most, now, DECAY_10S);
    assert!((latency.at(now, DECAY_10S) - 0.3).abs() < 1e-9);
    for _ in 0..10 {
        latency.penalize(failure, most, now, DECAY_10S);
    }
    assert_eq!(latency.at(now, DECAY_10S), 5.0);
}
