//! The client's side: one request at a time over a connection that goes back to its pool.

use std::{rc::Rc, time::Instant};

use http::{Request, Response};

use crate::{
    error::RequestError,
    http::{body::Body, limits::HttpLimits},
    net::stream::{Idle, Stream},
};

/// Takes a connection back when its response is complete and it can carry another request.
///
/// Called at most once for each send, from inside [`Connection::send`] or a poll of the response's body;
/// a connection that can't be used again is closed instead.
pub type Recycle = Rc<dyn Fn(Connection)>;

/// An upstream connection with no request on it.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    requests: u64,
    idle_since: Instant,
}

/// A request that got no response.
#[derive(Debug)]
pub struct SendError {
    /// Why.
    pub error: RequestError,
    /// How far it went.
    pub progress: Progress,
    /// The request as it was handed in, where it can still be had: always when it is
    /// [`Progress::Unsent`], else when its body was empty or in memory.
    pub request: Option<Request<Body>>,
}

/// How far a failed request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Not one byte was written: the connection was found closed.
    Unsent,
    /// The connection had served a request before, and the endpoint closed it before the first byte of a
    /// response: in all likelihood both sides met while it retired the idle connection.
    ReusedClosed,
    /// The endpoint may have acted on it.
    Sent,
}

impl Connection {
    /// A connection on which nothing was sent yet. `limits` hold for the heads of its responses.
    pub fn new(stream: Stream, limits: &HttpLimits) -> Self {
        let _ = limits;
        Self {
            stream,
            requests: 0,
            idle_since: Instant::now(),
        }
    }

    /// Whether a request may be sent: the endpoint has neither closed nor said anything unasked.
    pub fn is_open(&mut self) -> bool {
        self.stream.idle() == Idle::Quiet
    }

    /// Since when no request is on it.
    pub fn idle_since(&self) -> Instant {
        self.idle_since
    }

    /// How many requests it has carried.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The stream below, to look at.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends a request and returns when the head of its final response is there.
    ///
    /// Under construction: fails.
    pub async fn send(
        self,
        request: Request<Body>,
        recycle: &Recycle,
    ) -> Result<Response<Body>, SendError> {
        let _ = recycle;
        Err(SendError {
            error: RequestError::Internal,
            progress: Progress::Unsent,
            request: Some(request),
        })
    }
}
