//! The outbound side: what the application calls.
//!
//! ```text
//! accept -> original dst -> destination (subscribe if new) -> detect -> HTTP serve ->
//! route, backend -> fault -> redirect or answer -> rewrite, header changes -> mirror ->
//! [ timeout, retry -> cluster -> limits -> balancer -> pool (mTLS) ] -> header changes -> record
//! ```
//!
//! [`begin`] is the way of a connection, [`Outbound::forward`] that of a request.

mod carry;
mod mirror;
mod stages;

pub(crate) use mirror::Mirrors;

use crate::{
    config::Mode,
    detection::{self, Speaks},
    error::RequestError,
    exchange::{Caller, Exchange},
    http::{
        authority,
        body::Body,
        detect::Verdict,
        fault,
        h1::{self, Handler, Refusal, Upgrade},
        h2,
        hash_key::{self, HashKey},
        header_changes, headers, intake, reply, trace,
    },
    net::{stream::Stream, tunnel::tunnel},
    opaque::Opaque,
    snapshot::{
        Destination, DestinationHandle, Protocol, Route,
        route::{Action, Fault, Forward},
    },
    telemetry::{Direction, Verdict as Counted},
    upstream::{Call, Connected, Failed, Sent},
    worker::{Rest, Worker},
    xds::Resolution,
};
use http::{Method, Request, Response, Version, header::SET_COOKIE};
use std::{cell::RefCell, net::SocketAddr, pin::pin, rc::Rc, sync::Arc, time::Duration};
use tokio::net::TcpStream;
use weft_xds_proto::names;

/// Finds out where the connection goes and what it carries, to be served or carried until it ends.
pub(crate) async fn begin(
    worker: &Rc<Worker>,
    tcp: TcpStream,
    caller: SocketAddr,
) -> Option<Rest<'_>> {
    match worker.shared.config.mode {
        Mode::Transparent => {
            let original = worker.original_destination(&tcp)?;
            intercepted(worker, Stream::tcp(tcp), caller, original).await
        }
        Mode::Explicit => explicit(worker, Stream::tcp(tcp), caller).await,
    }
}

/// A connection that the kernel redirected: its destination is the address that was dialled.
async fn intercepted(
    worker: &Rc<Worker>,
    stream: Stream,
    caller: SocketAddr,
    original: SocketAddr,
) -> Option<Rest<'_>> {
    let name = names::address(original);
    match worker.shared.destinations.resolve(&name).await {
        Ok(Resolution::Known(handle)) => known(worker, stream, caller, handle).await,
        Ok(Resolution::Unknown) => carry::pass_through(worker, stream, caller, original).await,
        Err(error) => unavailable(worker, stream, caller, &name, error).await,
    }
}

/// A connection to the proxy itself: every request names its own destination.
async fn explicit(worker: &Rc<Worker>, mut stream: Stream, caller: SocketAddr) -> Option<Rest<'_>> {
    let limits = &worker.shared.config.http;
    let version = detection::http_version(&mut stream, limits.header_timeout).await?;
    let target = Target::Named(RefCell::default());
    Some(http(worker, stream, caller, version, target))
}

/// A connection to a destination of the mesh: finds out what it speaks.
async fn known(
    worker: &Rc<Worker>,
    mut stream: Stream,
    caller: SocketAddr,
    handle: Arc<DestinationHandle>,
) -> Option<Rest<'_>> {
    handle.touch(worker.now().into_std());
    let destination = handle.load();
    let connections = worker.connections(Direction::Outbound);
    let speaks = match destination.protocol {
        Protocol::Http | Protocol::Http2 => {
            connections.detected(Counted::Declared);
            let limits = &worker.shared.config.http;
            match detection::http_version(&mut stream, limits.header_timeout).await {
                Some(Verdict::Http2) => Speaks::Http2,
                Some(_) => Speaks::Http1,
                None => Speaks::Nothing,
            }
        }
        Protocol::Tcp => {
            connections.detected(Counted::Declared);
            Speaks::Opaque(carry::dial(worker, &destination).await)
        }
        Protocol::Detect => {
            let spoke_http = worker.memory.borrow().speaks_http(&destination.name);
            let dial = carry::dial(worker, &destination);
            let found = detection::detect(&mut stream, spoke_http, dial).await;
            worker.memory.borrow_mut().learn(&destination.name, &found);
            if let Some(verdict) = found.counted {
                connections.detected(verdict);
            }
            found.speaks
        }
    };
    let target = Target::Fixed(handle);
    match speaks {
        Speaks::Http1 => Some(http(worker, stream, caller, Verdict::Http1, target)),
        Speaks::Http2 => Some(http(worker, stream, caller, Verdict::Http2, target)),
        Speaks::Opaque(upstream) => carry::opaque(worker, stream, caller, &destination, upstream),
        Speaks::Nothing => None,
    }
}

