//! What becomes of a connection that stops speaking HTTP: 101 Switching Protocols, and CONNECT.

use std::{fmt, pin::Pin};

use crate::net::{stream::Stream, tunnel::tunnel};

type Continuation = Box<dyn FnOnce(Stream) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Takes over the downstream connection once the response head is on its way to the caller.
///
/// It stands where the response's body would be: [`Body::Upgrade`](crate::http::body::Body::Upgrade).
/// [`Connection::send`](super::Connection::send) answers with one that holds the upstream connection;
/// whoever wants to watch the tunnel takes that stream out and puts a continuation in.
pub struct Upgrade(Inner);

enum Inner {
    Upstream(Box<Stream>),
    Continuation(Continuation),
}

impl Upgrade {
    /// Joins the caller to `upstream`, byte for byte.
    pub fn to(upstream: Stream) -> Self {
        Self(Inner::Upstream(Box::new(upstream)))
    }

    /// Hands the caller's connection to `continuation`, with whatever was read beyond the request.
    ///
    /// It runs as a part of `serve`, which returns when it does.
    pub fn then<F: Future<Output = ()> + 'static>(
        continuation: impl FnOnce(Stream) -> F + 'static,
    ) -> Self {
        Self(Inner::Continuation(Box::new(move |downstream| {
            Box::pin(continuation(downstream))
        })))
    }

    /// The upstream connection, with whatever was read beyond the response head.
    pub fn into_upstream(self) -> Result<Stream, Self> {
        match self.0 {
            Inner::Upstream(upstream) => Ok(*upstream),
            inner => Err(Self(inner)),
        }
    }

    /// Carries bytes until both sides are done.
    pub(super) fn run(self, downstream: Stream) -> Pin<Box<dyn Future<Output = ()>>> {
        match self.0 {
            Inner::Continuation(continuation) => continuation(downstream),
            Inner::Upstream(upstream) => Box::pin(async move {
                tunnel(downstream, *upstream, None).await;
            }),
        }
    }
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Upstream(_) => "Upgrade(upstream)",
            Inner::Continuation(_) => "Upgrade(continuation)",
        })
    }
}
