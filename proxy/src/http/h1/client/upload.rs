//! The body of a request on its way to the endpoint.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Body as _;

use crate::http::{
    body::{Body, BodyError},
    h1::{
        framing::{BodyLength, encode::Encoder},
        wire::Wire,
    },
};

/// What is left of a request's body.
#[derive(Debug)]
pub(super) struct Upload {
    body: Body,
    encoder: Encoder,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Waits for `100 Continue`.
    Held,
    Open,
    /// The last byte is queued.
    Queued,
    /// The last byte is written.
    Done,
    /// The endpoint takes no more. What it answers still counts.
    Refused,
}

impl Upload {
    pub(super) fn new(body: Body, length: BodyLength, held: bool) -> Self {
        Self {
            state: match (body.is_end_stream(), held) {
                (true, _) if matches!(length, BodyLength::Empty | BodyLength::Known(0)) => {
                    State::Queued
                }
                (_, true) => State::Held,
                (_, false) => State::Open,
            },
            body,
            encoder: Encoder::new(length),
        }
    }

    /// Moves the upload as far as body and socket allow, the head of the request included.
    ///
    /// Pending or not is for the wakers alone. An error means that the body can't be had: the connection
    /// is useless.
    pub(super) fn poll(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Result<(), BodyError> {
        loop {
            let mut starved = false;
            while self.state == State::Open && !starved && wire.outgoing.has_room() {
                if self.body.is_end_stream() {
                    self.end(None, wire)?;
                    continue;
                }
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Pending => starved = true,
                    Poll::Ready(None) => self.end(None, wire)?,
                    Poll::Ready(Some(Err(error))) => return Err(error),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => self
                            .encoder
                            .data(data, &mut wire.outgoing)
                            .map_err(|_| BodyError::DownstreamProtocol)?,
                        Err(frame) => self.end(frame.trailers_ref(), wire)?,
                    },
                }
            }
            if self.state == State::Refused {
                return Ok(());
            }
            match (wire.poll_flush(cx), self.state) {
                (Poll::Pending, _) => return Ok(()),
                (Poll::Ready(Err(error)), _) => {
                    tracing::debug!(%error, "endpoint takes no more of the request");
                    self.state = State::Refused;
                }
                (Poll::Ready(Ok(())), State::Open) if !starved => {}
                (Poll::Ready(Ok(())), State::Queued) => self.state = State::Done,
                (Poll::Ready(Ok(())), _) => return Ok(()),
            }
        }
    }

    fn end(
        &mut self,
        trailers: Option<&http::HeaderMap>,
        wire: &mut Wire,
    ) -> Result<(), BodyError> {
        self.state = State::Queued;
        self.encoder
            .end(trailers, &mut wire.outgoing)
            .map_err(|_| BodyError::DownstreamProtocol)
    }

    /// The endpoint wants the body.
    pub(super) fn release(&mut self) {
        if self.state == State::Held {
            self.state = State::Open;
        }
    }

    /// Whether the body waits for the endpoint's word.
    pub(super) fn is_held(&self) -> bool {
        self.state == State::Held
    }

    /// Whether the endpoint has the whole request.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }
}
