//! One request and its response: timed, counted and logged once, however they end.
//!
//! An [`Exchange`] begins when a request arrives and lives until its response is over. It watches both
//! bodies, breaks them off when their time is up, and tells telemetry at the end. What happens in between is
//! decided in `inbound` and `outbound`.

mod bodies;
mod watchdog;

pub(crate) use watchdog::Watchdog;

use crate::{
    admission::{Admitted, Shed},
    deadline::{Deadline, Deadlines},
    edges::Edges,
    error::RequestError,
    http::{body::Body, grpc_timeout, headers, reply, trace},
    net::tunnel::{Side, TunnelEnd, TunnelError},
    snapshot::{Route, WorkloadName},
    telemetry::{AccessLog, Direction, Edge, Entry, Outcome},
    upstream::Tries,
};
use bodies::{RequestBody, ResponseBody};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header::USER_AGENT,
};
use http_body::Body as _;
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    mem,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::Instant;
use watchdog::STALL_GRACE;
use weft_xds_proto::spiffe::SpiffeId;

/// A request on its way. Dropped before it is answered, it records that the caller went away.
#[derive(Debug)]
pub(crate) struct Exchange {
    shared: Rc<Shared>,
}

/// What the exchanges of one downstream connection have in common.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Which side of the call we are on.
    pub(crate) direction: Direction,
    /// The caller's address.
    pub(crate) address: SocketAddr,
    /// What is known before a request comes. Outbound, that is nothing.
    pub(crate) known: Option<Rc<Known>>,
    /// Where the edges of outbound requests are found.
    pub(crate) edges: Rc<Edges>,
    pub(crate) deadlines: Deadlines,
    pub(crate) access_log: AccessLog,
    /// Ends an HTTP/1.1 connection whose caller takes nothing.
    pub(crate) watchdog: Watchdog,
}

/// What is known of who answers.
#[derive(Debug)]
pub(crate) struct Known {
    /// The counters.
    pub(crate) edge: Arc<Edge>,
    /// The route.
    pub(crate) route: Arc<str>,
    /// The workload that answers.
    pub(crate) destination: WorkloadName,
    /// The identity that the other side of the mesh proved.
    pub(crate) peer: Option<SpiffeId>,
    /// The endpoint.
    pub(crate) endpoint: Option<SocketAddr>,
}

#[derive(Debug)]
struct Shared {
    caller: Rc<Caller>,
    method: Method,
    version: Version,
    grpc: bool,
    started: Instant,
    facts: RefCell<Option<Box<Facts>>>,
    known: RefCell<Option<Rc<Known>>>,
    route: RefCell<Option<Arc<Route>>>,
    /// Which of the route's backends.
    backend: Cell<usize>,
    detail: RefCell<Option<String>>,
    clock: Clock,
    tries: Cell<Tries>,
    received: Cell<u64>,
    sent: Cell<u64>,
    status: Cell<Option<StatusCode>>,
    grpc_status: Cell<Option<u8>>,
    error: Cell<Option<RequestError>>,
    recorded: Cell<bool>,
    admitted: RefCell<Admitted>,
}

/// What only the access log wants to know. Not there while the log is off.
#[derive(Debug, Default)]
struct Facts {
    authority: String,
    path: String,
    request_id: Option<HeaderValue>,
    trace_id: Option<String>,
    user_agent: Option<HeaderValue>,
}

/// When an exchange has taken too long, or too long a rest.
#[derive(Debug)]
struct Clock {
    deadline: Deadline,
    timeout: Cell<Option<Instant>>,
    idle_timeout: Cell<Option<Duration>>,
    last_active: Cell<Instant>,
}

