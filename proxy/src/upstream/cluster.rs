//! One cluster as one worker knows it: its configuration in force and its endpoints.

use super::{
    balancer::{Balancer, Choice, arrange},
    circuit::Circuit,
    connect::ConnectError,
    endpoint::{Attempt, Judgement, LiveEndpoint},
    limits::WorkerLimits,
    queue::Queue,
    registry::Shared,
    status::ClusterStatus,
};
use crate::{
    error::RequestError,
    http::limits::HttpLimits,
    net::stream::Stream,
    snapshot::{
        Cluster, Endpoint,
        cluster::{UpstreamHttp, Zone},
        retry::RetryBudget,
    },
    tls::Alpn,
};
use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt, mem,
    num::NonZeroU32,
    rc::Rc,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// The live state of a cluster.
pub struct LiveCluster {
    name: Arc<str>,
    state: RefCell<State>,
    pub(super) shared: Rc<Shared>,
    pub(super) limits: WorkerLimits,
    pub(super) queue: Queue,
    status: Arc<ClusterStatus>,
    last_used: Cell<Instant>,
}

struct State {
    config: Arc<Cluster>,
    /// Configurations seen before that a request may still hold.
    superseded: Vec<Weak<Cluster>>,
    endpoints: Vec<Rc<LiveEndpoint>>,
    circuit: Rc<Circuit>,
    balancer: Balancer,
}

impl LiveCluster {
    pub(super) fn new(shared: Rc<Shared>, config: &Arc<Cluster>) -> Rc<Self> {
        let limits = shared.limits.cluster(&config.name, &config.limits);
        let status = shared.status.register(config, limits.clone());
        let circuit = Circuit::new(config.name.clone(), status.circuit.clone());
        let state = State::new(config.clone(), circuit, &shared.zone.borrow());
        let cluster = Self {
            name: config.name.clone(),
            state: RefCell::new(state),
            status,
            limits: WorkerLimits::new(limits),
            queue: Queue::default(),
            last_used: Cell::new(shared.swept.get()),
            shared,
        };
        cluster.take_effect();
        Rc::new(cluster)
    }

    /// The name of the cluster.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Cluster> {
        self.state.borrow().config.clone()
    }

    /// The endpoints that may take requests.
    pub fn endpoints(&self) -> Vec<Rc<LiveEndpoint>> {
        self.state.borrow().endpoints.clone()
    }

    /// Puts a configuration in force. Endpoints of the same address and identity keep what is live of them;
    /// those that left close their idle connections and finish what they have in hand.
    pub fn reconcile(&self, config: &Arc<Cluster>) {
        self.last_used.set(self.shared.swept.get());
        if Arc::ptr_eq(&self.state.borrow().config, config) {
            return;
        }
        let zone = self.shared.zone.borrow();
        if self.state.borrow_mut().replace(config, &zone) {
            self.take_effect();
        }
    }

    /// Takes in that the proxy's own zone is another one.
    pub(super) fn relocate(&self) {
        let mut state = self.state.borrow_mut();
        if state.config.zone != Zone::Off {
            state.balance(&self.shared.zone.borrow());
        }
    }

    pub(super) fn last_used(&self) -> Instant {
        self.last_used.get()
    }

    /// Whether a request or connection is under way.
    pub(super) fn in_use(&self) -> bool {
        let state = self.state.borrow();
        let mut endpoints = state.endpoints.iter();
        endpoints.any(|endpoint| endpoint.counters.in_flight.read() > 0)
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        let state = self.state.borrow();
        // Another worker waits for a connection that this one keeps idle: the limit is shared.
        let idle_timeout = match self.somebody_waits() {
            true => Duration::ZERO,
            false => state.config.idle_timeout,
        };
        for endpoint in &state.endpoints {
            endpoint.http1.retire_idle(idle_timeout, now);
            endpoint.http2.retire_idle(idle_timeout, now);
            endpoint.pass_time(now);
        }
    }

    /// Closes everything idle, for good.
    pub(super) fn retire(&self) {
        for endpoint in &self.state.borrow().endpoints {
            endpoint.retire();
        }
    }

    /// The endpoint to use, as the balancer decides.
    pub(super) fn pick(&self, choice: &Choice<'_>) -> Result<Rc<LiveEndpoint>, ConnectError> {
        let mut state = self.state.borrow_mut();
        let State {
            balancer,
            endpoints,
            ..
        } = &mut *state;
        match balancer.pick(endpoints, choice, super::now(), fastrand::u64(..)) {
            Some(index) => Ok(endpoints[index].clone()),
            None if endpoints.is_empty() => Err(ConnectError::new(
                RequestError::NoHealthyEndpoint,
                format!("cluster {} has no endpoint", self.name),
            )),
            None => Err(ConnectError::new(
                RequestError::CircuitOpen,
                format!(
                    "the breakers of cluster {} let no request through",
                    self.name
                ),
            )),
        }
    }

    /// Begins to time an endpoint.
    pub(super) fn attempt<'a>(&self, endpoint: &'a LiveEndpoint) -> Attempt<'a> {
        let state = self.state.borrow();
        let judgement = Judgement {
            decay: state.config.load_balancer.decay(),
            worst: state.config.connect_timeout,
        };
        Attempt::begin(endpoint, judgement)
    }

    /// Opens a connection to an endpoint.
    pub(super) async fn open(
        &self,
        endpoint: &LiveEndpoint,
        alpn: Alpn,
    ) -> Result<Stream, ConnectError> {
        let within = self.connect_timeout();
        let keepalive = self.state.borrow().config.tcp_keepalive;
        let config = endpoint.config();
        let attempt = self.attempt(endpoint);
        let connector = &self.shared.connector;
        let opened = connector.connect(&config, alpn, keepalive, within).await;
        match &opened {
            // Only for opaque bytes is the time to connect the latency: a request has its own.
            Ok(_) if alpn == Alpn::Tcp => attempt.connected(),
            Ok(_) => attempt.excused(),
            Err(error) => {
                endpoint.counters.connect_failures.increment();
                attempt.failed(error);
            }
        }
        opened
    }

    /// How many retries there may be.
    pub(super) fn retry_budget(&self) -> RetryBudget {
        self.state.borrow().config.retry_budget
    }

    /// How many requests a connection carries before it is closed.
    pub(super) fn max_requests_per_connection(&self) -> Option<NonZeroU32> {
        self.state.borrow().config.max_requests_per_connection
    }

    /// The limits of a connection that is opened now: what the cluster says, else what all connections have.
    pub(super) fn http_limits(&self) -> HttpLimits {
        let own = self.state.borrow().config.http2;
        let all = &self.shared.http;
        let or = |own: Option<NonZeroU32>, all| own.map_or(all, NonZeroU32::get);
        HttpLimits {
            max_concurrent_streams: or(own.concurrent_streams, all.max_concurrent_streams),
            stream_window: or(own.stream_window, all.stream_window),
            connection_window: or(own.connection_window, all.connection_window),
            ..all.clone()
        }
    }

    /// The version that the cluster speaks.
    pub(super) fn http_version(&self) -> UpstreamHttp {
        self.state.borrow().config.http_version
    }

    /// The time to connect, and the time to wait for a connection when there may be no more.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.state.borrow().config.connect_timeout
    }

    /// Closes an idle connection to any endpoint. False when there is none.
    pub(super) fn evict_idle(&self) -> bool {
        let state = self.state.borrow();
        let mut endpoints = state.endpoints.iter();
        endpoints.any(|endpoint| endpoint.http1.evict_idle() || endpoint.http2.evict_idle())
    }

    fn take_effect(&self) {
        let state = self.state.borrow();
        self.limits.configure(&state.config.limits);
        let shown = state
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.config(), endpoint.counters.clone()));
        self.status.show(state.config.clone(), shown.collect());
    }
}

