//! What a request or an opaque connection takes up for as long as it is under way.

use super::{
    cluster::LiveCluster,
    endpoint::{InFlight, LiveEndpoint},
    http1, http2,
    limits::Permit,
    unfinished::Unfinished,
};
use crate::{
    error::RequestError,
    http::{
        body::{BodyEnd, Observer},
        h1::{self, Recycle},
    },
};
use std::{
    cell::{Cell, Ref, RefCell},
    rc::Rc,
};
use tokio::time::Instant;

/// Keeps a request or connection counted, within its limits and as the load of its endpoint, until dropped.
#[derive(Debug)]
pub struct Hold {
    lease: Rc<Lease>,
    _stream: Option<http2::StreamSlot>,
    _tcp: Option<Tcp>,
}

impl Hold {
    pub(super) fn http(lease: Rc<Lease>, stream: Option<http2::StreamSlot>) -> Self {
        Self {
            lease,
            _stream: stream,
            _tcp: None,
        }
    }

    pub(super) fn tcp(lease: Rc<Lease>, permit: Permit, endpoint: Rc<LiveEndpoint>) -> Self {
        Self {
            lease,
            _stream: None,
            _tcp: Some(Tcp::new(permit, endpoint)),
        }
    }

    /// Lets another request have the place within the limit on requests.
    pub(super) fn release_request(&self) {
        self.lease.release_request();
    }
}

/// Lets go of a hold when the body ends: observers are dropped with their last call.
pub(super) struct HoldToEnd {
    unfinished: Option<Unfinished>,
    _hold: Hold,
}

impl HoldToEnd {
    pub(super) fn new(hold: Hold, unfinished: Option<Unfinished>) -> Self {
        Self {
            unfinished,
            _hold: hold,
        }
    }
}

impl Observer for HoldToEnd {
    fn data(&mut self, bytes: usize) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.data(bytes);
        }
    }

    fn end(&mut self, end: BodyEnd<'_>) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.end(end);
        }
    }
}

/// What a request takes up for as long as it is in flight.
#[derive(Debug)]
pub(super) struct Lease {
    cluster: Rc<LiveCluster>,
    in_flight: RefCell<InFlight>,
    /// The HTTP/1.1 connection that carries it.
    connection: RefCell<Option<http1::Active>>,
    /// Whether it waits for the limit on connections, which the endpoint has no part in.
    queued: Cell<bool>,
    request: RefCell<Option<Permit>>,
}

impl Lease {
    pub(super) fn new(
        cluster: Rc<LiveCluster>,
        endpoint: Rc<LiveEndpoint>,
        request: Option<Permit>,
    ) -> Rc<Self> {
        Rc::new(Self {
            cluster,
            in_flight: RefCell::new(InFlight::begin(endpoint)),
            connection: RefCell::default(),
            queued: Cell::new(false),
            request: RefCell::new(request),
        })
    }

    pub(super) fn endpoint(&self) -> Rc<LiveEndpoint> {
        self.in_flight.borrow().endpoint().clone()
    }

    /// What the endpoint has in hand.
    pub(super) fn in_flight(&self) -> Ref<'_, InFlight> {
        self.in_flight.borrow()
    }

    /// The request goes to another endpoint after all: one whose connection it was handed.
    pub(super) fn move_to(&self, endpoint: Rc<LiveEndpoint>) {
        self.in_flight.borrow_mut().move_to(endpoint);
    }

    /// Nobody waits for the rest of the answer: its place within the limit on requests is free.
    fn release_request(&self) {
        self.request.take();
    }

    /// Whether it waits for the limit on connections.
    pub(super) fn is_queued(&self) -> bool {
        self.queued.get()
    }

    /// Waits for the limit on connections.
    pub(super) async fn in_queue<T>(&self, wait: impl Future<Output = T>) -> T {
        self.queued.set(true);
        let waited = wait.await;
        self.queued.set(false);
        waited
    }

    /// The request is on an HTTP/1.1 connection.
    pub(super) fn carry(&self, permit: Permit) {
        let counters = self.endpoint().counters.clone();
        self.connection
            .replace(Some(http1::Active::new(permit, counters)));
    }

    /// The connection is gone.
    pub(super) fn disconnect(&self) {
        self.connection.take();
    }
}

/// A request whose answer is awaited. When it is given up because its time is over, and not for want of a caller, that
/// is held against its endpoint.
pub(super) struct Awaited<'t> {
    lease: Rc<Lease>,
    deadline: Option<&'t Cell<Option<Instant>>>,
}

impl<'t> Awaited<'t> {
    pub(super) fn begin(lease: &Rc<Lease>, deadline: Option<&'t Cell<Option<Instant>>>) -> Self {
        Self {
            lease: lease.clone(),
            deadline,
        }
    }

    /// There is an answer, or an error.
    pub(super) fn end(mut self) {
        self.deadline = None;
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        let deadline = self.deadline.and_then(Cell::get);
        if !self.lease.is_queued() && deadline.is_some_and(|at| at <= Instant::now()) {
            self.lease.in_flight().failed(RequestError::RequestTimeout);
        }
    }
}

/// Gives the connection back to its pool when the response is complete.
impl Recycle for Lease {
    fn recycle(&self, connection: h1::Connection) {
        // Absent never: the connection that comes back is the one that was carried.
        if let Some(active) = self.connection.take() {
            let idle = active.idle(connection, super::now());
            self.cluster.give_back(self.endpoint(), idle);
        }
    }
}

/// An opaque connection, counted until dropped.
#[derive(Debug)]
struct Tcp {
    endpoint: Rc<LiveEndpoint>,
    _permit: Permit,
}

impl Tcp {
    fn new(permit: Permit, endpoint: Rc<LiveEndpoint>) -> Self {
        endpoint.counters.tcp.increment();
        Self {
            endpoint,
            _permit: permit,
        }
    }
}

impl Drop for Tcp {
    fn drop(&mut self) {
        self.endpoint.counters.tcp.decrement();
    }
}