impl Exchange {
    /// A request has arrived.
    pub(crate) fn begin(caller: &Rc<Caller>, request: &Request<Body>) -> Self {
        let started = Instant::now();
        let shared = Rc::new(Shared {
            method: request.method().clone(),
            version: request.version(),
            grpc: headers::is_grpc(request.headers()),
            started,
            facts: RefCell::new(caller.access_log.is_on().then(|| Facts::of(request))),
            known: RefCell::new(caller.known.clone()),
            route: RefCell::default(),
            backend: Cell::default(),
            detail: RefCell::default(),
            clock: Clock {
                deadline: caller.deadlines.deadline(),
                timeout: Cell::new(None),
                idle_timeout: Cell::new(None),
                last_active: Cell::new(started),
            },
            tries: Cell::default(),
            received: Cell::new(0),
            sent: Cell::new(0),
            status: Cell::new(None),
            grpc_status: Cell::new(None),
            error: Cell::new(None),
            recorded: Cell::new(false),
            admitted: RefCell::default(),
            caller: caller.clone(),
        });
        caller.watchdog.watch(&shared);
        Self { shared }
    }

    /// When the request arrived.
    pub(crate) fn started(&self) -> Instant {
        self.shared.started
    }

    /// Whether it is a gRPC call.
    pub(crate) fn is_grpc(&self) -> bool {
        self.shared.grpc
    }

    /// Notes what the access log is to say, once the headers have their final form.
    pub(crate) fn note_trace(&self, headers: &HeaderMap, context: &trace::Context) {
        if let Some(facts) = &mut *self.shared.facts.borrow_mut() {
            facts.request_id = trace::request_id(headers).cloned();
            facts.trace_id = Some(format!("{:032x}", context.trace_id));
        }
    }

    /// Notes which route the request takes, to the backend at this place in it.
    pub(crate) fn routed(&self, route: &Arc<Route>, backend: usize) {
        self.shared.route.replace(Some(route.clone()));
        self.shared.backend.set(backend);
    }

    /// The request was held back on purpose: what it may take begins now.
    pub(crate) fn resumed(&self) {
        self.shared.active();
    }

    /// Notes why the answer that follows is one of the proxy's own.
    pub(crate) fn blame(&self, error: RequestError) {
        self.shared.fail(error);
    }

    /// Notes who answers.
    pub(crate) fn answered_by(&self, known: Rc<Known>) {
        self.shared.known.replace(Some(known));
    }

    /// No byte in either direction for so long ends the exchange.
    pub(crate) fn set_idle_timeout(&self, idle_timeout: Option<Duration>) {
        self.shared.clock.idle_timeout.set(idle_timeout);
        self.shared.arm();
    }

    /// The exchange must be over by then.
    pub(crate) fn set_timeout(&self, at: Instant) {
        self.shared.clock.timeout.set(Some(at));
        self.shared.arm();
    }

    /// Holds a gRPC call to the time that its caller gives it, counted from its beginning, and at most to so much. Tells
    /// the next hop how much of it is left.
    pub(crate) fn keep_grpc_timeout(&self, headers: &mut HeaderMap, max: Option<Duration>) {
        if !self.shared.grpc {
            return;
        }
        let asked = grpc_timeout::of(headers);
        if let Some(timeout) = asked.into_iter().chain(max).min() {
            self.set_timeout(self.shared.started + timeout);
            let left = timeout.saturating_sub(self.shared.started.elapsed());
            grpc_timeout::set(headers, left);
        }
    }

    /// When the exchange must be over, as far as that is known by now.
    pub(crate) fn timeout(&self) -> &Cell<Option<Instant>> {
        &self.shared.clock.timeout
    }

    /// Where it is noted how often the request is sent.
    pub(crate) fn tries(&self) -> &Cell<Tries> {
        &self.shared.tries
    }

    /// Watches the body of the request. `timeout` begins when it is complete (`RouteAction.timeout`).
    pub(crate) fn watch_request(&self, request: &mut Request<Body>, timeout: Option<Duration>) {
        if request.body().is_end_stream() {
            if let Some(timeout) = timeout {
                self.set_timeout(self.shared.clock.last_active.get() + timeout);
            }
            return;
        }
        let body = mem::take(request.body_mut());
        *request.body_mut() = body.observed(RequestBody {
            shared: self.shared.clone(),
            timeout,
        });
    }

