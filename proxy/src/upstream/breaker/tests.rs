//! Breakers under arbitrary sequences of outcomes, with time and randomness passed in.

use super::*;
use crate::{
    error::RequestError,
    snapshot::{
        Share,
        breaker::{FailureRatio, Failures, GrpcCodes},
    },
};
use http::StatusCode;
use proptest::prelude::*;
use std::num::NonZeroU32;

const SECOND: Duration = Duration::from_secs(1);
const FAILURE: Outcome = Outcome::Failure(Failure::Status(StatusCode::SERVICE_UNAVAILABLE));

fn number(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// The breaker of the guides: 5 failures in a row, or 60 % of at least 20 requests in 10 s; 30 s of rest; 5 probes.
fn config() -> Config {
    Config {
        consecutive_failures: Some(number(5)),
        failure_ratio: Some(FailureRatio {
            ratio: Share::percent(60),
            minimum_requests: number(20),
            window: 10 * SECOND,
        }),
        failures: Failures::default(),
        open_for: 30 * SECOND,
        max_open_for: 300 * SECOND,
        jitter: Duration::ZERO,
        half_open_requests: number(5),
        max_ejected: Share::percent(50),
    }
}

/// A breaker at work, with the time that its requests see.
struct Trial {
    config: Config,
    breaker: Breaker,
    now: Instant,
}

impl Trial {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        Self {
            breaker: Breaker::new(now),
            config,
            now,
        }
    }

    /// One request that is answered before the next.
    fn request(&mut self, outcome: Outcome) -> Effect {
        let (era, _) = self.breaker.enter(&self.config, self.now);
        let effect = self.settle(era, outcome);
        self.breaker.leave(era);
        effect
    }

    fn settle(&mut self, era: Era, outcome: Outcome) -> Effect {
        let (config, now) = (&self.config, self.now);
        let effect = self.breaker.observe(config, outcome, era, true, now, 0);
        if let Effect::Changed(transition) = effect {
            let (_, leads_to) = Reason::ALL[transition.reason.index()];
            assert_eq!(transition.to, leads_to);
            assert_eq!(transition.to, self.phase());
        }
        effect
    }

    fn requests(&mut self, count: u32, outcome: Outcome) {
        for _ in 0..count {
            self.request(outcome);
        }
    }

    fn phase(&self) -> Phase {
        self.breaker.state().phase()
    }

    /// Fails until it is ejected; for how long that is.
    fn eject(&mut self) -> Duration {
        loop {
            self.request(FAILURE);
            if let State::Eject { until, .. } = self.breaker.state() {
                return until - self.now;
            }
        }
    }
}

#[test]
fn failures_in_a_row_eject() {
    let mut trial = Trial::new(config());
    trial.requests(4, FAILURE);
    assert_eq!(trial.phase(), Phase::Admit);
    assert_eq!(
        trial.request(FAILURE),
        Effect::Changed(Transition {
            from: Phase::Admit,
            to: Phase::Eject,
            reason: Reason::ConsecutiveFailures {
                failures: 5,
                last: Failure::Status(StatusCode::SERVICE_UNAVAILABLE),
            },
        })
    );
    assert!(!trial.breaker.admits(trial.now + 29 * SECOND));
    assert!(trial.breaker.admits(trial.now + 30 * SECOND));
}

#[test]
fn a_success_ends_the_row() {
    let mut trial = Trial::new(config());
    trial.requests(4, FAILURE);
    trial.request(Outcome::Success);
    trial.requests(4, FAILURE);
    assert_eq!(trial.phase(), Phase::Admit);
}

#[test]
fn a_share_of_failures_ejects_once_there_are_enough_requests() {
    let mut trial = Trial::new(config());
    // Never five in a row: of ten, six fail.
    let failed = [
        true, true, false, true, false, true, false, true, false, true,
    ];
    for fails in failed.repeat(2) {
        assert_eq!(trial.phase(), Phase::Admit);
        trial.request(if fails { FAILURE } else { Outcome::Success });
    }
    assert!(matches!(
        trial.breaker.state(),
        State::Eject {
            reason: Reason::FailureRatio {
                failed: 12,
                of: 20,
                ..
            },
            ..
        }
    ));
}

