//! One endpoint of a cluster as one worker knows it: its connections, its latency and its counts.

use super::{
    balancer::{Latency, Load},
    breaker::{Era, Phase},
    circuit::{Circuit, Gate},
    connect::ConnectError,
    http1, http2,
    status::{EndpointCounters, micros},
    unfinished::Unfinished,
};
use crate::{
    error::{Fault, RequestError},
    http::reply,
    snapshot::Endpoint,
};
use http::{Response, StatusCode, Version};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};
use weft_xds_proto::spiffe::SpiffeId;

/// The live state of an endpoint. It stays for as long as the cluster has an endpoint of this address and
/// identity, and until its last request is done.
#[derive(Debug)]
pub struct LiveEndpoint {
    config: RefCell<Arc<Endpoint>>,
    address: SocketAddr,
    identity: Option<SpiffeId>,
    latency: Cell<Latency>,
    joined: Option<Instant>,
    retired: Cell<bool>,
    pub(super) counters: Arc<EndpointCounters>,
    pub(super) gate: Gate,
    pub(super) http1: http1::Pool,
    pub(super) http2: http2::Pool,
}

impl LiveEndpoint {
    /// An endpoint never used. `joined` is when it came to the others, unless it was there from the beginning.
    pub(crate) fn new(
        config: Arc<Endpoint>,
        default_rtt: Duration,
        joined: Option<Instant>,
        circuit: Rc<Circuit>,
        now: Instant,
    ) -> Self {
        let counters = Arc::new(EndpointCounters::default());
        Self {
            address: config.address,
            identity: config.identity.clone(),
            latency: Cell::new(Latency::assumed(default_rtt, now)),
            joined,
            retired: Cell::new(false),
            gate: Gate::new(circuit, config.address, counters.clone()),
            http1: http1::Pool::new(counters.clone()),
            http2: http2::Pool::default(),
            config: RefCell::new(config),
            counters,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The identity it must prove; plaintext when absent.
    pub fn identity(&self) -> Option<&SpiffeId> {
        self.identity.as_ref()
    }

    /// Its configuration as of the last push.
    pub fn config(&self) -> Arc<Endpoint> {
        self.config.borrow().clone()
    }

    /// Whether its cluster no longer has it. What is in flight finishes, nothing new begins.
    pub fn is_retired(&self) -> bool {
        self.retired.get()
    }

    pub(super) fn reconfigure(&self, config: Arc<Endpoint>) {
        self.config.replace(config);
    }

    /// An endpoint whose ejection is over is to get its probes, whatever it was like before.
    pub(super) fn pass_time(&self, now: Instant) {
        if self.gate.tick(now) == Some(Phase::Probe) {
            self.latency.set(Latency::assumed(Duration::ZERO, now));
        }
    }

    /// Closes what is idle. Connections in use are closed as they are given back.
    pub(super) fn retire(&self) {
        self.retired.set(true);
        self.gate.retire();
        self.http1.clear();
        self.http2.clear();
    }
}

impl Load for Rc<LiveEndpoint> {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn admits(&self, now: Instant) -> bool {
        self.gate.admits(now)
    }

    fn joined(&self) -> Option<Instant> {
        self.joined
    }

    fn in_flight(&self) -> u32 {
        u32::try_from(self.counters.in_flight.read()).unwrap_or(u32::MAX)
    }

    fn latency(&self) -> Latency {
        self.latency.get()
    }
}

/// A request, or an opaque connection, that an endpoint has in hand: its load, until dropped.
#[derive(Debug)]
pub(super) struct InFlight {
    endpoint: Rc<LiveEndpoint>,
    /// What the endpoint's breaker counts it in, where there is one.
    era: Option<Era>,
}

impl InFlight {
    pub(super) fn begin(endpoint: Rc<LiveEndpoint>) -> Self {
        endpoint.counters.in_flight.increment();
        endpoint.counters.requests.increment();
        Self {
            era: endpoint.gate.enter(super::now),
            endpoint,
        }
    }

    pub(super) fn endpoint(&self) -> &Rc<LiveEndpoint> {
        &self.endpoint
    }

    /// The head of a response came. When that settles nothing, its end may yet.
    pub(super) fn answered(&self, head: Head) -> Option<Unfinished> {
        let era = self.era?;
        let Head {
            status,
            grpc_code,
            elapsed,
            now,
        } = head;
        let era = (self.endpoint.gate).head(era, status, grpc_code, elapsed, now)?;
        Some(Unfinished::new(self.endpoint.clone(), era))
    }

    /// The connection is there, which is all that can be told of opaque bytes.
    pub(super) fn connected(&self) {
        if let Some(era) = self.era {
            self.endpoint.gate.served(era, super::now());
        }
    }

    /// It came to nothing.
    pub(super) fn failed(&self, error: RequestError) {
        if let Some(era) = self.era {
            self.endpoint.gate.failed(era, error, super::now());
        }
    }

    /// Leaves it to another endpoint, as if that one had been chosen.
    pub(super) fn move_to(&mut self, endpoint: Rc<LiveEndpoint>) {
        let requests = &self.endpoint.counters.requests;
        requests.set(requests.read().saturating_sub(1));
        *self = Self::begin(endpoint);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.counters.in_flight.decrement();
        if let Some(era) = self.era {
            self.endpoint.gate.leave(era);
        }
    }
}

/// Something that an endpoint is timed at: a connection, or a request up to the head of its response.
#[derive(Debug)]
pub(super) struct Attempt<'a> {
    endpoint: &'a LiveEndpoint,
    judgement: Judgement,
    started: Instant,
    judged: bool,
}

/// The head of a response, as far as it says something of the endpoint.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    status: StatusCode,
    grpc_code: Option<u8>,
    /// How long it took.
    elapsed: Duration,
    now: Instant,
}

