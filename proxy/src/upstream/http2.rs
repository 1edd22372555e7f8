//! HTTP/2 connections to an endpoint: several when one has no free stream, each shared by many requests.

use super::{connect::ConnectError, limits::Permit, status::EndpointCounters};
use crate::{
    error::RequestError,
    http::{body::Body, limits::HttpLimits},
    net::{
        batch::{Batch, Batched, batched},
        stream::Stream,
    },
};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    cell::{Cell, OnceCell, RefCell},
    fmt,
    future::{Future, poll_fn},
    io::{self, IoSlice},
    num::NonZeroU32,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    task::spawn_local,
};

/// Between sidecars only, and only while streams are open: a gRPC server takes pings more often than every
/// five minutes for an attack (`too_many_pings`). TCP keepalive watches over the others.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How many streams we may open before we know: a number that no SETTINGS frame can say.
const UNSETTLED: usize = usize::MAX - 1;

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub(super) struct Pool {
    connections: RefCell<Vec<Rc<Connection>>>,
    opening: RefCell<Option<Rc<Opening>>>,
}

impl Pool {
    /// A stream on the connection that has the fewest, if one has room and has not carried `most` requests. Forgets
    /// connections that are closed or were told to go away: their streams finish without the pool.
    pub(super) fn stream(&self, most: Option<NonZeroU32>) -> Option<StreamSlot> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| connection.is_useful());
        let least_busy = connections
            .iter()
            .filter(|connection| connection.has_room())
            .min_by_key(|connection| connection.streams.get())?;
        let carried = least_busy.carried.get() + 1;
        least_busy.carried.set(carried);
        if most.is_some_and(|most| carried >= most.get().into()) {
            least_busy.spent.set(true);
        }
        Some(StreamSlot::on(least_busy))
    }

    /// Whether no connection takes requests, not even later.
    pub(super) fn is_empty(&self) -> bool {
        let connections = self.connections.borrow();
        connections.iter().all(|connection| connection.is_closed())
    }

    /// The handshake that is under way, to wait for instead of starting another one.
    pub(super) fn opening(&self) -> Option<Rc<Opening>> {
        self.opening.borrow().clone()
    }

    /// Announces a handshake. The caller sees to it that [`Pool::opened`] follows.
    pub(super) fn open(&self) -> Rc<Opening> {
        let opening = Rc::new(Opening::default());
        self.opening.replace(Some(opening.clone()));
        opening
    }

    /// Ends the announced handshake.
    pub(super) fn opened(&self, outcome: Result<Connection, ConnectError>) {
        let outcome =
            outcome.map(|connection| self.connections.borrow_mut().push(Rc::new(connection)));
        if let Some(opening) = self.opening.take() {
            opening.finish(outcome);
        }
    }

    /// Lets go of connections that carried no stream for too long.
    pub(super) fn retire_idle(&self, idle_timeout: Duration, now: Instant) {
        self.connections.borrow_mut().retain(|connection| {
            connection.is_useful() && !connection.is_idle_for(idle_timeout, now)
        });
    }

    /// Lets go of a connection without streams. False when there is none.
    pub(super) fn evict_idle(&self) -> bool {
        let mut connections = self.connections.borrow_mut();
        let idle = connections
            .iter()
            .position(|connection| connection.streams.get() == 0);
        idle.map(|index| connections.swap_remove(index)).is_some()
    }

    /// Lets go of every connection. Their streams finish.
    pub(super) fn clear(&self) {
        self.connections.borrow_mut().clear();
    }
}

/// A handshake that several requests wait for.
#[derive(Debug, Default)]
pub(super) struct Opening {
    outcome: OnceCell<Result<(), ConnectError>>,
    done: Notify,
}

impl Opening {
    /// Waits for the end of the handshake; everyone gets the same error.
    pub(super) async fn finished(&self) -> Result<(), ConnectError> {
        loop {
            let done = self.done.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome.clone();
            }
            done.await;
        }
    }

    fn finish(&self, outcome: Result<(), ConnectError>) {
        // Set once: the pool gives up the opening with the first outcome.
        let _ = self.outcome.set(outcome);
        self.done.notify_waiters();
    }
}