#[test]
fn failures_before_the_window_do_not_count() {
    let mut trial = Trial::new(Config {
        consecutive_failures: None,
        ..config()
    });
    trial.requests(19, FAILURE);
    trial.now += 10 * SECOND;
    trial.requests(19, FAILURE);
    assert_eq!(trial.phase(), Phase::Admit);
    trial.now += 8 * SECOND;
    trial.request(FAILURE);
    assert_eq!(trial.phase(), Phase::Eject);
}

#[test]
fn an_endpoint_is_admitted_when_all_its_probes_succeed() {
    let mut trial = Trial::new(config());
    trial.eject();
    trial.now += 30 * SECOND;
    let probes: Vec<_> = (0..5)
        .map(|_| {
            assert!(trial.breaker.admits(trial.now));
            trial.breaker.enter(&trial.config, trial.now)
        })
        .collect();
    assert_eq!(
        probes[0].1,
        Some(Transition {
            from: Phase::Eject,
            to: Phase::Probe,
            reason: Reason::EjectionOver,
        })
    );
    assert!(!trial.breaker.admits(trial.now));
    for &(era, _) in &probes[..4] {
        assert_eq!(trial.settle(era, Outcome::Success), Effect::Counted);
        trial.breaker.leave(era);
        assert!(!trial.breaker.admits(trial.now));
    }
    assert_eq!(
        trial.settle(probes[4].0, Outcome::Success),
        Effect::Changed(Transition {
            from: Phase::Probe,
            to: Phase::Admit,
            reason: Reason::ProbesSucceeded,
        })
    );
}

#[test]
fn a_probe_that_comes_to_nothing_leaves_its_place_to_another() {
    let mut trial = Trial::new(Config {
        half_open_requests: number(1),
        ..config()
    });
    trial.eject();
    trial.now += 30 * SECOND;
    let (era, _) = trial.breaker.enter(&trial.config, trial.now);
    assert!(!trial.breaker.admits(trial.now));
    trial.breaker.leave(era);
    assert!(trial.breaker.admits(trial.now));
}

#[test]
fn a_probe_that_says_nothing_for_long_leaves_its_place_to_another() {
    let mut trial = Trial::new(Config {
        half_open_requests: number(1),
        ..config()
    });
    trial.eject();
    trial.now += 30 * SECOND;
    let (silent, _) = trial.breaker.enter(&trial.config, trial.now);
    trial.now += 30 * SECOND;
    assert_eq!(trial.breaker.tick(&trial.config, trial.now), None);
    assert!(trial.breaker.admits(trial.now));
    trial.settle(silent, FAILURE);
    trial.request(Outcome::Success);
    assert_eq!(trial.phase(), Phase::Admit);
}

#[test]
fn a_request_from_before_the_ejection_is_no_probe() {
    let mut trial = Trial::new(config());
    let (late, _) = trial.breaker.enter(&trial.config, trial.now);
    trial.eject();
    trial.now += 30 * SECOND;
    let (_probe, _) = trial.breaker.enter(&trial.config, trial.now);
    let before = trial.breaker.state();
    trial.settle(late, FAILURE);
    trial.breaker.leave(late);
    assert_eq!(trial.breaker.state(), before);
}

#[test]
fn every_ejection_lasts_longer_than_the_one_before() {
    let mut trial = Trial::new(Config {
        max_open_for: 100 * SECOND,
        ..config()
    });
    let lasted: Vec<_> = (0..5)
        .map(|_| {
            let lasts = trial.eject();
            trial.now += lasts;
            lasts.as_secs()
        })
        .collect();
    assert_eq!(lasted, [30, 60, 90, 100, 100]);
}

