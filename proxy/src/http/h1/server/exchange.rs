//! What the loop of a connection and the body of its current request share: the wire.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{BufMut, Bytes};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};

use crate::http::{
    body::BodyError,
    h1::{
        framing::decode::{Decoded, Decoder, FramingError},
        head::encode::{self, Persistence},
        informational::Sink,
        wire::Wire,
    },
};

/// Bytes of informational responses that wait for a caller who does not read. More are dropped.
const INFORMATIONAL_WAITING: usize = 16 * 1024;

/// How far a caller that sends its next requests early is read ahead.
const READ_AHEAD: usize = 8 * 1024;

/// A downstream connection.
#[derive(Debug)]
pub(super) struct Exchange {
    state: RefCell<State>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) wire: Wire,
    /// The body of the current request.
    pub(super) decoder: Decoder,
    /// Which request is current: bodies of earlier ones read nothing.
    request: u64,
    /// The caller waits for `100 Continue` before it sends the body.
    pub(super) expects_continue: bool,
    /// The caller may still be sent informational responses.
    informational: bool,
    /// The framing of the body broke: nothing behind it can be read.
    pub(super) broken: Option<BodyError>,
}

impl Exchange {
    pub(super) fn new(wire: Wire) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State {
                wire,
                decoder: Decoder::Done,
                request: 0,
                expects_continue: false,
                informational: false,
                broken: None,
            }),
        })
    }

    /// Never across an await, nor while a handler or a body is polled.
    pub(super) fn state(&self) -> std::cell::RefMut<'_, State> {
        self.state.borrow_mut()
    }

    /// Takes the wire out, once nobody else refers to it.
    pub(super) fn into_wire(self: Rc<Self>) -> Option<Wire> {
        Rc::into_inner(self).map(|exchange| exchange.state.into_inner().wire)
    }
}

impl State {
    /// Begins a request with such a body.
    pub(super) fn begin(&mut self, decoder: Decoder, expects_continue: bool, informational: bool) {
        self.request += 1;
        self.expects_continue = expects_continue && !decoder.is_done();
        self.informational = informational;
        self.decoder = decoder;
    }

    /// The final response has begun, so informational ones are over.
    pub(super) fn answer(&mut self) {
        self.informational = false;
    }

    /// The body of the current request belongs to nobody from here on.
    pub(super) fn disown_body(&mut self) {
        self.request += 1;
    }

    /// Ready with an error as soon as the caller is known to be gone. Its FIN does not count: a caller may
    /// finish sending and still wait for the answer.
    ///
    /// A reset is seen by reading, which is for the body alone as long as there is one.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.decoder.is_done() && !self.wire.ended() && self.wire.incoming.len() < READ_AHEAD
        {
            if let Err(error) = ready!(self.wire.poll_fill(cx)) {
                return Poll::Ready(error);
            }
        }
        Poll::Pending
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.broken {
            return Poll::Ready(Some(Err(error)));
        }
        if std::mem::take(&mut self.expects_continue) && self.informational {
            let out = self.wire.outgoing.text();
            out.put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if !self.wire.outgoing.is_empty() && self.informational {
            // The loop of the connection goes on with what does not fit, and sees errors.
            let _ = self.wire.poll_flush(cx);
        }
        loop {
            match self.decoder.decode(&mut self.wire.incoming) {
                Ok(Decoded::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Decoded::Trailers(trailers)) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Decoded::End) => return Poll::Ready(None),
                Ok(Decoded::NeedMore) => {}
                Err(error) => return Poll::Ready(Some(Err(self.fail(error)))),
            }
            match ready!(self.wire.poll_fill(cx)) {
                Ok(true) => {}
                Ok(false) => {
                    if let Err(error) = self.decoder.end_of_input() {
                        return Poll::Ready(Some(Err(self.fail(error))));
                    }
                }
                Err(_) => return Poll::Ready(Some(Err(self.fail(FramingError::Truncated)))),
            }
        }
    }

    fn fail(&mut self, error: FramingError) -> BodyError {
        let error = match error {
            FramingError::Truncated => BodyError::DownstreamReset,
            FramingError::ChunkSize
            | FramingError::ChunkExtension
            | FramingError::ChunkEnd
            | FramingError::Trailers => {
                tracing::debug!(?error, "request body broke its framing");
                BodyError::DownstreamProtocol
            }
        };
        *self.broken.insert(error)
    }
}

impl Sink for Exchange {
    fn informational(&self, status: StatusCode, headers: &HeaderMap) {
        let mut state = self.state();
        if state.informational && state.wire.outgoing.len() < INFORMATIONAL_WAITING {
            let out = state.wire.outgoing.text();
            encode::response(status, headers, None, Persistence::Implied, out);
        }
    }
}

/// The body of a request.
#[derive(Debug)]
pub(in crate::http::h1) struct RequestBody {
    exchange: Rc<Exchange>,
    request: u64,
}

impl RequestBody {
    /// The body of the current request.
    pub(super) fn current(exchange: &Rc<Exchange>) -> Self {
        Self {
            exchange: exchange.clone(),
            request: exchange.state().request,
        }
    }

    /// The next frame. After the response has gone out, the body is cut off.
    pub(in crate::http::h1) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut state = self.exchange.state();
        if state.request == self.request {
            state.poll_body(cx)
        } else {
            Poll::Ready(Some(Err(BodyError::DownstreamReset)))
        }
    }

    pub(in crate::http::h1) fn is_end_stream(&self) -> bool {
        let state = self.exchange.state();
        state.request == self.request && state.decoder.is_done() && state.broken.is_none()
    }

    pub(in crate::http::h1) fn size_hint(&self) -> SizeHint {
        let state = self.exchange.state();
        if state.request == self.request {
            state.decoder.size_hint()
        } else {
            SizeHint::new()
        }
    }
}
