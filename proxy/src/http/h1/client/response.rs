//! The body of a response, which owns its connection until it is over.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Connection, Recycle, upload::Upload};
use crate::http::{
    body::BodyError,
    h1::framing::decode::{Decoded, Decoder, FramingError},
};

/// See [`IncomingBody`](crate::http::h1::IncomingBody).
pub(in crate::http::h1) struct ResponseBody {
    /// `None` once the response is over, or has failed.
    connection: Option<Connection>,
    failed: Option<BodyError>,
    decoder: Decoder,
    /// The rest of the request, where the endpoint has answered early.
    upload: Upload,
    /// Where the connection goes, if both sides mean to keep it.
    pool: Option<Rc<dyn Recycle>>,
}

impl ResponseBody {
    pub(super) fn new(
        connection: Connection,
        decoder: Decoder,
        upload: Upload,
        pool: Option<Rc<dyn Recycle>>,
    ) -> Self {
        Self {
            connection: Some(connection),
            failed: None,
            decoder,
            upload,
            pool,
        }
    }

    pub(in crate::http::h1) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_progress(cx);
        let Some(connection) = &mut self.connection else {
            return Poll::Ready(self.failed.map(Err));
        };
        let wire = &mut connection.wire;
        let frame = loop {
            match self.decoder.decode(&mut wire.incoming) {
                Ok(Decoded::Data(data)) => break Some(Frame::data(data)),
                Ok(Decoded::Trailers(trailers)) => break Some(Frame::trailers(trailers)),
                Ok(Decoded::End) => break None,
                Ok(Decoded::NeedMore) => {}
                Err(error) => return Poll::Ready(Some(Err(self.fail(broken(error))))),
            }
            match ready!(wire.poll_fill(cx)) {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(error) = self.decoder.end_of_input() {
                        return Poll::Ready(Some(Err(self.fail(broken(error)))));
                    }
                }
                // Without close_notify or FIN even a body without a length is not whole.
                Err(_) => return Poll::Ready(Some(Err(self.fail(BodyError::UpstreamReset)))),
            }
        };
        if self.decoder.is_done() {
            // At once, as nobody has to poll a body that says it is over.
            self.finish();
        }
        Poll::Ready(frame.map(Ok))
    }

    /// Carries on with the request while nobody asks for more of the response.
    pub(in crate::http::h1) fn poll_progress(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && let Err(error) = self.upload.poll(&mut connection.wire, cx)
        {
            self.fail(error);
        }
    }

    pub(in crate::http::h1) fn is_end_stream(&self) -> bool {
        self.connection.is_none() && self.failed.is_none()
    }

    pub(in crate::http::h1) fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }

    fn finish(&mut self) {
        if let (Some(connection), Some(pool)) = (self.connection.take(), self.pool.take())
            && self.upload.is_done()
            && connection.wire.incoming.is_empty()
            && !connection.wire.ended()
        {
            connection.recycle(&*pool);
        }
    }

    /// Closes the connection. What was read so far must not be taken for the whole.
    fn fail(&mut self, error: BodyError) -> BodyError {
        self.connection = None;
        *self.failed.insert(error)
    }
}

fn broken(error: FramingError) -> BodyError {
    match error {
        FramingError::Truncated => BodyError::UpstreamReset,
        FramingError::ChunkSize
        | FramingError::ChunkExtension
        | FramingError::ChunkEnd
        | FramingError::Trailers => {
            tracing::debug!(?error, "response body broke its framing");
            BodyError::UpstreamProtocol
        }
    }
}