/// One HTTP/2 connection. Dropping the last reference sends GOAWAY and closes it.
pub(super) struct Connection {
    sender: RefCell<SendRequest<Body>>,
    driver: Rc<Driver>,
    streams: Cell<u32>,
    /// Requests so far.
    carried: Cell<u64>,
    /// It has carried as many requests as it may.
    spent: Cell<bool>,
    most_streams: u32,
    idle_since: Cell<Instant>,
    /// Told when a stream ends.
    freed: Rc<Notify>,
    counters: Arc<EndpointCounters>,
    _permit: Permit,
}

impl Connection {
    /// Speaks HTTP/2 with prior knowledge (RFC 9113 section 3.3), until the endpoint's SETTINGS are there.
    ///
    /// A request sent before would be refused by an endpoint that allows fewer streams than we assumed, and
    /// lost to an endpoint that does not speak HTTP/2 at all.
    pub(super) async fn handshake(
        stream: Stream,
        limits: &HttpLimits,
        counters: Arc<EndpointCounters>,
        freed: Rc<Notify>,
        permit: Permit,
    ) -> Result<Self, String> {
        let is_tls = stream.is_tls();
        let driver = Rc::<Driver>::default();
        let (io, batch) = batched(Heard {
            stream,
            by: driver.clone(),
        });
        let executor = LocalExecutor {
            batch: Rc::new(batch),
        };
        let mut builder = http2::Builder::new(executor);
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .initial_max_send_streams(UNSETTLED)
            .max_header_list_size(limits.header_bytes.try_into().unwrap_or(u32::MAX));
        if is_tls {
            builder
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT);
        }
        let (sender, connection) = builder
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| error.to_string())?;
        driver.connection.replace(Some(connection));
        spawn_local(driver.clone().run());
        driver.settled().await?;
        counters.http2_idle.increment();
        Ok(Self {
            sender: RefCell::new(sender),
            driver,
            streams: Cell::new(0),
            carried: Cell::new(0),
            spent: Cell::new(false),
            most_streams: limits.max_concurrent_streams,
            idle_since: Cell::new(super::now()),
            freed,
            counters,
            _permit: permit,
        })
    }

    fn is_closed(&self) -> bool {
        self.sender.borrow().is_closed()
    }

    /// Whether it takes requests, now or later, or has some in hand.
    fn is_useful(&self) -> bool {
        let done = self.spent.get() && self.streams.get() == 0;
        !(done || self.is_closed())
    }

    fn has_room(&self) -> bool {
        let streams = self.streams.get();
        !self.spent.get()
            && streams < self.most_streams
            && self
                .driver
                .most_streams()
                .is_some_and(|most| (streams as usize) < most)
    }

    fn is_idle_for(&self, time: Duration, now: Instant) -> bool {
        self.streams.get() == 0 && now.saturating_duration_since(self.idle_since.get()) >= time
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counters.http2_idle.decrement();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("streams", &self.streams.get())
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// A stream that a request may use, given back on drop.
#[derive(Debug)]
pub(super) struct StreamSlot {
    connection: Rc<Connection>,
}

impl StreamSlot {
    fn on(connection: &Rc<Connection>) -> Self {
        let streams = connection.streams.get();
        if streams == 0 {
            connection.counters.http2_idle.decrement();
            connection.counters.http2_active.increment();
        }
        connection.streams.set(streams + 1);
        Self {
            connection: connection.clone(),
        }
    }

    /// Sends a request and waits for the head of its response. Dropping the future resets the stream.
    pub(super) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, NoResponse> {
        let response = self
            .connection
            .sender
            .borrow_mut()
            .try_send_request(request);
        response
            .await
            .map_err(|mut error| match error.take_message() {
                Some(request) => NoResponse::Unsent(Box::new(request)),
                None => NoResponse::failed(&error.into_error()),
            })
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let connection = &self.connection;
        let streams = connection.streams.get() - 1;
        connection.streams.set(streams);
        if streams == 0 {
            connection.counters.http2_active.decrement();
            connection.counters.http2_idle.increment();
            connection.idle_since.set(super::now());
        }
        connection.freed.notify_waiters();
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum NoResponse {
    /// The connection was on its way out: not one byte of the request was sent.
    Unsent(Box<Request<Body>>),
    /// The request was sent, at least in part.
    Failed(RequestError, String),
}

impl NoResponse {
    fn failed(error: &hyper::Error) -> Self {
        let cause = std::error::Error::source(error);
        let h2 = cause.and_then(|cause| cause.downcast_ref::<h2::Error>());
        Self::Failed(
            h2.map_or(RequestError::UpstreamReset, reason),
            describe(error),
        )
    }
}

/// Whose doing the end of a stream was (RFC 9113 sections 5.4, 6.8 and 8.7).
fn reason(error: &h2::Error) -> RequestError {
    if error.is_remote() {
        // GOAWAY reaches a stream as its error only when the stream's id is above the last one processed.
        let refused = error.is_go_away()
            || error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        return match refused {
            true => RequestError::UpstreamRefusedStream,
            false => RequestError::UpstreamReset,
        };
    }
    if error.is_library() {
        return RequestError::UpstreamProtocolError;
    }
    if error.is_reset() {
        // We reset the stream ourselves: the body of the request broke off.
        return RequestError::DownstreamReset;
    }
    RequestError::UpstreamReset
}

type HyperConnection = http2::Connection<TokioIo<Batched<Heard>>, Body, LocalExecutor>;

/// Drives a connection in a task. It is shared with whoever asks how many streams the endpoint's SETTINGS
/// allow at the moment: only hyper's connection knows.
#[derive(Default)]
struct Driver {
    /// Dropped when it is done: requests that hyper has in its queue come back by that.
    connection: RefCell<Option<HyperConnection>>,
    /// Why it is done.
    end: OnceCell<String>,
    /// The endpoint said something, or the connection is done.
    heard: Notify,
}

impl Driver {
    async fn run(self: Rc<Self>) {
        let end = poll_fn(|cx| match self.connection.borrow_mut().as_mut() {
            Some(connection) => Pin::new(connection).poll(cx),
            None => Poll::Ready(Ok(())),
        })
        .await;
        self.connection.take();
        let end = end.map_or_else(|error| describe(&error), |()| "closed".to_owned());
        tracing::debug!(end, "upstream HTTP/2 connection ended");
        self.end.set(end).expect("a connection is driven once");
        self.heard.notify_waiters();
    }

    /// Waits for the first SETTINGS.
    async fn settled(&self) -> Result<(), String> {
        loop {
            let heard = self.heard.notified();
            if let Some(end) = self.end.get() {
                return Err(end.clone());
            }
            if self.most_streams() != Some(UNSETTLED) {
                return Ok(());
            }
            heard.await;
        }
    }

    /// How many streams the endpoint allows now.
    fn most_streams(&self) -> Option<usize> {
        let connection = self.connection.borrow();
        connection
            .as_ref()
            .map(http2::Connection::current_max_send_streams)
    }
}

/// A stream that says when something was read from it.
struct Heard {
    stream: Stream,
    by: Rc<Driver>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            // What was read is understood before whoever is woken runs: all are tasks of one thread.
            self.by.heard.notify_waiters();
        }
        read
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// hyper's own words ("http2 error") say less than their cause.
fn describe(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Runs hyper's tasks on the worker: one of them reads and writes the connection.
#[derive(Clone)]
struct LocalExecutor {
    batch: Rc<Batch<Heard>>,
}

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future + 'static,
{
    fn execute(&self, task: F) {
        let batch = self.batch.clone();
        spawn_local(async move { batch.drive(pin!(task)).await });
    }
}