#[test]
fn health_makes_the_next_ejection_shorter() {
    let mut trial = Trial::new(config());
    for lasts in [30, 60, 90] {
        assert_eq!(trial.eject().as_secs(), lasts);
        trial.now += SECOND * lasts as u32;
    }
    trial.requests(5, Outcome::Success);
    trial.now += 60 * SECOND;
    assert_eq!(trial.eject().as_secs(), 60);
    trial.now += 60 * SECOND;
    trial.requests(5, Outcome::Success);
    trial.now += 3600 * SECOND;
    assert_eq!(trial.eject().as_secs(), 30);
}

#[test]
fn a_first_ejection_longer_than_the_longest_lasts_as_it_says() {
    let mut trial = Trial::new(Config {
        max_open_for: 10 * SECOND,
        ..config()
    });
    for _ in 0..3 {
        assert_eq!(trial.eject(), 30 * SECOND);
        trial.now += 30 * SECOND;
    }
}

#[test]
fn without_room_an_ejection_is_withheld_until_there_is() {
    let mut trial = Trial::new(config());
    trial.requests(4, FAILURE);
    let mut fail = |room| {
        let (era, _) = trial.breaker.enter(&trial.config, trial.now);
        let (config, now) = (&trial.config, trial.now);
        trial.breaker.observe(config, FAILURE, era, room, now, 0)
    };
    assert!(matches!(fail(false), Effect::Withheld(_)));
    assert!(matches!(fail(false), Effect::Withheld(_)));
    assert!(matches!(fail(true), Effect::Changed(_)));
}

#[test]
fn a_changed_breaker_counts_on() {
    let mut trial = Trial::new(config());
    trial.requests(3, FAILURE);
    trial.config.consecutive_failures = Some(number(4));
    trial.breaker.reconfigure(&trial.config);
    trial.request(FAILURE);
    assert_eq!(trial.phase(), Phase::Eject);

    // A shorter bound holds for the ejection under way.
    trial.config.open_for = 5 * SECOND;
    trial.config.max_open_for = 5 * SECOND;
    trial.breaker.reconfigure(&trial.config);
    assert!(!trial.breaker.admits(trial.now + 4 * SECOND));
    assert!(trial.breaker.admits(trial.now + 5 * SECOND));

    // Fewer probes do for the probing under way.
    trial.now += 5 * SECOND;
    trial.requests(2, Outcome::Success);
    assert_eq!(trial.breaker.state(), State::Probe { left: 3 });
    trial.config.half_open_requests = number(1);
    trial.breaker.reconfigure(&trial.config);
    trial.request(Outcome::Success);
    assert_eq!(trial.phase(), Phase::Admit);
}

#[test]
fn what_counts_as_a_failure_is_configured() {
    let failures = Failures {
        statuses: Box::new([StatusCode::TOO_MANY_REQUESTS]),
        slower_than: Some(2 * SECOND),
        ..Failures::default()
    };
    let nothing = Failures {
        connect_errors: false,
        server_errors: false,
        statuses: Box::default(),
        grpc_codes: GrpcCodes::default(),
        slower_than: None,
    };
    let head = |failures, status, code, elapsed| {
        Outcome::of_head(
            failures,
            StatusCode::from_u16(status).unwrap(),
            code,
            elapsed,
        )
    };
    let status = |status| Outcome::Failure(Failure::Status(StatusCode::from_u16(status).unwrap()));
    for (status, code, elapsed, outcome) in [
        (200, None, SECOND, Outcome::Success),
        (404, None, SECOND, Outcome::Success),
        (429, None, SECOND, status(429)),
        (500, None, SECOND, status(500)),
        (200, Some(0), SECOND, Outcome::Success),
        (200, Some(5), SECOND, Outcome::Success),
        (
            200,
            Some(14),
            SECOND,
            Outcome::Failure(Failure::GrpcCode(14)),
        ),
        (
            200,
            None,
            3 * SECOND,
            Outcome::Failure(Failure::Slow(3 * SECOND)),
        ),
    ] {
        assert_eq!(head(&failures, status, code, elapsed), outcome);
        assert_eq!(head(&nothing, status, code, elapsed), Outcome::Success);
    }

    let reset = RequestError::UpstreamReset;
    assert_eq!(
        Outcome::of_error(&failures, reset),
        Some(Outcome::Failure(Failure::Connection(reset)))
    );
    for timeout in [RequestError::RequestTimeout, RequestError::UpstreamTimeout] {
        let no_answer = Some(Outcome::Failure(Failure::NoAnswer));
        assert_eq!(Outcome::of_error(&failures, timeout), no_answer);
    }
    for error in RequestError::ALL {
        assert_eq!(Outcome::of_error(&nothing, error), None);
    }
}

