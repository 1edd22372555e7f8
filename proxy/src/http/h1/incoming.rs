//! A body that is read from an HTTP/1.1 connection as it is polled.

use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use crate::http::body::BodyError;

/// The body of a request that [`serve`](super::serve) read, or of a response to
/// [`Connection::send`](super::Connection::send).
pub struct IncomingBody(());

impl IncomingBody {
    pub(crate) fn poll_frame(
        &mut self,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(None)
    }

    pub(crate) fn poll_progress(&mut self, _cx: &mut Context<'_>) {}

    pub(crate) fn is_end_stream(&self) -> bool {
        true
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}
