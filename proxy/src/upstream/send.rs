//! The way of a request, or of an opaque connection, from a cluster to an endpoint and back.

use super::{
    balancer::Choice,
    call::{Call, Outcome},
    cluster::LiveCluster,
    connect::ConnectError,
    endpoint::LiveEndpoint,
    http2,
    lease::{Awaited, Hold, HoldToEnd, Lease},
    limits::{Permit, Resource},
    queue::{Returned, Waited},
    request::{make_http1, make_http2},
    unfinished::Unfinished,
};
use crate::{
    deadline::Deadline,
    error::{Fault, Processed, RequestError},
    http::{
        body::Body,
        h1::{self, Progress},
    },
    net::stream::Stream,
    snapshot::cluster::UpstreamHttp,
    tls::Alpn,
};
use http::{HeaderName, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use std::{
    cell::RefCell,
    future::poll_fn,
    mem,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};
use tokio::{
    task::spawn_local,
    time::{Instant, timeout_at},
};

/// How often a request that provably was not sent looks for another connection. An endpoint that closes
/// every connection it accepts must not keep us busy for ever.
const UNSENT_RETRIES: u32 = 3;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A response whose head is there.
#[derive(Debug)]
pub struct Sent {
    /// The response. The request counts as in flight until its body has ended or is dropped.
    pub response: Response<Body>,
    /// Who answered.
    pub endpoint: Rc<LiveEndpoint>,
    /// What keeps the request counted as in flight. Where the connection changes its protocol, it is to be kept for as
    /// long as the tunnel lasts.
    pub hold: Hold,
}

/// An open connection for opaque bytes.
#[derive(Debug)]
pub struct Connected {
    /// The connection, on which nothing was sent.
    pub stream: Stream,
    /// Who is at the other end.
    pub endpoint: Rc<LiveEndpoint>,
    /// To be kept for as long as the connection lasts.
    pub hold: Hold,
}

/// Why there is no response, or no connection.
#[derive(Debug)]
pub struct Failed {
    /// The reason from the closed list.
    pub error: RequestError,
    /// What was tried and what came of it, with the endpoint's address. For people.
    pub detail: String,
    /// Whether the endpoint may have seen it: what is known of this one, which may be more than what its error says.
    pub processed: Processed,
    /// Who failed, unless it failed before an endpoint was chosen.
    pub endpoint: Option<Rc<LiveEndpoint>>,
}

/// What is asked of one attempt at a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'t> {
    /// What is asked of the request.
    pub(super) call: &'t Call<'t>,
    /// Endpoints that are better avoided; the one of this attempt joins them.
    pub(super) tried: Option<&'t RefCell<Vec<SocketAddr>>>,
    /// When the endpoint must have begun its response.
    pub(super) patience: Option<&'t Deadline>,
}

impl LiveCluster {
    /// Sends a request to one of the endpoints and waits for the head of its response. What is sent is taken
    /// out of the request.
    ///
    /// `downstream` is the version that the caller spoke; the cluster may insist on another. A request that
    /// provably was not sent, because its connection was on its way out, goes to another connection. So does,
    /// once, an idempotent request without body when the endpoint closed a connection that had been idle
    /// before it answered (RFC 9110 section 9.2.2): every server that retires idle connections makes that
    /// race possible. Everything else is for the caller to decide.
    pub(super) async fn send_once(
        self: &Rc<Self>,
        downstream: Version,
        request: &mut Request<Body>,
        terms: Terms<'_>,
    ) -> Outcome {
        let Some(permit) = self.limits.acquire(Resource::Requests) else {
            let error = self.over(RequestError::MaxRequests, Resource::Requests);
            return Err(Failed::before(error));
        };
        let endpoint = self.pick_on(terms).map_err(Failed::before)?;
        let lease = Lease::new(self.clone(), endpoint, Some(permit));
        let awaited = Awaited::begin(&lease, terms.call.deadline);
        let outcome = match self.speaks_http2(downstream) {
            true => self.send_http2(lease, request, terms).await,
            false => self.send_http1(lease, request, terms).await,
        };
        awaited.end();
        outcome
    }

    /// Whether a request goes by HTTP/2 that came by some version.
    pub(super) fn speaks_http2(&self, downstream: Version) -> bool {
        match self.http_version() {
            UpstreamHttp::AsDownstream => downstream == Version::HTTP_2,
            UpstreamHttp::Http1 => false,
            UpstreamHttp::Http2 => true,
        }
    }

