//! The one body type of the data path, whatever version it came by and goes out by.

mod observed;
mod replay;
mod trailers;

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use observed::Observed;
pub use observed::{BodyEnd, Observer};
pub use replay::Replay;

use crate::{
    error::RequestError,
    http::h1::{IncomingBody, Upgrade},
};

/// A body of any other kind. It must be cheap to poll again after its end.
pub type BoxedBody = Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError>>>;

/// A request or response body.
#[derive(Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// All of it, in memory.
    Full(Bytes),
    /// Read from an HTTP/1.1 connection as it is polled.
    H1(IncomingBody),
    /// Read from an HTTP/2 connection as it is polled.
    H2 {
        /// The stream of frames.
        body: hyper::body::Incoming,
        /// Who sends them, and so whose fault an end before time is.
        from: Peer,
    },
    /// No body: the connection changes its protocol after this head (101, or 2xx to CONNECT).
    Upgrade(Upgrade),
    /// Another body, and someone who watches it. See [`Body::observed`].
    Observed(Box<Observed>),
    /// Anything else.
    Boxed(BoxedBody),
}

/// The side of the proxy that a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// The caller: it sends request bodies.
    Downstream,
    /// The endpoint: it sends response bodies.
    Upstream,
}

/// Why a body ended before its end. Whoever passes the message on must not end it cleanly either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The caller closed or reset in the middle of the request.
    #[error("the caller went away before the request was complete")]
    DownstreamReset,
    /// The caller broke the framing of the request.
    #[error("the caller broke the framing of the request body")]
    DownstreamProtocol,
    /// The endpoint closed or reset in the middle of the response.
    #[error("the endpoint went away before the response was complete")]
    UpstreamReset,
    /// The endpoint broke the framing of the response.
    #[error("the endpoint broke the framing of the response body")]
    UpstreamProtocol,
    /// The request timeout passed.
    #[error("the request timeout passed before the body was complete")]
    RequestTimeout,
    /// Nothing moved for the idle timeout of a stream.
    #[error("no byte of the body moved for the idle timeout")]
    StreamIdleTimeout,
    /// The proxy failed an invariant of its own.
    #[error("the proxy failed to carry the body")]
    Internal,
}

impl From<BodyError> for RequestError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::DownstreamReset => Self::DownstreamReset,
            BodyError::DownstreamProtocol => Self::BadRequest,
            BodyError::UpstreamReset => Self::UpstreamReset,
            BodyError::UpstreamProtocol => Self::UpstreamProtocolError,
            BodyError::RequestTimeout => Self::RequestTimeout,
            BodyError::StreamIdleTimeout => Self::StreamIdleTimeout,
            BodyError::Internal => Self::Internal,
        }
    }
}

impl Body {
    /// A body that is all here. No bytes make an empty one.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(bytes)
        }
    }

    /// The body of a request that came by HTTP/2.
    pub fn h2_request(body: hyper::body::Incoming) -> Self {
        Self::H2 {
            body,
            from: Peer::Downstream,
        }
    }

    /// The body of a response that came by HTTP/2.
    pub fn h2_response(body: hyper::body::Incoming) -> Self {
        Self::H2 {
            body,
            from: Peer::Upstream,
        }
    }

    /// A body of another type.
    pub fn boxed(body: impl http_body::Body<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Self::Boxed(Box::pin(body))
    }

    /// The same body with `trailers` after it. Trailers of its own are replaced.
    pub fn with_trailers(self, trailers: HeaderMap) -> Self {
        Self::boxed(trailers::WithTrailers::new(self, trailers))
    }

    /// The same body with an observer, which learns how much passes and how it ends.
    ///
    /// Unlike a [`Body::boxed`] wrapper this keeps what HTTP/1.1 connections need from a response body:
    /// [`Body::poll_progress`].
    pub fn observed(self, observer: impl Observer + 'static) -> Self {
        Self::Observed(Box::new(Observed::new(self, Box::new(observer))))
    }

    /// The same body once more, where all of it is in memory. It has no observer.
    pub(crate) fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(bytes) => Some(Self::Full(bytes.clone())),
            Self::Observed(observed) => observed.body.replay(),
            Self::H1(_) | Self::H2 { .. } | Self::Upgrade(_) | Self::Boxed(_) => None,
        }
    }

    /// How many bytes it has, where all of it is here and nobody watches it.
    pub(crate) fn in_memory(&self) -> Option<usize> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len()),
            Self::H1(_)
            | Self::H2 { .. }
            | Self::Upgrade(_)
            | Self::Observed(_)
            | Self::Boxed(_) => None,
        }
    }

    /// Takes the upgrade out of a response's body, leaving nothing.
    pub fn take_upgrade(&mut self) -> Option<Upgrade> {
        match self {
            Self::Upgrade(_) => match std::mem::take(self) {
                Self::Upgrade(upgrade) => Some(upgrade),
                _ => None,
            },
            Self::Observed(observed) => observed.body.take_upgrade(),
            _ => None,
        }
    }

    /// Moves on what the body depends on, without asking for a frame.
    ///
    /// The body of an HTTP/1.1 response also carries what is left of its request's upload. Whoever can't
    /// take another frame at the moment calls this instead: a caller that does not read before it has
    /// written everything would otherwise wait for us, and we for it.
    pub(crate) fn poll_progress(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::H1(body) => body.poll_progress(cx),
            Self::Observed(observed) => observed.body.poll_progress(cx),
            Self::Empty | Self::Full(_) | Self::H2 { .. } | Self::Upgrade(_) | Self::Boxed(_) => {}
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty | Self::Upgrade(_) => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::H1(body) => body.poll_frame(cx),
            Self::H2 { body, from } => {
                let frame = ready!(Pin::new(body).poll_frame(cx));
                Poll::Ready(frame.map(|frame| {
                    frame.map_err(|_| match from {
                        Peer::Downstream => BodyError::DownstreamReset,
                        Peer::Upstream => BodyError::UpstreamReset,
                    })
                }))
            }
            Self::Observed(observed) => observed.poll_frame(cx),
            Self::Boxed(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Upgrade(_) => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::H1(body) => body.is_end_stream(),
            Self::H2 { body, .. } => body.is_end_stream(),
            Self::Observed(observed) => observed.body.is_end_stream(),
            Self::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Upgrade(_) => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::H1(body) => body.size_hint(),
            Self::H2 { body, .. } => body.size_hint(),
            Self::Observed(observed) => observed.body.size_hint(),
            Self::Boxed(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Empty => "Empty",
            Self::Full(bytes) => return f.debug_tuple("Full").field(&bytes.len()).finish(),
            Self::H1(_) => "H1",
            Self::H2 { .. } => "H2",
            Self::Upgrade(_) => "Upgrade",
            Self::Observed(observed) => {
                return f.debug_tuple("Observed").field(&observed.body).finish();
            }
            Self::Boxed(_) => "Boxed",
        };
        f.write_str(kind)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::full(bytes)
    }
}

#[cfg(test)]
mod tests;
