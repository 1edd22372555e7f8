//! The client's side: one request at a time over a connection that goes back to its pool.

mod response;
mod send;
mod upload;

use std::{fmt, rc::Rc};

use http::{Request, Response};

pub(super) use self::response::ResponseBody;
use super::{head::HeadLimits, wire::Wire};
use crate::{
    error::RequestError,
    http::{body::Body, limits::HttpLimits},
    net::stream::{Idle, Stream},
};

/// Takes a connection back when its response is complete and it can carry another request.
pub trait Recycle {
    /// Called at most once for each send, from inside [`Connection::send`] or a poll of the response's body;
    /// a connection that can't be used again is closed instead.
    fn recycle(&self, connection: Connection);
}

/// An upstream connection with no request on it.
pub struct Connection {
    /// In a box: it goes from hand to hand with every request.
    wire: Box<Wire>,
    head_limits: HeadLimits,
    continue_timeout: std::time::Duration,
    requests: u64,
}

/// A request that got no response.
#[derive(Debug)]
pub struct SendError {
    /// Why.
    pub error: RequestError,
    /// How far it went.
    pub progress: Progress,
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
        Self {
            wire: Box::new(Wire::new(stream)),
            head_limits: limits.into(),
            continue_timeout: limits.continue_timeout,
            requests: 0,
        }
    }

    /// Whether a request may be sent: the endpoint has neither closed nor said anything unasked.
    ///
    /// Asks the kernel and does not wait.
    pub fn is_open(&mut self) -> bool {
        self.wire.incoming.is_empty()
            && !self.wire.ended()
            && self.wire.stream_mut().idle() == Idle::Quiet
    }

    /// How many requests it has carried.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// The stream below, to look at.
    pub fn stream(&self) -> &Stream {
        self.wire.stream()
    }

    /// Sends a request and returns when the head of its final response is there. The body is taken out of
    /// the request, and put back where the request fails and can be sent again.
    ///
    /// Looks once more for an end that the runtime already knows of; [`Connection::is_open`] knows more.
    ///
    /// Dropping the future, or the response's body before its end, closes the connection. Informational
    /// responses go to the caller whom [`serve`](super::serve) is answering. A body is held back for
    /// `Expect: 100-continue` until the endpoint agrees, answers, or has been silent for
    /// [`HttpLimits::continue_timeout`]. When the response comes before the request is sent to its end,
    /// its body carries the rest of the upload; when it is over before that, the upload is given up.
    ///
    /// A response that switches protocols has a [`Body::Upgrade`] with the stream.
    pub fn send(
        self,
        request: &mut Request<Body>,
        pool: Rc<dyn Recycle>,
    ) -> impl Future<Output = Result<Response<Body>, SendError>> {
        // Not an `async fn`: its future would hold the connection a second time.
        send::send(self, request, pool)
    }

    /// Gives the connection to the pool.
    fn recycle(mut self, pool: &dyn Recycle) {
        self.wire.release();
        pool.recycle(self);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &self.stream().peer_addr().ok())
            .field("requests", &self.requests)
            .finish()
    }
}

#[cfg(test)]
mod tests;