impl fmt::Debug for LiveCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveCluster")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl State {
    fn new(config: Arc<Cluster>, circuit: Rc<Circuit>, own_zone: &str) -> Self {
        let (endpoints, balancer) = prepare(&config, own_zone);
        let mut state = Self {
            balancer,
            superseded: Vec::new(),
            endpoints: Vec::new(),
            circuit,
            config,
        };
        state.adopt(endpoints);
        state.guard_endpoints();
        state
    }

    /// False when nothing changes. A request that began before a push brings its older snapshot along, which
    /// must not undo the push: what was once replaced never comes back.
    fn replace(&mut self, config: &Arc<Cluster>, own_zone: &str) -> bool {
        self.superseded.retain(|old| old.strong_count() > 0);
        let old = |old: &Weak<Cluster>| std::ptr::eq(old.as_ptr(), Arc::as_ptr(config));
        if self.superseded.iter().any(old) {
            return false;
        }
        let before = mem::replace(&mut self.config, config.clone());
        self.superseded.push(Arc::downgrade(&before));
        if *before == **config {
            return false;
        }
        // Turns that were begun go on.
        if !balanced_alike(&before, config) {
            self.balance(own_zone);
        }
        self.guard_endpoints();
        true
    }

    /// Prepares the choice among the configured endpoints.
    fn balance(&mut self, own_zone: &str) {
        let (endpoints, balancer) = prepare(&self.config, own_zone);
        self.balancer = balancer;
        self.adopt(endpoints);
    }

    /// Has exactly these endpoints, of which those that it had keep what is live of them.
    fn adopt(&mut self, configs: Vec<Arc<Endpoint>>) {
        let now = super::now();
        let default_rtt = self.config.load_balancer.default_rtt();
        // Those that a cluster begins with are as old as each other.
        let joined = (!self.endpoints.is_empty()).then_some(now);
        let mut known: HashMap<_, _> = mem::take(&mut self.endpoints)
            .into_iter()
            .map(|endpoint| ((endpoint.address(), endpoint.identity().cloned()), endpoint))
            .collect();
        for config in configs {
            let key = (config.address, config.identity.clone());
            self.endpoints.push(match known.remove(&key) {
                Some(endpoint) => {
                    endpoint.reconfigure(config);
                    endpoint
                }
                None => Rc::new(LiveEndpoint::new(
                    config,
                    default_rtt,
                    joined,
                    self.circuit.clone(),
                    now,
                )),
            });
        }
        for endpoint in known.into_values() {
            endpoint.retire();
        }
    }

    /// Puts the configured breaker in force.
    fn guard_endpoints(&self) {
        let gates = self.endpoints.iter().map(|endpoint| &endpoint.gate);
        let breaker = self.config.breaker.as_ref();
        self.circuit.configure(breaker, gates, super::now());
    }
}

/// The endpoints as their balancer wants them, and the balancer.
fn prepare(config: &Cluster, own_zone: &str) -> (Vec<Arc<Endpoint>>, Balancer) {
    let (endpoints, zones) = arrange(&config.endpoints, config.zone, own_zone);
    let random = fastrand::u64(..);
    let balancer = Balancer::new(config, &endpoints, zones, super::now(), random);
    (endpoints, balancer)
}

/// Whether two configurations choose alike, among the same endpoints.
fn balanced_alike(one: &Cluster, other: &Cluster) -> bool {
    one.endpoints == other.endpoints
        && one.load_balancer == other.load_balancer
        && one.slow_start == other.slow_start
        && one.zone == other.zone
        && one.panic_threshold == other.panic_threshold
}