/// The configuration of the destination could not be had. Who speaks HTTP is told so.
async fn unavailable<'w>(
    worker: &'w Rc<Worker>,
    mut stream: Stream,
    caller: SocketAddr,
    name: &str,
    error: RequestError,
) -> Option<Rest<'w>> {
    let nowhere = async {
        Err(failed(
            error,
            format!("no configuration for {name} in time"),
        ))
    };
    let target = Target::Unavailable(error);
    match detection::detect(&mut stream, false, nowhere).await.speaks {
        Speaks::Http1 => Some(http(worker, stream, caller, Verdict::Http1, target)),
        Speaks::Http2 => Some(http(worker, stream, caller, Verdict::Http2, target)),
        Speaks::Opaque(upstream) => {
            let opaque = Opaque {
                worker,
                direction: Direction::Outbound,
                caller,
                authority: name.into(),
            };
            opaque.carry(stream, upstream, worker.edges.unknown("tcp"))
        }
        Speaks::Nothing => None,
    }
}

/// Serves a connection of HTTP requests.
fn http(
    worker: &Rc<Worker>,
    stream: Stream,
    caller: SocketAddr,
    version: Verdict,
    target: Target,
) -> Rest<'_> {
    let outbound = Rc::new(Outbound {
        worker: worker.clone(),
        caller: worker.caller(Direction::Outbound, caller, None),
        target,
    });
    let shared = &worker.shared;
    let (limits, drain) = (&shared.config.http, &shared.outbound_drain);
    if version == Verdict::Http2 {
        return Box::pin(async move {
            h2::serve(stream, limits, drain, &worker.deadlines, outbound).await;
        });
    }
    Box::pin(async move {
        tokio::select! {
            _ = h1::serve(stream, limits, drain, &*outbound) => {}
            () = outbound.caller.watchdog.stalled() => {}
        }
    })
}

/// Answers the requests of one connection of the application.
struct Outbound {
    worker: Rc<Worker>,
    caller: Rc<Caller>,
    target: Target,
}

/// Where the requests of a connection go.
enum Target {
    /// Where the connection was going.
    Fixed(Arc<DestinationHandle>),
    /// Where each request says, with the last answer: connections rarely mix destinations.
    Named(RefCell<Option<(String, Arc<DestinationHandle>)>>),
    /// Nowhere: the configuration is missing.
    Unavailable(RequestError),
}

/// Why a request has no response, in words for the log.
struct Failure {
    error: RequestError,
    detail: Option<String>,
}

impl Handler for Outbound {
    async fn handle(&self, request: &mut Request<Body>) -> Result<Response<Body>, RequestError> {
        let exchange = Exchange::begin(&self.caller, request);
        Ok(match self.forward(&exchange, request).await {
            Ok(Answer::Response(response)) => exchange.respond(response),
            Ok(Answer::Switched(sent, idle)) => switch(exchange, sent, idle),
            Ok(Answer::Connected(connected, destination)) => {
                self.tunnel(exchange, connected, destination)
            }
            Err(Failure { error, detail }) => exchange.fail(error, detail),
        })
    }

    fn refused(&self, refusal: &Refusal) -> Response<Body> {
        let connections = self.worker.connections(Direction::Outbound);
        connections.failed(refusal.error);
        reply::refusal(refusal.status, refusal.error, refusal.reason)
    }
}

/// What becomes of a request.
enum Answer {
    /// The endpoint answered.
    Response(Response<Body>),
    /// The endpoint agreed to another protocol; nothing for so long ends it.
    Switched(Sent, Option<Duration>),
    /// CONNECT: the caller gets a connection to the destination.
    Connected(Connected, Arc<Destination>),
}

