//! Peak-EWMA: what latencies and failures make of an endpoint.

use super::*;
use proptest::prelude::*;

const DECAY: Duration = Duration::from_secs(10);
const RTT: Duration = Duration::from_millis(30);

proptest! {
    #[test]
    fn an_average_stays_between_what_it_saw(rtts in prop::collection::vec(0_u64..5_000, 1..50)) {
        let start = Instant::now();
        let mut latency = Latency::assumed(RTT, start);
        let most = rtts.iter().copied().max().unwrap().max(30);
        let most = Duration::from_millis(most).as_secs_f64();
        for (second, rtt) in (0..).zip(rtts) {
            let now = start + Duration::from_secs(second);
            let rtt = Duration::from_millis(rtt);
            latency.observe(rtt, now, DECAY);
            let average = latency.at(now, DECAY);
            prop_assert!(average >= rtt.as_secs_f64() && average <= most);
        }
    }
}

/// How many requests each endpoint gets when they arrive at a steady rate, take as long as their endpoint is slow,
/// and are refused by those that refuse.
fn simulate(endpoints: [(Duration, bool); 4]) -> Vec<u32> {
    let mut bench = Bench::new(&equal(&LoadBalancer::PEAK_EWMA, endpoints.len()));
    let start = bench.now;
    let mut running: Vec<(Instant, usize)> = Vec::new();
    let mut counts = vec![0_u32; endpoints.len()];
    for request in 0..20_000 {
        bench.now = start + Duration::from_millis(request);
        running.retain(|&(end, index)| {
            if end <= bench.now {
                let (rtt, refuses) = endpoints[index];
                let endpoint = &mut bench.endpoints[index];
                endpoint.in_flight -= 1;
                match refuses {
                    true => endpoint
                        .latency
                        .penalize(rtt, Duration::from_secs(5), end, DECAY),
                    false => endpoint.latency.observe(rtt, end, DECAY),
                }
            }
            end > bench.now
        });
        let index = bench.pick(&Choice::default()).unwrap();
        bench.endpoints[index].in_flight += 1;
        counts[index] += 1;
        running.push((bench.now + endpoints[index].0, index));
    }
    counts
}

#[test]
fn a_slow_endpoint_and_one_that_refuses_fast_get_less_under_peak_ewma() {
    let served = (Duration::from_millis(10), false);
    for bad in [
        (Duration::from_millis(200), false),
        (Duration::from_micros(100), true),
    ] {
        let counts = simulate([served, served, served, bad]);
        assert!(counts[3] > 0, "it is tried from time to time: {counts:?}");
        assert!(
            counts[..3].iter().all(|&good| counts[3] * 10 < good),
            "{counts:?}"
        );
        // Fairly, not evenly: they differ by what was in flight.
        assert!(
            counts[..3].is_sorted_by(|one, other| one.abs_diff(*other) < 500),
            "{counts:?}"
        );
    }
}

#[test]
fn a_peak_counts_at_once_and_wears_off() {
    let start = Instant::now();
    let mut latency = Latency::assumed(RTT, start);
    latency.observe(Duration::from_secs(2), start, DECAY);
    assert_eq!(latency.at(start, DECAY), 2.0);
    let later = start + DECAY;
    assert!((latency.at(later, DECAY) - 2.0 / std::f64::consts::E).abs() < 1e-9);
}

#[test]
fn failing_fast_makes_an_endpoint_look_worse_up_to_a_bound() {
    let now = Instant::now();
    let most = Duration::from_secs(5);
    let failure = Duration::from_micros(50);
    let mut latency = Latency::assumed(RTT, now);
    latency.penalize(failure, most, now, DECAY);
    assert!((latency.at(now, DECAY) - 0.3).abs() < 1e-9);
    for _ in 0..10 {
        latency.penalize(failure, most, now, DECAY);
    }
    assert_eq!(latency.at(now, DECAY), 5.0);
}

#[test]
fn what_was_seen_a_decay_ago_is_tried_by_one_request_whose_latency_counts_alone() {
    let mut bench = Bench::new(&equal(&LoadBalancer::PEAK_EWMA, 2));
    let slow = Duration::from_secs(2);
    bench.endpoints[0].latency.observe(slow, bench.now, DECAY);
    bench.now += DECAY;
    let recent = bench.now;
    bench.endpoints[1].latency.observe(RTT, recent, DECAY);
    let pick = |bench: &mut Bench| bench.pick(&Choice::default()).unwrap();

    assert_eq!(pick(&mut bench), 0, "the one that nothing is known of");
    bench.endpoints[0].in_flight = 1;
    for _ in 0..10 {
        assert_eq!(pick(&mut bench), 1, "one is under way already");
    }
    bench.endpoints[0].in_flight = 0;
    bench.endpoints[0].latency.observe(RTT / 2, recent, DECAY);
    let found = bench.endpoints[0].latency.at(recent, DECAY);
    assert_eq!(found, (RTT / 2).as_secs_f64());
}
