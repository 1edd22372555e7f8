//! The breakers of a cluster together, without requests: time is passed in.

use super::*;
use crate::snapshot::Share;
use proptest::prelude::*;
use std::{
    io,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

const SECOND: Duration = Duration::from_secs(1);

fn config(max_ejected: u32) -> Arc<Config> {
    Arc::new(Config {
        consecutive_failures: NonZeroU32::new(3),
        failure_ratio: None,
        failures: Failures::default(),
        open_for: 30 * SECOND,
        max_open_for: 300 * SECOND,
        jitter: Duration::ZERO,
        half_open_requests: NonZeroU32::new(2).unwrap(),
        max_ejected: Share::percent(max_ejected),
    })
}

#[test]
fn a_request_that_comes_to_an_endpoint_which_has_left_takes_up_no_room() {
    let trial = Trial::new(1, Some(config(50)));
    let gate = trial.gates[0].clone();
    gate.retire();
    for _ in 0..10 {
        let era = gate.enter(|| trial.now);
        assert_eq!(era, None);
    }
    assert_eq!(trial.circuit.held.get(), 0);
}

/// A cluster without requests.
struct Trial {
    circuit: Rc<Circuit>,
    gates: Vec<Rc<Gate>>,
    now: Instant,
}

impl Trial {
    fn new(endpoints: u16, config: Option<Arc<Config>>) -> Self {
        let circuit = Circuit::new("user".into(), Arc::default());
        let mut trial = Self {
            circuit,
            gates: Vec::new(),
            now: Instant::now(),
        };
        trial.push(endpoints, config);
        trial
    }

    /// A push, which leaves the endpoints that stay as they are.
    fn push(&mut self, endpoints: u16, config: Option<Arc<Config>>) {
        for port in self.gates.len() as u16..endpoints {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let gate = Gate::new(self.circuit.clone(), address, Arc::default());
            self.gates.push(Rc::new(gate));
        }
        for gate in self.gates.drain(usize::from(endpoints)..) {
            gate.retire();
        }
        let gates = self.gates.iter().map(|gate| &**gate);
        self.circuit.configure(config.as_ref(), gates, self.now);
    }

    /// A request that is answered at once.
    fn request(&self, endpoint: usize, status: u16) {
        let gate = &self.gates[endpoint];
        if let Some(era) = gate.enter(|| self.now) {
            let status = StatusCode::from_u16(status).unwrap();
            let unfinished = gate.head(era, status, None, Duration::ZERO, self.now);
            if let Some(era) = unfinished {
                gate.complete(era, None, false, self.now);
            }
            gate.leave(era);
        }
    }

    fn eject(&self, endpoint: usize) {
        for _ in 0..3 {
            self.request(endpoint, 503);
        }
    }

    /// Which endpoints take requests.
    fn admitted(&self) -> Vec<bool> {
        let gates = self.gates.iter();
        gates.map(|gate| gate.admits(self.now)).collect()
    }
}

#[test]
fn a_single_endpoint_is_ejected() {
    let mut trial = Trial::new(1, Some(config(1)));
    trial.eject(0);
    assert_eq!(trial.admitted(), [false]);
    trial.now += 30 * SECOND;
    assert_eq!(trial.admitted(), [true]);
}

#[test]
fn no_more_than_a_share_of_the_endpoints_is_ejected() {
    let mut trial = Trial::new(5, Some(config(40)));
    for endpoint in 0..5 {
        trial.eject(endpoint);
    }
    assert_eq!(trial.admitted(), [false, false, true, true, true]);
    assert_eq!(trial.circuit.counters.withheld.read(), 3);

    // The room of one that has recovered goes to the next that fails.
    trial.now += 30 * SECOND;
    trial.request(0, 200);
    trial.request(4, 503);
    assert_eq!(trial.admitted(), [true; 5]);
    trial.request(0, 200);
    trial.request(4, 503);
    assert_eq!(trial.admitted(), [true, true, true, true, false]);
}

#[test]
fn a_push_that_leaves_less_room_admits_those_whose_time_is_soonest_over() {
    let mut trial = Trial::new(4, Some(config(100)));
    for endpoint in [2, 0, 1] {
        trial.eject(endpoint);
        trial.now += SECOND;
    }
    trial.push(4, Some(config(50)));
    assert_eq!(trial.admitted(), [false, false, true, true]);
    trial.push(2, Some(config(50)));
    assert_eq!(trial.admitted(), [true, false]);
}

#[test]
fn an_endpoint_that_leaves_takes_up_no_room() {
    let mut trial = Trial::new(2, Some(config(50)));
    trial.eject(1);
    trial.push(1, Some(config(50)));
    trial.eject(0);
    assert_eq!(trial.admitted(), [false]);
}

#[test]
fn without_its_breaker_an_endpoint_takes_requests_again() {
    let mut trial = Trial::new(1, Some(config(50)));
    trial.eject(0);
    trial.push(1, None);
    assert_eq!(trial.admitted(), [true]);
    assert_eq!(trial.gates[0].enter(|| trial.now), None);
}

#[test]
fn a_push_of_anything_else_keeps_what_was_counted() {
    let mut trial = Trial::new(2, Some(config(50)));
    trial.request(0, 503);
    trial.request(0, 503);
    trial.push(3, Some(config(60)));
    trial.request(0, 503);
    assert_eq!(trial.admitted(), [false, true, true]);
}

#[test]
fn a_change_of_state_is_a_line_in_the_log_and_a_count() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            lines.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(move || writer.clone())
        .finish();
    let counted = tracing::subscriber::with_default(subscriber, || {
        let mut trial = Trial::new(1, Some(config(50)));
        trial.eject(0);
        trial.now += 30 * SECOND;
        trial.request(0, 200);
        trial.request(0, 200);
        let counters = trial.circuit.counters.transitions.iter();
        counters.map(|count| count.read()).collect::<Vec<_>>()
    });
    let lines = lines.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(
        std::str::from_utf8(&lines).unwrap(),
        " WARN breaker changed its state cluster=\"user\" endpoint=127.0.0.1:0 from=\"admit\" to=\"eject\" \
         reason=\"consecutive-failures\" detail=3 failures in a row, the last: status 503 lasts_ms=30000\n \
         INFO breaker changed its state cluster=\"user\" endpoint=127.0.0.1:0 from=\"eject\" to=\"probe\" \
         reason=\"ejection-over\" detail=its ejection is over\n \
         INFO breaker changed its state cluster=\"user\" endpoint=127.0.0.1:0 from=\"probe\" to=\"admit\" \
         reason=\"probes-succeeded\" detail=all probes succeeded\n"
    );
    assert_eq!(counted, [1, 0, 0, 1, 1, 0, 0]);
}