    fn pick_on(&self, terms: Terms<'_>) -> Result<Rc<LiveEndpoint>, ConnectError> {
        let Some(tried) = terms.tried else {
            return self.pick(&Choice {
                hash: terms.call.hash,
                ..Choice::default()
            });
        };
        let endpoint = self.pick(&Choice {
            hash: terms.call.hash,
            avoid: &tried.borrow(),
        })?;
        tried.borrow_mut().push(endpoint.address());
        Ok(endpoint)
    }

    /// Connects to one of the endpoints, for opaque bytes.
    pub async fn connect(self: &Rc<Self>) -> Result<Connected, Box<Failed>> {
        let Some(permit) = self.connection_permit() else {
            let error = self.over(RequestError::MaxConnections, Resource::Connections);
            return Err(Failed::before(error));
        };
        let endpoint = self.pick(&Choice::default()).map_err(Failed::before)?;
        let lease = Lease::new(self.clone(), endpoint.clone(), None);
        match self.open(&endpoint, Alpn::Tcp).await {
            Ok(stream) => {
                lease.in_flight().connected();
                Ok(Connected {
                    stream,
                    hold: Hold::tcp(lease, permit, endpoint.clone()),
                    endpoint,
                })
            }
            Err(error) => Err(Failed::at(&lease, error)),
        }
    }

    async fn send_http1(
        self: &Rc<Self>,
        lease: Rc<Lease>,
        request: &mut Request<Body>,
        terms: Terms<'_>,
    ) -> Outcome {
        make_http1(request, self.name());
        if request.body().is_end_stream() {
            // Nothing to send, in a form that can be sent twice.
            *request.body_mut() = Body::Empty;
        }
        let replayable = may_replay(request);
        let mut replayed = false;
        let mut unsent = 0;
        loop {
            let warm = (!replayed).then(|| self.warm_http1(&lease, replayable));
            let connection = match warm.flatten() {
                Some(connection) => connection,
                // Seldom, and large: not in the memory of every request.
                None => terms
                    .within(Box::pin(self.fresh_http1(&lease)).as_mut())
                    .await
                    .unwrap_or_else(|| Err(self.no_connection(&lease)))
                    .map_err(|error| Failed::at(&lease, error))?,
            };
            let endpoint = lease.endpoint();
            let attempt = self.attempt(&endpoint);
            let first = connection.requests() == 0;
            let answer = terms
                .within(pin!(connection.send(request, lease.clone())))
                .await;
            let error = match answer {
                Some(Ok(response)) => {
                    let head = attempt.responded(&response);
                    let unfinished = lease.in_flight().answered(head);
                    let response = Unfinished::watch(unfinished, response);
                    // What it says once per connection it need not be asked again.
                    if first && let Some(field) = response.headers().get(KEEP_ALIVE) {
                        endpoint.http1.announced(field, super::now());
                    }
                    return Ok(Sent {
                        response,
                        endpoint,
                        hold: Hold::http(lease, None),
                    });
                }
                Some(Err(error)) => error,
                None => {
                    lease.disconnect();
                    let error = no_answer(&endpoint);
                    attempt.failed(&error);
                    return Err(Failed::at(&lease, error));
                }
            };
            lease.disconnect();
            match error.progress {
                Progress::Unsent if unsent < UNSENT_RETRIES => {
                    attempt.excused();
                    unsent += 1;
                }
                Progress::ReusedClosed if !replayed && replayable => {
                    attempt.excused();
                    replayed = true;
                }
                progress => {
                    let detail = format!("{} {}", endpoint.address(), describe(progress));
                    let error = ConnectError::new(error.error, detail);
                    attempt.failed(&error);
                    let mut failed = Failed::at(&lease, error);
                    if progress == Progress::Unsent {
                        failed.processed = Processed::Never;
                    }
                    return Err(failed);
                }
            }
        }
    }

    /// The warmest idle connection for one request.
    fn warm_http1(&self, lease: &Lease, replayable: bool) -> Option<h1::Connection> {
        let idle = lease.endpoint().http1.take(super::now(), replayable)?;
        lease.carry(idle.permit);
        Some(idle.connection)
    }