#[test]
fn what_the_proxy_or_the_caller_is_to_blame_for_is_no_outcome() {
    for error in [
        RequestError::MaxConnections,
        RequestError::MaxPendingRequests,
        RequestError::MaxRequests,
        RequestError::CircuitOpen,
        RequestError::DownstreamReset,
        RequestError::BadRequest,
        RequestError::StreamIdleTimeout,
        RequestError::ConfigUnavailable,
        RequestError::CertificateUnavailable,
        RequestError::Internal,
    ] {
        let outcome = Outcome::of_error(&Failures::default(), error);
        assert_eq!(outcome, None, "{error}");
    }
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> = Reason::ALL.map(|(label, _)| label).into();
    assert_eq!(labels.len(), Reason::COUNT);
    assert_eq!(Reason::BreakerRemoved.index(), Reason::COUNT - 1);
}

/// What happens to a breaker.
#[derive(Debug, Clone)]
enum Event {
    /// A request, if one is admitted.
    Begin,
    /// One of those under way ends, with nothing to say about the endpoint when there is no outcome.
    End {
        which: prop::sample::Index,
        outcome: Option<bool>,
    },
    /// Time passes.
    Pass(Duration),
    /// A push.
    Push(Box<Config>),
}

fn configs() -> impl Strategy<Value = Config> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let ratio = (1..=100_u32, 1..30_u32, millis(1..20_000)).prop_map(|(percent, least, window)| {
        FailureRatio {
            ratio: Share::percent(percent),
            minimum_requests: number(least),
            window,
        }
    });
    (
        prop::option::of((1..10_u32).prop_map(number)),
        prop::option::of(ratio),
        millis(1..60_000),
        millis(1..300_000),
        millis(0..5_000),
        (1..8_u32).prop_map(number),
    )
        .prop_map(
            |(consecutive_failures, failure_ratio, open_for, max_open_for, jitter, probes)| {
                Config {
                    consecutive_failures,
                    failure_ratio,
                    open_for,
                    max_open_for,
                    jitter,
                    half_open_requests: probes,
                    ..config()
                }
            },
        )
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Begin),
        6 => (any::<prop::sample::Index>(), prop::option::weighted(0.9, prop::bool::weighted(0.4)))
            .prop_map(|(which, outcome)| Event::End { which, outcome }),
        2 => (0..40_000_u64).prop_map(|millis| Event::Pass(Duration::from_millis(millis))),
        1 => configs().prop_map(|config| Event::Push(Box::new(config))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_happens_the_bounds_hold(
        first in configs(),
        events in prop::collection::vec((events(), any::<u64>()), 1..200),
    ) {
        let mut trial = Trial::new(first);
        let mut under_way: Vec<Era> = Vec::new();
        // The time of the ejection at hand, as it was when it began.
        let mut ejected = None;
        for (event, random) in events {
            match event {
                Event::Begin => {
                    let admits = trial.breaker.admits(trial.now);
                    if let State::Eject { until, .. } = trial.breaker.state() {
                        prop_assert_eq!(admits, trial.now >= until);
                    }
                    if admits {
                        let (era, _) = trial.breaker.enter(&trial.config, trial.now);
                        prop_assert!(trial.phase() != Phase::Eject);
                        under_way.push(era);
                    }
                }
                Event::End { which, outcome } => {
                    if !under_way.is_empty() {
                        let era = under_way.swap_remove(which.index(under_way.len()));
                        let before = trial.breaker.state();
                        if let Some(success) = outcome {
                            let outcome = if success { Outcome::Success } else { FAILURE };
                            let (config, now) = (&trial.config, trial.now);
                            trial.breaker.observe(config, outcome, era, true, now, random);
                        } else {
                            prop_assert_eq!(trial.breaker.state(), before);
                        }
                        trial.breaker.leave(era);
                        if before.phase() == Phase::Eject {
                            prop_assert_eq!(trial.breaker.state(), before);
                        }
                    }
                }
                Event::Pass(time) => trial.now += time,
                Event::Push(config) => {
                    let before = trial.phase();
                    let failures = trial.breaker.failures;
                    trial.config = *config;
                    trial.breaker.reconfigure(&trial.config);
                    prop_assert_eq!(trial.phase(), before);
                    prop_assert_eq!(trial.breaker.failures, failures);
                }
            }
            match trial.breaker.state() {
                State::Admit => ejected = None,
                State::Eject { until, .. } => {
                    let since = *ejected.get_or_insert(trial.breaker.since);
                    let config = &trial.config;
                    prop_assert!(until - since <= longest(config) + config.jitter);
                    if trial.breaker.since == trial.now && matches!(ejected, Some(at) if at == trial.now) {
                        prop_assert!(until > since);
                    }
                }
                State::Probe { left } => {
                    ejected = None;
                    let era = trial.breaker.era();
                    let probes = under_way.iter().filter(|&&of| of == era).count();
                    prop_assert!(left >= 1);
                    prop_assert!(left <= trial.config.half_open_requests.get());
                    prop_assert_eq!(probes as u32, trial.breaker.under_way);
                }
            }
        }
    }

    #[test]
    fn an_endpoint_that_recovers_is_admitted_after_its_ejection(
        config in configs(),
        ejections in 1..10_u32,
        random: u64,
    ) {
        let config = Config {
            consecutive_failures: Some(number(1)),
            ..config
        };
        let mut trial = Trial::new(config);
        for _ in 0..ejections {
            let (era, _) = trial.breaker.enter(&trial.config, trial.now);
            trial.breaker.observe(&trial.config, FAILURE, era, true, trial.now, random);
            prop_assert_eq!(trial.phase(), Phase::Eject);
            trial.now += longest(&trial.config) + trial.config.jitter;
            prop_assert!(trial.breaker.admits(trial.now));
        }
        for _ in 0..trial.config.half_open_requests.get() {
            prop_assert!(trial.breaker.admits(trial.now));
            trial.request(Outcome::Success);
        }
        prop_assert_eq!(trial.phase(), Phase::Admit);
    }

    #[test]
    fn the_window_counts_at_least_nine_tenths_of_its_length_and_at_most_all(
        gaps in prop::collection::vec((0..3_000_u64, any::<bool>()), 1..100),
    ) {
        let length = 10 * SECOND;
        let mut now = Instant::now();
        let mut window = Window::new(now);
        let mut requests = Vec::new();
        for (gap, failed) in gaps {
            now += Duration::from_millis(gap);
            window.count(failed, length, now);
            requests.push((now, failed));
            let within = |age: Duration| {
                let young = requests.iter().filter(|(at, _)| now - *at < age);
                let (failed, all): (Vec<_>, Vec<_>) = young.map(|(_, failed)| (*failed, ())).unzip();
                (failed.into_iter().filter(|&failed| failed).count() as u32, all.len() as u32)
            };
            let (least, most) = (within(length * 9 / 10), within(length));
            let (failed, all) = window.sum();
            prop_assert!(least.0 <= failed && failed <= most.0);
            prop_assert!(least.1 <= all && all <= most.1);
        }
    }
}