impl Outbound {
    /// The way of a request.
    async fn forward(
        &self,
        exchange: &Exchange,
        request: &mut Request<Body>,
    ) -> Result<Answer, Failure> {
        let asks_for_connection = request.method() == Method::CONNECT;
        let intake = intake::request(request).map_err(|error| Failure {
            error: RequestError::BadRequest,
            detail: Some(error.to_string()),
        })?;
        self.trace(exchange, request);
        let destination = self.destination(&intake.host, request).await?;
        if asks_for_connection && self.is_proxy() {
            return Box::pin(self.connect(exchange, destination)).await;
        }
        let version = match intake.upgrade {
            Some(protocol) => {
                headers::set_upgrade(request.headers_mut(), protocol);
                Version::HTTP_11
            }
            None => request.version(),
        };
        let route = stages::select(&destination, &intake.host, request)?;
        let chosen = self.choose(&route);
        exchange.routed(&route, chosen);

        if let Some(fault) = &route.fault {
            let injected = self.inject(fault, exchange, &intake.host, request);
            if let Some(response) = Box::pin(injected).await {
                return Ok(Answer::Response(response));
            }
        }
        let forward = match &route.action {
            Action::Forward(forward) => forward,
            Action::Redirect(to) => return stages::redirect(to, &route, &intake.host, request),
            Action::Respond(answer) => return Ok(stages::respond(answer, exchange.is_grpc())),
        };
        let backend = &forward.backends.all()[chosen];
        if backend.absent {
            return Err(stages::not_found(backend));
        }
        stages::rewrite(&route, forward, backend, request)?;
        let key = self.hash_key(forward, &intake.host, request);
        exchange.set_idle_timeout(route.idle_timeout);
        let timeout = stages::overall_timeout(exchange, request, forward);
        if !forward.mirrors.is_empty() {
            mirror::begin(&self.worker, forward, version, request);
        }
        exchange.watch_request(request, timeout);

        let cluster = self.worker.upstreams.cluster(&backend.cluster);
        let call = Call {
            retry: forward.retry.as_deref(),
            hash: key.hash,
            deadline: Some(exchange.timeout()),
            tries: Some(exchange.tries()),
        };
        let sent = exchange
            .within(pin!(cluster.call(version, request, &call)))
            .await;
        let edge = |endpoint| self.worker.edges.request(&route, chosen, Some(endpoint));
        let mut sent = match sent {
            Ok(Ok(sent)) => sent,
            Ok(Err(failed)) => {
                if let Some(endpoint) = &failed.endpoint {
                    exchange.answered_by(edge(endpoint));
                }
                return Err(Failure {
                    error: failed.error,
                    detail: Some(failed.detail),
                });
            }
            Err(error) => return Err(Failure::from(error)),
        };
        exchange.answered_by(edge(&sent.endpoint));
        intake::response(&mut sent.response);
        let fields = sent.response.headers_mut();
        header_changes::apply(&backend.headers.response, fields);
        if let Some(cookie) = key.cookie {
            fields.append(SET_COOKIE, cookie);
        }
        Ok(match sent.response.body() {
            Body::Upgrade(_) => Answer::Switched(sent, route.idle_timeout),
            _ => Answer::Response(sent.response),
        })
    }

    /// The place of the backend that a request goes to. A route that does not forward has none.
    fn choose(&self, route: &Route) -> usize {
        match &route.action {
            Action::Forward(forward) => forward.backends.pick(|| self.random()),
            Action::Redirect(_) | Action::Respond(_) => 0,
        }
    }

    /// Lets go wrong what is to go wrong. `None`: the request goes on.
    async fn inject(
        &self,
        fault: &Fault,
        exchange: &Exchange,
        host: &str,
        request: &Request<Body>,
    ) -> Option<Response<Body>> {
        let injection = fault::decide(fault, host, request, || self.random());
        if let Some(delay) = injection.delay {
            let over = self.worker.deadlines.deadline();
            over.set(Some(self.worker.now() + delay));
            over.passed().await;
            exchange.resumed();
        }
        let status = injection.abort?;
        exchange.blame(RequestError::FaultInjected);
        Some(reply::fault(status, exchange.is_grpc()))
    }

    fn hash_key(&self, forward: &Forward, host: &str, request: &Request<Body>) -> HashKey {
        let caller = self.caller.address.ip();
        hash_key::of(&forward.hash, host, request, caller, || self.random())
    }

    fn random(&self) -> u64 {
        self.worker.rng.borrow_mut().u64(..)
    }

    fn trace(&self, exchange: &Exchange, request: &mut Request<Body>) {
        let rng = &mut self.worker.rng.borrow_mut();
        let sampling = self.worker.shared.config.trace_sampling;
        let context = trace::enter(request.headers_mut(), sampling, rng);
        trace::set_request_id(request.headers_mut(), rng);
        exchange.note_trace(request.headers(), &context);
    }

