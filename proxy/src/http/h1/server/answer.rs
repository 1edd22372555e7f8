//! Writes a response: how it is framed, and whether its connection survives it.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Version, header::CONTENT_LENGTH};
use http_body::{Body as _, Frame};

use super::exchange::Exchange;
use crate::{
    drain::Drain,
    error::RequestError,
    http::{
        body::{Body, BodyError},
        h1::{
            Upgrade,
            framing::{
                self, BodyLength,
                decode::{Decoded, Decoder},
                encode::Encoder,
            },
            head::{
                encode::{self, Persistence},
                parse::RequestHead,
            },
        },
        limits::HttpLimits,
    },
};

/// What a response has to know of its request.
pub(super) struct Asked {
    method: Method,
    version: Version,
    persists: bool,
}

/// What becomes of the connection.
pub(super) enum Answered {
    /// The next request may come.
    Keep,
    /// This was its last response.
    Close,
    /// The response is not complete, and the caller must see that.
    Abort(RequestError),
    /// It speaks another protocol from here on. The body is what watches it.
    Upgrade(Upgrade, Body),
}

/// Why a response broke off.
enum Broken {
    /// The caller is gone.
    Downstream,
    /// The source of the body failed.
    Body(BodyError),
    /// The body is not as long as its head said.
    WrongLength,
}

impl Asked {
    pub(super) fn new(head: &RequestHead) -> Self {
        Self {
            method: head.method.clone(),
            version: head.version,
            persists: head.framing.persists(head.version),
        }
    }

    /// What can be assumed of a request that could not be read.
    pub(super) fn unreadable() -> Self {
        Self {
            method: Method::GET,
            version: Version::HTTP_11,
            persists: false,
        }
    }
}

/// Sends `response`, and reads what is left of the request where that is worth it.
pub(super) async fn send(
    response: Response<Body>,
    asked: Asked,
    exchange: &Rc<Exchange>,
    limits: &HttpLimits,
    drain: &Drain,
) -> Answered {
    let (parts, mut body) = response.into_parts();
    let upgrade = body.take_upgrade();
    let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS
        || framing::tunnels(&asked.method, parts.status);
    if switches != upgrade.is_some() || parts.status.is_informational() && !switches {
        tracing::error!(status = %parts.status, "response and upgrade do not belong together");
        return Answered::Abort(RequestError::Internal);
    }

    if switches && !exchange.state().decoder.is_done() {
        tracing::debug!("the protocol can't change in the middle of a request");
        return Answered::Abort(RequestError::UpstreamProtocolError);
    }

    let length = length(&asked, parts.status, &parts.headers, &body);
    let keep = asked.persists
        && !drain.is_draining()
        && length != Some(BodyLength::UntilClose)
        // What follows a refused CONNECT may have been meant for the tunnel.
        && asked.method != Method::CONNECT
        && !framing::says_close(&parts.headers)
        && may_finish_request(exchange, limits);
    let persistence = match (parts.status, keep, asked.version) {
        (StatusCode::SWITCHING_PROTOCOLS, ..) => Persistence::Upgrade,
        _ if switches => Persistence::Implied,
        (_, false, _) => Persistence::Close,
        (_, true, Version::HTTP_10) => Persistence::KeepAlive,
        (_, true, _) => Persistence::Implied,
    };
    {
        let mut state = exchange.state();
        state.answer();
        let out = state.wire.outgoing.text();
        encode::response(parts.status, &parts.headers, length, persistence, out);
    }
    let no_body = framing::has_no_body(&asked.method, parts.status);
    drop(parts);
    let mut sending = Sending {
        exchange,
        encoder: match length {
            Some(length) if !no_body => Encoder::new(length),
            _ => Encoder::Done,
        },
        done: no_body,
        body,
    };
    match poll_fn(|cx| sending.poll(cx)).await {
        Ok(()) => {}
        Err(Broken::Downstream) => return Answered::Abort(RequestError::DownstreamReset),
        Err(Broken::Body(error)) => return abort(&sending, error.into()),
        Err(Broken::WrongLength) => {
            tracing::warn!("response body is not as long as its Content-Length");
            return abort(&sending, RequestError::UpstreamProtocolError);
        }
    }
    if let Some(upgrade) = upgrade {
        return Answered::Upgrade(upgrade, sending.body);
    }
    drop(sending);
    if keep && finish_request(exchange, limits).await {
        Answered::Keep
    } else {
        Answered::Close
    }
}