    /// A new connection for one request, or one that another request gave back in the meantime.
    async fn fresh_http1(&self, lease: &Lease) -> Result<h1::Connection, ConnectError> {
        let endpoint = lease.endpoint();
        let permit = match self.connection_permit() {
            Some(permit) => permit,
            None => match lease.in_queue(self.wait_http1()).await? {
                Waited::Permit(permit) => permit,
                Waited::Returned(returned) => {
                    let Returned { endpoint, idle } = *returned;
                    lease.move_to(endpoint);
                    lease.carry(idle.permit);
                    return Ok(idle.connection);
                }
            },
        };
        let stream = self.open(&endpoint, Alpn::Http1).await?;
        lease.carry(permit);
        Ok(h1::Connection::new(stream, &self.shared.http))
    }

    async fn send_http2(
        self: &Rc<Self>,
        lease: Rc<Lease>,
        request: &mut Request<Body>,
        terms: Terms<'_>,
    ) -> Outcome {
        let endpoint = lease.endpoint();
        if let Err(error) = make_http2(request, self.name()) {
            let detail = format!("the Host field is not an authority: {error}");
            let error = ConnectError::new(RequestError::BadRequest, detail);
            return Err(Failed::before(error));
        }
        let mut unsent = 0;
        loop {
            let stream = match endpoint.http2.stream(self.max_requests_per_connection()) {
                Some(stream) => stream,
                // Seldom, and large: not in the memory of every request.
                None => terms
                    .within(Box::pin(self.await_http2_stream(&lease)).as_mut())
                    .await
                    .unwrap_or_else(|| Err(self.no_connection(&lease)))
                    .map_err(|error| Failed::at(&lease, error))?,
            };
            let attempt = self.attempt(&endpoint);
            let answer = terms.within(pin!(stream.send(mem::take(request)))).await;
            let error = match answer {
                None => no_answer(&endpoint),
                // The connection has held the size of the head to its limit, not the number of fields.
                Some(Ok(response)) if response.headers().len() > self.shared.http.header_fields => {
                    let fields = response.headers().len();
                    let detail = format!("{} answered with {fields} fields", endpoint.address());
                    ConnectError::new(RequestError::UpstreamProtocolError, detail)
                }
                Some(Ok(response)) => {
                    let head = attempt.responded(&response);
                    let unfinished = lease.in_flight().answered(head);
                    return Ok(Sent::over_http2(response, lease, stream, unfinished));
                }
                Some(Err(http2::NoResponse::Unsent(again))) => {
                    *request = *again;
                    if unsent < UNSENT_RETRIES {
                        attempt.excused();
                        unsent += 1;
                        continue;
                    }
                    let detail = format!("{} closes every connection", endpoint.address());
                    ConnectError::new(RequestError::UpstreamRefusedStream, detail)
                }
                Some(Err(http2::NoResponse::Failed(error, cause))) => {
                    let detail = format!("{}: {cause}", endpoint.address());
                    ConnectError::new(error, detail)
                }
            };
            attempt.failed(&error);
            return Err(Failed::at(&lease, error));
        }
    }

    /// A stream for one request, once a connection has room or a new one is open.
    async fn await_http2_stream(
        self: &Rc<Self>,
        lease: &Lease,
    ) -> Result<http2::StreamSlot, ConnectError> {
        let endpoint = lease.endpoint();
        let mut permit = None;
        let mut in_vain = 0;
        loop {
            if let Some(stream) = endpoint.http2.stream(self.max_requests_per_connection()) {
                return Ok(stream);
            }
            if let Some(opening) = endpoint.http2.opening() {
                permit = None;
                opening.finished().await?;
                continue;
            }
            match permit.take().or_else(|| self.connection_permit()) {
                Some(permit) => {
                    let opening = endpoint.http2.open();
                    // In a task of its own: the request that began it may be cancelled, the others wait on.
                    spawn_local(self.clone().open_http2(endpoint.clone(), permit));
                    opening.finished().await?;
                    if endpoint.http2.is_empty() {
                        in_vain += 1;
                    }
                    if in_vain > UNSENT_RETRIES {
                        let detail = format!("{} closes every connection", endpoint.address());
                        return Err(ConnectError::new(
                            RequestError::UpstreamRefusedStream,
                            detail,
                        ));
                    }
                }
                None => permit = lease.in_queue(self.wait_http2()).await?,
            }
        }
    }

