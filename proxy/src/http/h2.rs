//! The server's side of HTTP/2, by hyper: limits, drain, and one local task per stream.
//!
//! Extended CONNECT (RFC 8441) is not offered: WebSocket travels by HTTP/1.1.

use super::{
    body::Body,
    h1::{Handler, Refusal, ServeEnd},
    limits::HttpLimits,
};
use crate::{
    deadline::{Deadline, Deadlines},
    drain::Drain,
    error::RequestError,
    net::{batch::batched, stream::Stream},
};
use http::{Request, Response};
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{cell::Cell, pin::pin, rc::Rc, time::Duration};
use tokio::{
    sync::Notify,
    task::spawn_local,
    time::{Instant, timeout},
};

/// A peer that answers no ping for this long is gone.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Streams that the peer reset before we took them in (CVE-2023-44487), and streams that we reset for its
/// mistakes (RUSTSEC-2024-0332 and the like): past these numbers the connection ends. hyper's own defaults,
/// written down because they are limits of ours.
const PENDING_RESETS: usize = 20;
const LOCAL_RESETS: usize = 1024;

/// Serves one connection until it ends.
pub async fn serve<H: Handler + 'static>(
    io: Stream,
    limits: &HttpLimits,
    drain: &Drain,
    deadlines: &Deadlines,
    handler: Rc<H>,
) -> ServeEnd {
    let streams = Rc::new(Streams::new(deadlines.deadline(), limits.idle_timeout));
    let counted = streams.clone();
    let header_fields = limits.header_fields;
    let service = service_fn(move |request| {
        let stream = counted.open();
        let handler = handler.clone();
        async move {
            let response = respond(&*handler, request, header_fields).await;
            drop(stream);
            response
        }
    });
    let (io, batch) = batched(io);
    let connection = http2::Builder::new(LocalExecutor)
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_concurrent_streams)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_send_buf_size(limits.stream_window as usize)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut end = ServeEnd::Closed;
    tokio::select! {
        ended = batch.drive(connection.as_mut()) => return closed(ended),
        () = told_to_go(drain, &streams, limits.drain_grace) => {}
        () = streams.idle.passed() => end = ServeEnd::Idle,
    }
    // GOAWAY: streams under way finish, none begins.
    connection.as_mut().graceful_shutdown();
    match batch.drive(connection).await {
        Ok(()) => end,
        ended @ Err(_) => closed(ended),
    }
}

/// Returns when a drain has begun. A connection that is only just being made gets to send its first request:
/// its caller did not know, and a GOAWAY before that would leave it with nothing but to come back.
async fn told_to_go(drain: &Drain, streams: &Streams, grace: Duration) {
    drain.signaled().await;
    if !streams.used.get() {
        // Whether a request came or not, it is time to go.
        let _ = timeout(grace, streams.first.notified()).await;
    }
}

async fn respond(
    handler: &impl Handler,
    request: Request<Incoming>,
    header_fields: usize,
) -> Result<Response<Body>, RequestError> {
    if request.headers().len() > header_fields {
        return Ok(handler.refused(&Refusal::from(RequestError::HeadersTooLarge)));
    }
    let mut request = request.map(Body::h2_request);
    match handler.handle(&mut request).await {
        Err(RequestError::DownstreamReset) => Err(RequestError::DownstreamReset),
        Err(error) => Ok(handler.refused(&Refusal::from(error))),
        response => response,
    }
}

fn closed(ended: Result<(), hyper::Error>) -> ServeEnd {
    match ended {
        Ok(()) => ServeEnd::Closed,
        Err(error) => {
            tracing::debug!(%error, "HTTP/2 connection broke off");
            ServeEnd::Aborted(RequestError::DownstreamReset)
        }
    }
}

/// The requests that a connection waits for, and since when it waits for none.
struct Streams {
    open: Cell<usize>,
    used: Cell<bool>,
    first: Notify,
    idle: Deadline,
    idle_timeout: Duration,
}

struct OpenStream(Rc<Streams>);

impl Streams {
    fn new(idle: Deadline, idle_timeout: Duration) -> Self {
        idle.set(Some(Instant::now() + idle_timeout));
        Self {
            open: Cell::new(0),
            used: Cell::new(false),
            first: Notify::new(),
            idle,
            idle_timeout,
        }
    }

    fn open(self: &Rc<Self>) -> OpenStream {
        self.open.set(self.open.get() + 1);
        if !self.used.replace(true) {
            self.first.notify_one();
        }
        self.idle.set(None);
        OpenStream(self.clone())
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let streams = &self.0;
        streams.open.set(streams.open.get() - 1);
        if streams.open.get() == 0 {
            // Bodies may go on for longer: GOAWAY lets them finish.
            let now = Instant::now();
            streams.idle.set(Some(now + streams.idle_timeout));
        }
    }
}

/// Runs what hyper spawns on the worker's own thread.
#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}
