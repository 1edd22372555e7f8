//! The body of a response, which owns its connection until it is over.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::{Connection, Recycle, upload::Upload};
use crate::http::{
    body::BodyError,
    h1::framing::decode::{Decoded, Decoder, FramingError},
};

/// See [`IncomingBody`](crate::http::h1::IncomingBody).
pub(in crate::http::h1) struct ResponseBody {
    source: Source,
    decoder: Decoder,
    /// The rest of the request, where the endpoint has answered early.
    upload: Upload,
    /// Where the connection goes, if both sides mean to keep it.
    recycle: Option<Recycle>,
}

enum Source {
    Open(Connection),
    Over,
    Failed(BodyError),
}

impl ResponseBody {
    pub(super) fn new(
        connection: Connection,
        decoder: Decoder,
        upload: Upload,
        recycle: Option<Recycle>,
    ) -> Self {
        Self {
            source: Source::Open(connection),
            decoder,
            upload,
            recycle,
        }
    }

    pub(in crate::http::h1) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll_progress(cx);
        let connection = match &mut self.source {
            Source::Open(connection) => connection,
            Source::Over => return Poll::Ready(None),
            Source::Failed(error) => return Poll::Ready(Some(Err(*error))),
        };
        let wire = &mut connection.wire;
        let frame = loop {
            match self.decoder.decode(&mut wire.incoming) {
                Ok(Decoded::Data(data)) => break Some(Frame::data(data)),
                Ok(Decoded::Trailers(trailers)) => break Some(Frame::trailers(trailers)),
                Ok(Decoded::End) => break None,
                Ok(Decoded::NeedMore) => {}
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
            }
            match ready!(wire.poll_fill(cx)) {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(error) = self.decoder.end_of_input() {
                        return Poll::Ready(Some(Err(self.fail(error))));
                    }
                }
                // Without close_notify or FIN even a body without a length is not whole.
                Err(_) => return Poll::Ready(Some(Err(self.fail(FramingError::Truncated)))),
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
        if let Source::Open(connection) = &mut self.source
            && let Err(error) = self.upload.poll(&mut connection.wire, cx)
        {
            self.source = Source::Failed(error);
        }
    }

    pub(in crate::http::h1) fn is_end_stream(&self) -> bool {
        matches!(self.source, Source::Over)
    }

    pub(in crate::http::h1) fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }

    fn finish(&mut self) {
        let source = std::mem::replace(&mut self.source, Source::Over);
        if let (Source::Open(connection), Some(recycle)) = (source, self.recycle.take())
            && self.upload.is_done()
            && connection.wire.incoming.is_empty()
            && !connection.wire.ended()
        {
            connection.recycle(&recycle);
        }
    }

    fn fail(&mut self, error: FramingError) -> BodyError {
        let error = match error {
            FramingError::Truncated => BodyError::UpstreamReset,
            FramingError::ChunkSize
            | FramingError::ChunkExtension
            | FramingError::ChunkEnd
            | FramingError::Trailers => {
                tracing::debug!(?error, "response body broke its framing");
                BodyError::UpstreamProtocol
            }
        };
        self.source = Source::Failed(error);
        error
    }
}
