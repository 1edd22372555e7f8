//! The server's side: requests come in one after the other and are answered in order.

use http::{Request, Response};

use super::Refusal;
use crate::{
    drain::Drain,
    error::RequestError,
    http::{body::Body, limits::HttpLimits},
    net::stream::Stream,
};

/// Answers requests.
pub trait Handler {
    /// Answers one request. Dropped when the caller goes away while it runs.
    ///
    /// The request has its version, its target as the caller wrote it, and all its fields; only
    /// `Transfer-Encoding` and `Content-Length` are meant for us already: they are kept, but the framing of
    /// what is sent on is decided by the body. An error is answered by [`Handler::refused`], except
    /// [`RequestError::DownstreamReset`], which closes the connection without a word.
    fn handle(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, RequestError>>;

    /// The answer to what never became a request, and to a request that [`Handler::handle`] gave up.
    fn refused(&self, refusal: &Refusal) -> Response<Body> {
        refusal.response()
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServeEnd {
    /// After a complete response, or between requests: by either side, or by a drain.
    Closed,
    /// No request came for the idle timeout.
    Idle,
    /// A request was refused, and nothing behind it can be read.
    Refused(RequestError),
    /// A message broke off in the middle.
    Aborted(RequestError),
    /// It changed its protocol, and that has ended.
    Upgraded,
}

/// Serves one connection until it ends.
///
/// Under construction: closes the connection.
pub async fn serve<H: Handler>(
    io: Stream,
    limits: &HttpLimits,
    drain: &Drain,
    handler: &H,
) -> ServeEnd {
    let _ = (io, limits, drain, handler);
    ServeEnd::Closed
}