    /// Waits for a part of the work for as long as the exchange may take.
    pub(crate) async fn within<T>(
        &self,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Result<T, RequestError> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.shared.poll_overdue(cx).map(Err),
        })
        .await
    }

    /// The response is there: watches its body, and records the exchange when that is over.
    pub(crate) fn respond(self, response: Response<Body>) -> Response<Body> {
        let shared = &self.shared;
        shared.status.set(Some(response.status()));
        if shared.grpc {
            shared
                .grpc_status
                .set(reply::grpc_status(response.headers()));
        }
        if let Some(whole) = response.body().in_memory() {
            // Nothing is left to watch.
            if shared.method != Method::HEAD {
                shared.sent.set(whole as u64);
            }
            shared.record();
            return response;
        }
        shared.active();
        response.map(|body| {
            body.observed(ResponseBody {
                shared: self.shared.clone(),
            })
        })
    }

    /// The request failed: makes the answer, and records the exchange.
    pub(crate) fn fail(self, error: RequestError, detail: Option<String>) -> Response<Body> {
        let endpoint = self
            .shared
            .known
            .borrow()
            .as_ref()
            .and_then(|known| known.endpoint);
        let response = reply::error(error, endpoint, self.shared.grpc);
        self.refuse(error, detail, response)
    }

    /// A limit of the workload did not let the request through: makes the answer, and records the exchange.
    pub(crate) fn shed(self, shed: &Shed) -> Response<Body> {
        let response = reply::shed(shed, self.shared.grpc);
        self.refuse(shed.error(), Some(shed.detail()), response)
    }

    /// Holds what the request has been admitted by until it is over.
    pub(crate) fn hold(&self, admitted: Admitted) {
        self.shared.admitted.replace(admitted);
    }

    fn refuse(
        self,
        error: RequestError,
        detail: Option<String>,
        response: Response<Body>,
    ) -> Response<Body> {
        let shared = &self.shared;
        shared.error.set(Some(error));
        *shared.detail.borrow_mut() = detail;
        // Whatever stopped it must not stop the answer.
        shared.clock.timeout.set(None);
        self.respond(response)
    }

    /// The connection becomes a tunnel: the exchange is over when that is.
    pub(crate) fn tunnel(self, status: StatusCode) -> TunnelledExchange {
        self.shared.status.set(Some(status));
        // The tunnel has an idle timeout of its own.
        self.shared.clock.timeout.set(None);
        self.shared.clock.idle_timeout.set(None);
        self.shared.arm();
        TunnelledExchange(self)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // Otherwise the body of the response, which holds the exchange too, records it.
        if self.shared.status.get().is_none() {
            self.shared.fail(RequestError::DownstreamReset);
            self.shared.record();
        }
    }
}

/// An exchange whose connection carries other bytes now.
#[derive(Debug)]
pub(crate) struct TunnelledExchange(Exchange);

impl TunnelledExchange {
    /// The tunnel, whose side A is the caller, has ended.
    pub(crate) fn ended(self, end: &TunnelEnd) {
        let shared = &self.0.shared;
        shared.received.set(shared.received.get() + end.a_to_b);
        shared.sent.set(shared.sent.get() + end.b_to_a);
        if let Some(error) = &end.error {
            shared.fail(tunnel_error(error));
            *shared.detail.borrow_mut() = Some(error.to_string());
        }
    }
}

/// Whose fault the end of a tunnel is, whose side A is the caller.
pub(crate) fn tunnel_error(error: &TunnelError) -> RequestError {
    match error {
        TunnelError::Idle(_) => RequestError::StreamIdleTimeout,
        TunnelError::Broken { side: Side::A, .. } => RequestError::DownstreamReset,
        TunnelError::Broken { side: Side::B, .. } => RequestError::UpstreamReset,
    }
}

impl Drop for TunnelledExchange {
    fn drop(&mut self) {
        self.0.shared.record();
    }
}

impl Shared {
    fn active(&self) {
        self.clock.last_active.set(Instant::now());
    }