    /// The destination as this request will see it to its end.
    async fn destination(
        &self,
        host: &str,
        request: &Request<Body>,
    ) -> Result<Arc<Destination>, Failure> {
        let handle = match &self.target {
            Target::Fixed(handle) => handle.clone(),
            Target::Named(last) => match same(last, host) {
                Some(handle) => handle,
                None => Box::pin(self.named(last, host, request)).await?,
            },
            Target::Unavailable(error) => return Err(Failure::from(*error)),
        };
        handle.touch(self.worker.now().into_std());
        Ok(handle.load())
    }

    async fn named(
        &self,
        last: &RefCell<Option<(String, Arc<DestinationHandle>)>>,
        host: &str,
        request: &Request<Body>,
    ) -> Result<Arc<DestinationHandle>, Failure> {
        let scheme = request.uri().scheme_str();
        let namespace = &self.worker.shared.config.workload.name.namespace;
        let name = authority::destination(host, scheme, namespace).ok_or_else(|| Failure {
            error: RequestError::BadRequest,
            detail: Some(format!("{host:?} names no host and port")),
        })?;
        let resolved = self.worker.shared.destinations.resolve(&name).await;
        match resolved.map_err(Failure::from)? {
            Resolution::Known(handle) => {
                last.replace(Some((host.to_owned(), handle.clone())));
                Ok(handle)
            }
            Resolution::Unknown => Err(Failure {
                error: RequestError::UnknownDestination,
                detail: Some(format!("the mesh knows no {name}")),
            }),
        }
    }

    /// Whether the application uses us as its proxy, so that CONNECT is meant for us.
    fn is_proxy(&self) -> bool {
        matches!(self.target, Target::Named(_))
    }

    async fn connect(
        &self,
        exchange: &Exchange,
        destination: Arc<Destination>,
    ) -> Result<Answer, Failure> {
        let Some(cluster) = &destination.tcp else {
            return Err(Failure {
                error: RequestError::RouteNotFound,
                detail: Some(format!(
                    "{} is for HTTP only: call it without CONNECT",
                    destination.name
                )),
            });
        };
        let connected = self.worker.upstreams.cluster(cluster).connect().await;
        let endpoint = match &connected {
            Ok(connected) => Some(&connected.endpoint),
            Err(failed) => failed.endpoint.as_ref(),
        };
        exchange.answered_by(Rc::new(self.worker.edges.tcp(cluster, endpoint)));
        match connected {
            Ok(connected) => Ok(Answer::Connected(connected, destination)),
            Err(failed) => Err(Failure {
                error: failed.error,
                detail: Some(failed.detail),
            }),
        }
    }

    /// Answers CONNECT: what follows are opaque bytes, counted as a connection of their own.
    fn tunnel(
        &self,
        exchange: Exchange,
        connected: Connected,
        destination: Arc<Destination>,
    ) -> Response<Body> {
        let worker = self.worker.clone();
        let caller = self.caller.address;
        let upgrade = Upgrade::then(move |downstream| async move {
            let connected = Ok(connected);
            if let Some(rest) = carry::opaque(&worker, downstream, caller, &destination, connected)
            {
                rest.await;
            }
        });
        let response = exchange.respond(Response::new(Body::Empty));
        response.map(|_| Body::Upgrade(upgrade))
    }
}

/// The last answer, if it is for the same host.
fn same(
    last: &RefCell<Option<(String, Arc<DestinationHandle>)>>,
    host: &str,
) -> Option<Arc<DestinationHandle>> {
    let last = last.borrow();
    let (name, handle) = last.as_ref()?;
    (name == host).then(|| handle.clone())
}

/// Lets the caller and the endpoint speak their other protocol.
pub(crate) fn switch(
    exchange: Exchange,
    mut sent: Sent,
    idle_timeout: Option<Duration>,
) -> Response<Body> {
    let status = sent.response.status();
    let upgrade = sent.response.body_mut().take_upgrade();
    let Some(Ok(upstream)) = upgrade.map(Upgrade::into_upstream) else {
        return exchange.fail(RequestError::Internal, None);
    };
    let tunnelled = exchange.tunnel(status);
    let hold = sent.hold;
    let upgrade = Upgrade::then(move |downstream| async move {
        let end = tunnel(downstream, upstream, idle_timeout).await;
        tunnelled.ended(&end);
        drop(hold);
    });
    sent.response.map(|_| Body::Upgrade(upgrade))
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self {
            error,
            detail: None,
        }
    }
}

fn failed(error: RequestError, detail: String) -> Box<Failed> {
    Box::new(Failed {
        error,
        detail,
        processed: error.processed(),
        endpoint: None,
    })
}
