//! The breakers of the endpoints of one cluster, as one worker knows them.
//!
//! Owns which configuration is in force, how many endpoints may be ejected at once, and what people learn of it: a
//! line in the log, a count, what `/clusters` shows. Whom to eject is decided in [`breaker`](super::breaker).
//!
//! Every worker of a proxy has breakers of its own, which see its requests only: a request neither takes a lock nor
//! writes to what another worker reads. What is configured therefore holds for each worker: a proxy of two workers
//! may send an endpoint that fails twice as many requests before none of them does.

use super::{
    breaker::{Breaker, Effect, Era, Outcome, Phase, Reason, State, Transition},
    status::{CircuitCounters, EndpointCounters},
};
use crate::{
    error::RequestError,
    snapshot::{Breaker as Config, breaker::Failures},
};
use http::StatusCode;
use std::{
    cell::{Cell, Ref, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// What the breakers of a cluster have in common.
#[derive(Debug, Default)]
pub(crate) struct Circuit {
    cluster: Arc<str>,
    config: RefCell<Option<Arc<Config>>>,
    /// Endpoints that are ejected or probed. Those that are probed keep their room, so that a failed probe never
    /// finds it taken.
    held: Cell<usize>,
    /// How many may be.
    room: Cell<usize>,
    counters: Arc<CircuitCounters>,
}

/// The breaker of one endpoint, where its cluster has one.
#[derive(Debug)]
pub(super) struct Gate {
    circuit: Rc<Circuit>,
    address: SocketAddr,
    /// There from the first request on.
    breaker: RefCell<Option<Box<Breaker>>>,
    /// Whether it is anything but admitted: all that a balancer has to look at as a rule.
    held: Cell<bool>,
    /// Whether the endpoint has left its cluster, which counts it no more.
    retired: Cell<bool>,
    counters: Arc<EndpointCounters>,
}

impl Circuit {
    pub(super) fn new(cluster: Arc<str>, counters: Arc<CircuitCounters>) -> Rc<Self> {
        Rc::new(Self {
            cluster,
            counters,
            ..Self::default()
        })
    }

    /// Puts a configuration in force for all endpoints of the cluster. The state of each stays, unless more are
    /// ejected than may be: then those whose time is soonest over are admitted.
    pub(super) fn configure<'a>(
        &self,
        config: Option<&Arc<Config>>,
        gates: impl Iterator<Item = &'a Gate> + Clone,
        now: Instant,
    ) {
        let endpoints = gates.clone().count();
        let room = config.map_or(0, |config| config.max_ejected.of(endpoints).max(1));
        self.room.set(room);
        self.config.replace(config.cloned());
        for gate in gates.clone() {
            gate.reconfigure(now);
        }
        while self.held.get() > room {
            let held = gates.clone().filter(|gate| gate.held.get());
            match held.min_by_key(|gate| gate.held_until()) {
                Some(gate) => gate.admit(Reason::MaxEjected, now),
                None => break,
            }
        }
    }

    /// Borrowed: the count of the Arc is shared by all workers.
    fn config(&self) -> Option<Ref<'_, Config>> {
        Ref::filter_map(self.config.borrow(), |config| config.as_deref()).ok()
    }
}

impl Gate {
    pub(super) fn new(
        circuit: Rc<Circuit>,
        address: SocketAddr,
        counters: Arc<EndpointCounters>,
    ) -> Self {
        Self {
            circuit,
            address,
            breaker: RefCell::default(),
            held: Cell::new(false),
            retired: Cell::new(false),
            counters,
        }
    }

    /// Whether a request may be sent to the endpoint.
    pub(super) fn admits(&self, now: Instant) -> bool {
        !self.held.get() || self.with(|breaker| breaker.admits(now)).unwrap_or(true)
    }

    /// A request is sent to the endpoint. `None` where there is no breaker, which does not ask for the time.
    pub(super) fn enter(&self, clock: impl FnOnce() -> Instant) -> Option<Era> {
        let config = self.circuit.config()?;
        if self.retired.get() {
            return None;
        }
        let now = clock();
        let mut breaker = self.breaker.borrow_mut();
        let breaker = breaker.get_or_insert_with(|| Box::new(Breaker::new(now)));
        let (era, transition) = breaker.enter(&config, now);
        self.settle(breaker.state(), transition, now);
        Some(era)
    }

    /// A request that was sent in that era is over.
    pub(super) fn leave(&self, era: Era) {
        self.with(|breaker| breaker.leave(era));
    }

    /// The head of a response came after so long. When that settles nothing, its era: what follows may yet tell.
    pub(super) fn head(
        &self,
        era: Era,
        status: StatusCode,
        grpc_code: Option<u8>,
        elapsed: Duration,
        now: Instant,
    ) -> Option<Era> {
        let judge =
            |failures: &Failures| match Outcome::of_head(failures, status, grpc_code, elapsed) {
                Outcome::Success => None,
                failure @ Outcome::Failure(_) => Some(failure),
            };
        (!self.observe(era, now, judge)).then_some(era)
    }