#[derive(Debug, Clone)]
enum Event {
    /// A request to an endpoint, if it admits one.
    Begin(prop::sample::Index),
    /// One of those under way ends. No status: the caller gave up.
    End(prop::sample::Index, Option<u16>),
    Pass(u64),
    Push {
        endpoints: u16,
        max_ejected: Option<u32>,
    },
}

fn events() -> impl Strategy<Value = Event> {
    let status = prop_oneof![2 => Just(Some(503)), 1 => Just(Some(200)), 1 => Just(None)];
    prop_oneof![
        10 => any::<prop::sample::Index>().prop_map(Event::Begin),
        10 => (any::<prop::sample::Index>(), status).prop_map(|(which, status)| Event::End(which, status)),
        2 => (0..20_u64).prop_map(Event::Pass),
        1 => (1..8_u16, prop::option::weighted(0.9, 0..=100_u32))
            .prop_map(|(endpoints, max_ejected)| Event::Push { endpoints, max_ejected }),
    ]
}

proptest! {
    #[test]
    fn never_are_more_endpoints_ejected_than_may_be(
        endpoints in 1..8_u16,
        events in prop::collection::vec(events(), 1..300),
    ) {
        let mut share = Some(50);
        let mut trial = Trial::new(endpoints, share.map(config));
        let mut under_way = Vec::new();
        for event in events {
            match event {
                Event::Begin(which) => {
                    let gate = which.get(&trial.gates).clone();
                    if gate.admits(trial.now) {
                        let era = gate.enter(|| trial.now);
                        prop_assert_eq!(era.is_some(), share.is_some());
                        let state = gate.with(|breaker| breaker.state());
                        let ejected = matches!(state, Some(State::Eject { .. }));
                        prop_assert!(!ejected, "a request went to {:?}", state);
                        under_way.extend(era.map(|era| (gate, era)));
                    }
                }
                Event::End(which, status) => {
                    if !under_way.is_empty() {
                        let (gate, era) = under_way.swap_remove(which.index(under_way.len()));
                        if let Some(status) = status {
                            let status = StatusCode::from_u16(status).unwrap();
                            if let Some(era) = gate.head(era, status, None, Duration::ZERO, trial.now) {
                                gate.complete(era, None, false, trial.now);
                            }
                        }
                        gate.leave(era);
                    }
                }
                Event::Pass(seconds) => {
                    trial.now += Duration::from_secs(seconds);
                    for gate in &trial.gates {
                        gate.tick(trial.now);
                    }
                }
                Event::Push { endpoints, max_ejected } => {
                    share = max_ejected;
                    trial.push(endpoints, share.map(config));
                }
            }
            let held = trial.gates.iter().filter(|gate| gate.held.get()).count();
            let may_be = |percent| Share::percent(percent).of(trial.gates.len()).max(1);
            prop_assert!(held <= share.map_or(0, may_be));
            prop_assert_eq!(held, trial.circuit.held.get());
        }
    }
}
