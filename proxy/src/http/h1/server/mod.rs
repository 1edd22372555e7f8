//! The server's side: requests come in one after the other and are answered in order.

mod answer;
mod close;
mod exchange;
mod wait;

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use http::{Request, Response, Version};

pub(super) use self::exchange::RequestBody;
use self::{
    answer::{Answered, Asked},
    exchange::Exchange,
    wait::{Next, Wait},
};
use super::{
    IncomingBody, Refusal, Upgrade,
    framing::decode::{Decoded, Decoder},
    head::{HeadLimits, parse::RequestHead},
    informational,
    wire::Wire,
};
use crate::{
    drain::Drain,
    error::RequestError,
    http::{body::Body, limits::HttpLimits},
    net::stream::Stream,
};

/// Answers requests.
pub trait Handler {
    /// Answers one request. Dropped when the caller resets the connection while it runs; as long as the
    /// request's body is not read to its end, a reset is an error of that body instead.
    ///
    /// The request has its version, its target as the caller wrote it, and all its fields. `Host` is that
    /// of the target where the target has one. `Transfer-Encoding` and `Content-Length` are still there;
    /// whoever sends the request on frames it by its body. An error is answered by [`Handler::refused`],
    /// except [`RequestError::DownstreamReset`], which closes the connection without a word.
    ///
    /// What is left of the request's body is let go of before the response is sent: whoever needs it for longer takes it
    /// out.
    ///
    /// The response is framed by its body too. `Connection: close` in it closes the connection; the other
    /// fields of one connection are dropped, unless its body is [`Body::Upgrade`].
    fn handle(
        &self,
        request: &mut Request<Body>,
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
/// A draining proxy says `Connection: close` with every response. A connection between requests is not cut
/// at once, as a request may be on its way: it has [`HttpLimits::drain_grace`] left.
// Not an `async fn`, whose future would keep the place of `io` for as long as the connection lasts.
pub fn serve<H: Handler>(
    io: Stream,
    limits: &HttpLimits,
    drain: &Drain,
    handler: &H,
) -> impl Future<Output = ServeEnd> {
    let exchange = Exchange::new(Wire::new(io));
    async move {
        let mut wait = Wait::new(limits, drain);
        loop {
            // In a box: a connection between two requests does without the memory of one.
            let serving: Pin<Box<dyn Future<Output = Served> + '_>> =
                match poll_fn(|cx| wait.poll_next(&exchange, cx)).await {
                    Next::Request(head) => {
                        let asked = Asked::new(&head);
                        let request = receive(head, &exchange, limits.into());
                        Box::pin(answer(request, asked, &exchange, limits, drain, handler))
                    }
                    Next::Refuse(refusal) => {
                        Box::pin(refuse(refusal, &exchange, limits, drain, handler))
                    }
                    Next::End(end) => Box::pin(part(end, &exchange)),
                };
            match serving.await {
                Served::Keep => {}
                Served::End(end) => return end,
                Served::Upgrade(upgrade, _observers) => {
                    let Some(wire) = exchange.into_wire() else {
                        tracing::error!(
                            "a request body outlived its request: no stream to upgrade"
                        );
                        return ServeEnd::Aborted(RequestError::Internal);
                    };
                    upgrade.run(wire.into_stream()).await;
                    return ServeEnd::Upgraded;
                }
            }
        }
    }
}

/// What a connection does after a request.
enum Served {
    /// It waits for the next.
    Keep,
    /// It has ended.
    End(ServeEnd),
    /// It speaks another protocol from here on. The body is what watches it.
    Upgrade(Upgrade, Body),
}

/// Has a request handled, and sends the response.
#[expect(
    clippy::manual_async_fn,
    reason = "the future of an async fn would have room for the request twice"
)]
fn answer<H: Handler>(
    mut request: Request<Body>,
    asked: Asked,
    exchange: &Rc<Exchange>,
    limits: &HttpLimits,
    drain: &Drain,
    handler: &H,
) -> impl Future<Output = Served> {
    async move {
        let response = {
            let mut handling = pin!(handler.handle(&mut request));
            poll_fn(|cx| poll_respond(exchange, handling.as_mut(), cx)).await
        };
        // Where the handler has left some of the body, it can still be read to its end.
        *request.body_mut() = Body::Empty;
        let response = match response {
            Ok(response) => response,
            Err(RequestError::DownstreamReset) => {
                return Served::End(ServeEnd::Aborted(RequestError::DownstreamReset));
            }
            Err(error) => handler.refused(&error.into()),
        };
        match answer::send(response, asked, exchange, limits, drain).await {
            Answered::Keep => Served::Keep,
            Answered::Close => {
                close::linger(exchange).await;
                Served::End(ServeEnd::Closed)
            }
            Answered::Abort(error) => Served::End(ServeEnd::Aborted(error)),
            Answered::Upgrade(upgrade, observers) => Served::Upgrade(upgrade, observers),
        }
    }
}

/// Answers what never became a request. Nothing behind it can be read.
async fn refuse<H: Handler>(
    refusal: Refusal,
    exchange: &Rc<Exchange>,
    limits: &HttpLimits,
    drain: &Drain,
    handler: &H,
) -> Served {
    let response = handler.refused(&refusal);
    match answer::send(response, Asked::unreadable(), exchange, limits, drain).await {
        Answered::Abort(error) => Served::End(ServeEnd::Aborted(error)),
        _ => {
            close::linger(exchange).await;
            Served::End(ServeEnd::Refused(refusal.error))
        }
    }
}

/// Says goodbye.
async fn part(end: ServeEnd, exchange: &Exchange) -> Served {
    close::part(exchange).await;
    Served::End(end)
}

/// Makes the head a request. A body that has come with it is handed over whole.
fn receive(head: RequestHead, exchange: &Rc<Exchange>, limits: HeadLimits) -> Request<Body> {
    let length = head.framing.request_body(&head.method);
    let body = {
        let mut state = exchange.state();
        let state = &mut *state;
        state.begin(
            Decoder::new(length, limits),
            head.expects_continue,
            head.version == Version::HTTP_11,
        );
        match state.decoder {
            Decoder::Done => Some(Body::Empty),
            Decoder::Known(bytes) if bytes <= state.wire.incoming.len() as u64 => {
                match state.decoder.decode(&mut state.wire.incoming) {
                    Ok(Decoded::Data(data)) => {
                        state.expects_continue = false;
                        Some(Body::Full(data))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    };
    let body = body.unwrap_or_else(|| {
        let body = RequestBody::current(exchange);
        Body::H1(IncomingBody::request(body))
    });
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = head.uri;
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers;
    request
}

/// Moves the handler on, unless the caller goes away.
fn poll_respond(
    exchange: &Rc<Exchange>,
    mut handling: Pin<&mut impl Future<Output = Result<Response<Body>, RequestError>>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<Body>, RequestError>> {
    let polled = informational::scope(exchange.clone(), || handling.as_mut().poll(cx));
    if polled.is_ready() {
        return polled;
    }
    let mut state = exchange.state();
    let gone = Poll::Ready(Err(RequestError::DownstreamReset));
    if let Poll::Ready(Err(_)) = state.wire.poll_flush(cx) {
        return gone;
    }
    match state.poll_gone(cx) {
        Poll::Ready(_) => gone,
        Poll::Pending => Poll::Pending,
    }
}

#[cfg(test)]
mod tests;