    /// The first part of the body of a response is there. Where that makes the request a probe that succeeded: the
    /// era in which the rest counts.
    pub(super) fn heard(&self, era: Era, now: Instant) -> Option<Era> {
        let of_probe =
            |breaker: &mut Breaker| breaker.era() == era && breaker.state().phase() == Phase::Probe;
        if !self.held.get() || !self.with(of_probe)? {
            return None;
        }
        self.served(era, now);
        self.with(|breaker| breaker.era())
    }

    /// A response is complete, and was no failure up to its trailers. Its success may be `counted` already.
    pub(super) fn complete(&self, era: Era, grpc_code: Option<u8>, counted: bool, now: Instant) {
        self.observe(era, now, |failures| {
            match Outcome::of_grpc_code(failures, grpc_code) {
                Outcome::Success if counted => None,
                outcome => Some(outcome),
            }
        });
    }

    /// A request was served, or a connection is there.
    pub(super) fn served(&self, era: Era, now: Instant) {
        self.observe(era, now, |_| Some(Outcome::Success));
    }

    /// A request, or what was left of its response, came to nothing.
    pub(super) fn failed(&self, era: Era, error: RequestError, now: Instant) {
        self.observe(era, now, |failures| Outcome::of_error(failures, error));
    }

    /// Time has passed. What that changed the state to, if it did.
    pub(super) fn tick(&self, now: Instant) -> Option<Phase> {
        if !self.held.get() {
            return None;
        }
        let config = self.circuit.config()?;
        let (transition, state) =
            self.with(|breaker| (breaker.tick(&config, now), breaker.state()))?;
        self.settle(state, transition, now);
        transition.map(|transition| transition.to)
    }

    /// The endpoint is no longer of the cluster: it takes up no room.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.breaker.take();
        if self.held.replace(false) {
            self.circuit.held.set(self.circuit.held.get() - 1);
        }
    }

    /// Takes in what a request came to, if anything. False when it came to nothing that counts.
    fn observe(
        &self,
        era: Era,
        now: Instant,
        outcome: impl FnOnce(&Failures) -> Option<Outcome>,
    ) -> bool {
        let Some(config) = self.circuit.config() else {
            return false;
        };
        let Some(outcome) = outcome(&config.failures) else {
            return false;
        };
        let room = self.circuit.held.get() < self.circuit.room.get();
        let observed = self.with(|breaker| {
            let effect = breaker.observe(&config, outcome, era, room, now, fastrand::u64(..));
            (effect, breaker.state())
        });
        match observed {
            Some((Effect::Changed(transition), state)) => {
                self.settle(state, Some(transition), now);
            }
            Some((Effect::Withheld(reason), _)) => {
                self.circuit.counters.withheld.increment();
                tracing::debug!(
                    cluster = &*self.circuit.cluster,
                    endpoint = %self.address,
                    reason = reason.label(),
                    detail = %reason,
                    "an endpoint is not ejected: as many as may be are"
                );
            }
            Some((Effect::Counted, _)) | None => {}
        }
        true
    }

    fn reconfigure(&self, now: Instant) {
        match self.circuit.config() {
            Some(config) => {
                let state = self.with(|breaker| {
                    breaker.reconfigure(&config);
                    breaker.state()
                });
                let state = state.unwrap_or(State::Admit);
                self.counters.breaker.keep(state, now);
            }
            None => {
                self.admit(Reason::BreakerRemoved, now);
                self.breaker.take();
                self.counters.breaker.clear();
            }
        }
    }

    fn admit(&self, reason: Reason, now: Instant) {
        let transition = self.with(|breaker| breaker.admit(reason, now)).flatten();
        self.settle(State::Admit, transition, now);
    }

    /// When it is the endpoint's turn to be admitted for want of room.
    fn held_until(&self) -> Option<Instant> {
        match self.with(|breaker| breaker.state())? {
            State::Eject { until, .. } => Some(until),
            State::Admit | State::Probe { .. } => None,
        }
    }

    /// Makes a change of state known.
    fn settle(&self, state: State, transition: Option<Transition>, now: Instant) {
        let Some(Transition { from, to, reason }) = transition else {
            return;
        };
        let circuit = &self.circuit;
        let held = to != Phase::Admit;
        match (self.held.replace(held), held) {
            (false, true) => circuit.held.set(circuit.held.get() + 1),
            (true, false) => circuit.held.set(circuit.held.get() - 1),
            (true, true) | (false, false) => {}
        }
        circuit.counters.transitions[reason.index()].increment();
        self.counters.breaker.set(state, reason, now);
        let (cluster, endpoint) = (&*circuit.cluster, self.address);
        let (from, label) = (from.label(), reason.label());
        match state {
            State::Eject { until, .. } => tracing::warn!(
                cluster,
                %endpoint,
                from,
                to = to.label(),
                reason = label,
                detail = %reason,
                lasts_ms = (until - now).as_millis() as u64,
                "breaker changed its state"
            ),
            State::Admit | State::Probe { .. } => tracing::info!(
                cluster,
                %endpoint,
                from,
                to = to.label(),
                reason = label,
                detail = %reason,
                "breaker changed its state"
            ),
        }
    }

    fn with<T>(&self, look: impl FnOnce(&mut Breaker) -> T) -> Option<T> {
        self.breaker.borrow_mut().as_deref_mut().map(look)
    }
}

#[cfg(test)]
mod tests;