    /// When the exchange is overdue if nothing moves until then.
    fn due(&self) -> Option<Instant> {
        let clock = &self.clock;
        let idle = clock
            .idle_timeout
            .get()
            .map(|idle| clock.last_active.get() + idle);
        match (clock.timeout.get(), idle) {
            (Some(timeout), Some(idle)) => Some(timeout.min(idle)),
            (timeout, idle) => timeout.or(idle),
        }
    }

    fn arm(&self) {
        let due = self.due();
        self.clock.deadline.set(due);
        self.caller
            .watchdog
            .deadline
            .set(due.map(|due| due + STALL_GRACE));
    }

    /// Which of its times is up.
    fn overdue(&self, now: Instant) -> RequestError {
        match self.clock.timeout.get() {
            Some(timeout) if timeout <= now => RequestError::RequestTimeout,
            _ => RequestError::StreamIdleTimeout,
        }
    }

    fn poll_overdue(&self, cx: &mut Context<'_>) -> Poll<RequestError> {
        loop {
            ready!(self.clock.deadline.poll_passed(cx));
            let now = Instant::now();
            match self.due() {
                Some(due) if due <= now => return Poll::Ready(self.overdue(now)),
                // Bytes moved since the deadline was set.
                due => self.clock.deadline.set(due),
            }
        }
    }

    /// As far as the request came: to an endpoint, to a route, or nowhere.
    fn known(&self) -> Rc<Known> {
        match (self.known.take(), &*self.route.borrow()) {
            (Some(known), _) => known,
            (None, Some(route)) => self.caller.edges.request(route, self.backend.get(), None),
            (None, None) => Rc::new(self.caller.edges.unknown("none")),
        }
    }

    /// The first reason stands.
    fn fail(&self, error: RequestError) {
        if self.error.get().is_none() {
            self.error.set(Some(error));
        }
    }

    fn record(&self) {
        if self.recorded.replace(true) {
            return;
        }
        self.admitted.take();
        self.clock.deadline.set(None);
        self.caller.watchdog.rest();
        let error = self.error.get();
        let status = self.status.get().unwrap_or_else(|| {
            error.map_or(StatusCode::INTERNAL_SERVER_ERROR, RequestError::status)
        });
        let grpc_status = match (self.grpc, self.grpc_status.get(), error) {
            (true, None, Some(error)) => Some(error.grpc_status()),
            (_, status, _) => status,
        };
        let duration = self.started.elapsed();
        let known = self.known();
        known.edge.request(&Outcome {
            method: &self.method,
            status,
            error,
            grpc_status,
            duration,
        });
        let tries = self.tries.get();
        known.edge.tried(&tries);
        if let Some(facts) = &*self.facts.borrow()
            && self
                .caller
                .access_log
                .wants(Some(status.as_u16()), grpc_status, error.is_some())
        {
            self.caller.access_log.log(&Entry {
                direction: self.caller.direction,
                protocol: protocol(self.version),
                method: self.method.as_str(),
                authority: &facts.authority,
                path: &facts.path,
                status: Some(status.as_u16()),
                grpc_status,
                error,
                detail: self.detail.borrow().as_deref(),
                duration,
                received_bytes: self.received.get(),
                sent_bytes: self.sent.get(),
                source: self.caller.address,
                peer: known.peer.as_ref(),
                destination: &known.destination,
                endpoint: known.endpoint,
                route: &known.route,
                attempts: Some(tries.attempts),
                request_id: facts.request_id.as_ref().and_then(|id| id.to_str().ok()),
                trace_id: facts.trace_id.as_deref(),
                user_agent: facts
                    .user_agent
                    .as_ref()
                    .and_then(|agent| agent.to_str().ok()),
            });
        }
    }
}

impl Facts {
    fn of(request: &Request<Body>) -> Box<Self> {
        let authority = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => host(request.headers()),
        };
        Box::new(Self {
            authority: authority.to_owned(),
            path: request.uri().path().to_owned(),
            request_id: None,
            trace_id: None,
            user_agent: request.headers().get(USER_AGENT).cloned(),
        })
    }
}

fn host(headers: &HeaderMap) -> &str {
    headers
        .get(http::header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default()
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