/// How the response is framed; `None` where it has no body but may say how long it would be.
fn length(
    asked: &Asked,
    status: StatusCode,
    headers: &HeaderMap,
    body: &Body,
) -> Option<BodyLength> {
    let exact = body.size_hint().exact();
    if asked.method == Method::HEAD || status == StatusCode::NOT_MODIFIED {
        return match exact {
            // A response of our own, to a question about its length.
            Some(bytes @ 1..) if !headers.contains_key(CONTENT_LENGTH) => {
                Some(BodyLength::Known(bytes))
            }
            _ => None,
        };
    }
    if framing::has_no_body(&asked.method, status) {
        return Some(BodyLength::Empty);
    }
    let announced = || framing::content_length(headers);
    Some(match exact.or_else(announced) {
        Some(bytes) => BodyLength::Known(bytes),
        None if asked.version == Version::HTTP_11 => BodyLength::Chunked,
        None => BodyLength::UntilClose,
    })
}

/// Whether the connection may go on although the request is not read to its end yet.
fn may_finish_request(exchange: &Rc<Exchange>, limits: &HttpLimits) -> bool {
    let wanted = Rc::strong_count(exchange) > 1;
    let state = exchange.state();
    let small = match state.decoder {
        Decoder::Done => true,
        Decoder::Known(left) => left <= limits.unread_body_bytes as u64,
        Decoder::Chunked(_) | Decoder::UntilClose => true,
    };
    // A caller that still waits for `100 Continue` may or may not send the body.
    state.broken.is_none() && !state.expects_continue && (wanted || small)
}

/// Reads what nobody wanted of the request, as far as that is cheaper than a new connection.
async fn finish_request(exchange: &Exchange, limits: &HttpLimits) -> bool {
    exchange.state().disown_body();
    if exchange.state().decoder.is_done() {
        return true;
    }
    let mut budget = limits.unread_body_bytes;
    let finished = poll_fn(|cx| {
        let mut state = exchange.state();
        let state = &mut *state;
        loop {
            match state.decoder.decode(&mut state.wire.incoming) {
                Ok(Decoded::End | Decoded::Trailers(_)) => return Poll::Ready(true),
                Ok(Decoded::Data(data)) if data.len() > budget => return Poll::Ready(false),
                Ok(Decoded::Data(data)) => budget -= data.len(),
                Ok(Decoded::NeedMore) => match ready!(state.wire.poll_fill(cx)) {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Poll::Ready(false),
                },
                Err(_) => return Poll::Ready(false),
            }
        }
    });
    tokio::time::timeout(limits.header_timeout, finished)
        .await
        .unwrap_or(false)
}

/// Makes sure that the caller does not take the end of the connection for the end of the response.
fn abort(sending: &Sending<'_>, error: RequestError) -> Answered {
    if sending.encoder == Encoder::UntilClose {
        // Without a length, FIN would be a clean end.
        let _ = sending.exchange.state().wire.stream().reset_on_drop();
    }
    Answered::Abort(error)
}

/// A response on its way out.
struct Sending<'a> {
    exchange: &'a Exchange,
    body: Body,
    encoder: Encoder,
    /// The last byte of the body is queued.
    done: bool,
}

impl Sending<'_> {
    /// Fills the queue as long as the body has something at hand, then writes it: the head, a body that
    /// is there and the last chunk leave as one.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let mut starved = false;
            while !self.done && !starved && self.has_room() {
                if self.body.is_end_stream() {
                    self.end(None)?;
                    continue;
                }
                match Pin::new(&mut self.body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => self.put(frame)?,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Broken::Body(error))),
                    Poll::Ready(None) => self.end(None)?,
                    Poll::Pending => starved = true,
                }
            }
            let flushed = self.exchange.state().wire.poll_flush(cx);
            match flushed {
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Broken::Downstream)),
                Poll::Ready(Ok(())) if self.done => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if !starved => continue,
                Poll::Ready(Ok(())) => {}
                Poll::Pending => self.body.poll_progress(cx),
            }
            return match self.exchange.state().poll_gone(cx) {
                Poll::Ready(_) => Poll::Ready(Err(Broken::Downstream)),
                Poll::Pending => Poll::Pending,
            };
        }
    }

    fn has_room(&self) -> bool {
        self.exchange.state().wire.outgoing.has_room()
    }

    fn put(&mut self, frame: Frame<Bytes>) -> Result<(), Broken> {
        match frame.into_data() {
            Ok(data) => {
                let out = &mut self.exchange.state().wire.outgoing;
                self.encoder
                    .data(data, out)
                    .map_err(|_| Broken::WrongLength)
            }
            Err(frame) => self.end(frame.trailers_ref()),
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Broken> {
        self.done = true;
        let out = &mut self.exchange.state().wire.outgoing;
        self.encoder
            .end(trailers, out)
            .map_err(|_| Broken::WrongLength)
    }
}
