//! A body that is read from an HTTP/1.1 connection as it is polled.

use std::{
    fmt,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{client::ResponseBody, server::RequestBody};
use crate::http::body::BodyError;

/// The body of a request that [`serve`](super::serve) read, or of a response to
/// [`Connection::send`](super::Connection::send).
pub struct IncomingBody(Inner);

enum Inner {
    Request(RequestBody),
    Response(Box<ResponseBody>),
}

impl IncomingBody {
    pub(super) fn request(body: RequestBody) -> Self {
        Self(Inner::Request(body))
    }

    pub(super) fn response(body: ResponseBody) -> Self {
        Self(Inner::Response(Box::new(body)))
    }

    pub(in crate::http) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Inner::Request(body) => body.poll_frame(cx),
            Inner::Response(body) => body.poll_frame(cx),
        }
    }

    /// See [`Body::poll_progress`](crate::http::body::Body::poll_progress).
    pub(in crate::http) fn poll_progress(&mut self, cx: &mut Context<'_>) {
        match &mut self.0 {
            Inner::Request(_) => {}
            Inner::Response(body) => body.poll_progress(cx),
        }
    }

    pub(in crate::http) fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Request(body) => body.is_end_stream(),
            Inner::Response(body) => body.is_end_stream(),
        }
    }

    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Request(body) => body.size_hint(),
            Inner::Response(body) => body.size_hint(),
        }
    }
}

impl fmt::Debug for IncomingBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Request(_) => "IncomingBody(request)",
            Inner::Response(_) => "IncomingBody(response)",
        })
    }
}