    /// The time of an attempt passed without a connection. The endpoint has not seen the request.
    fn no_connection(&self, lease: &Lease) -> ConnectError {
        if lease.is_queued() {
            return self.waited_in_vain();
        }
        let address = lease.endpoint().address();
        ConnectError::new(
            RequestError::UpstreamConnectTimeout,
            format!("no connection to {address} within the time of one attempt"),
        )
    }

    async fn open_http2(self: Rc<Self>, endpoint: Rc<LiveEndpoint>, permit: Permit) {
        let deadline = Instant::now() + self.connect_timeout();
        let opened = match self.open(&endpoint, Alpn::Http2).await {
            Err(error) => Err(error),
            Ok(stream) => {
                let attempt = self.attempt(&endpoint);
                let limits = self.http_limits();
                let handshake = http2::Connection::handshake(
                    stream,
                    &limits,
                    endpoint.counters.clone(),
                    self.queue.stream_freed.clone(),
                    permit,
                );
                let handshake = match timeout_at(deadline, handshake).await {
                    Ok(Ok(connection)) => Ok(connection),
                    Ok(Err(cause)) => Err((RequestError::UpstreamConnectFailed, cause)),
                    Err(_) => Err((RequestError::UpstreamConnectTimeout, "no answer".into())),
                };
                let handshake = handshake.map_err(|(error, cause)| {
                    let detail = format!("HTTP/2 with {}: {cause}", endpoint.address());
                    ConnectError::new(error, detail)
                });
                match &handshake {
                    Ok(_) => attempt.excused(),
                    Err(error) => attempt.failed(error),
                }
                handshake
            }
        };
        endpoint.http2.opened(opened);
    }
}

impl Terms<'_> {
    /// Waits for a part of the attempt; `None` when that has taken too long.
    async fn within<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => match self.patience {
                Some(patience) => patience.poll_passed(cx).map(|()| None),
                None => Poll::Pending,
            },
        })
        .await
    }
}

impl Sent {
    fn over_http2(
        response: Response<Incoming>,
        lease: Rc<Lease>,
        stream: http2::StreamSlot,
        unfinished: Option<Unfinished>,
    ) -> Self {
        let endpoint = lease.endpoint();
        let hold = Hold::http(lease.clone(), Some(stream));
        let (head, body) = response.into_parts();
        let (body, hold) = match body.is_end_stream() {
            true => {
                if let Some(unfinished) = unfinished {
                    unfinished.complete();
                }
                (Body::Empty, hold)
            }
            false => {
                let observer = HoldToEnd::new(hold, unfinished);
                let body = Body::h2_response(body).observed(observer);
                (body, Hold::http(lease, None))
            }
        };
        Self {
            response: Response::from_parts(head, body),
            endpoint,
            hold,
        }
    }
}

impl Failed {
    /// No endpoint was chosen.
    fn before(error: ConnectError) -> Box<Self> {
        Box::new(Self {
            error: error.error,
            detail: error.detail.to_string(),
            processed: Processed::Never,
            endpoint: None,
        })
    }

    /// The endpoint was tried.
    fn at(lease: &Lease, error: ConnectError) -> Box<Self> {
        let endpoint = lease.endpoint();
        if error.error.fault() == Fault::Upstream {
            endpoint.counters.failures.increment();
        }
        lease.in_flight().failed(error.error);
        Box::new(Self {
            error: error.error,
            detail: error.detail.to_string(),
            processed: error.error.processed(),
            endpoint: Some(endpoint),
        })
    }
}

/// RFC 9110 section 9.2.2: what an automatic retry must be. A body would have to be kept to be sent again.
fn may_replay(request: &Request<Body>) -> bool {
    request.method().is_idempotent() && request.body().is_end_stream()
}

/// The time of an attempt passed without an answer.
fn no_answer(endpoint: &LiveEndpoint) -> ConnectError {
    let address = endpoint.address();
    ConnectError::new(
        RequestError::UpstreamTimeout,
        format!("{address} did not answer within the time of one attempt"),
    )
}

fn describe(progress: Progress) -> &'static str {
    match progress {
        Progress::Unsent => "closes every connection",
        Progress::ReusedClosed => "closed the idle connection before it answered",
        Progress::Sent => "did not answer on the connection",
    }
}