/// How a cluster judges the latencies of its endpoints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judgement {
    /// The time in which a latency loses all but 1/e of its weight.
    pub(super) decay: Duration,
    /// The most that failures alone add up to.
    pub(super) worst: Duration,
}

impl<'a> Attempt<'a> {
    /// Begins now.
    pub(super) fn begin(endpoint: &'a LiveEndpoint, judgement: Judgement) -> Self {
        Self {
            judgement,
            started: super::now(),
            judged: false,
            endpoint,
        }
    }

    /// The endpoint answered: the time it took is its latency. What follows, such as the body of the
    /// response, may be a stream that lasts for hours.
    pub(super) fn responded<B>(mut self, response: &Response<B>) -> Head {
        let status = response.status();
        // Calls go by HTTP/2: all other responses do without the search.
        let grpc_code = match response.version() {
            Version::HTTP_2 => reply::grpc_status(response.headers()),
            _ => None,
        };
        let now = match sheds(status, grpc_code) {
            true => self.penalized(),
            false => self.timed(),
        };
        Head {
            status,
            grpc_code,
            elapsed: now - self.started,
            now,
        }
    }

    /// The connection is there, which is all that can be told of opaque bytes.
    pub(super) fn connected(mut self) {
        self.timed();
    }

    /// It came to nothing: held against the endpoint where the endpoint is at fault.
    pub(super) fn failed(mut self, error: &ConnectError) {
        if error.error.fault() != Fault::Upstream {
            return self.excused();
        }
        self.endpoint.counters.note_error(error.to_string());
        self.penalized();
    }

    /// How it went says nothing about the endpoint's latency.
    pub(super) fn excused(mut self) {
        self.judged = true;
    }

    /// Makes the endpoint look slower than it was.
    fn penalized(&mut self) -> Instant {
        let now = super::now();
        self.judge(now, |latency, elapsed, Judgement { decay, worst }| {
            latency.penalize(elapsed, worst, now, decay);
        });
        now
    }

    /// Takes the time until now for the endpoint's latency.
    fn timed(&mut self) -> Instant {
        let now = super::now();
        self.judge(now, |latency, elapsed, Judgement { decay, .. }| {
            latency.observe(elapsed, now, decay);
        });
        now
    }

    fn judge(&mut self, now: Instant, judge: impl FnOnce(&mut Latency, Duration, Judgement)) {
        self.judged = true;
        let mut latency = self.endpoint.latency.get();
        judge(&mut latency, now - self.started, self.judgement);
        self.endpoint.latency.set(latency);
        let shown = latency.at(now, self.judgement.decay);
        self.endpoint.counters.latency_us.set(micros(shown));
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.judged {
            return;
        }
        // The caller gave up waiting (a timeout, most likely). Its patience is a lower bound of the latency:
        // it may make the endpoint look slower, never faster.
        let now = super::now();
        self.judge(now, |latency, elapsed, Judgement { decay, .. }| {
            if elapsed.as_secs_f64() > latency.at(now, decay) {
                latency.observe(elapsed, now, decay);
            }
        });
    }
}

/// Whether an answer says that the endpoint has too much to do: 429, or RESOURCE_EXHAUSTED (8). It comes fast, and must
/// not make the endpoint look like the fastest of all. Other failures are for the breaker.
fn sheds(status: StatusCode, grpc_code: Option<u8>) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || grpc_code == Some(8)
}
