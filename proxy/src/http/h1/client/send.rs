//! One request: written while the response is already watched for.

use std::{
    future::poll_fn,
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use http::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{CONTENT_LENGTH, EXPECT, UPGRADE},
};
use http_body::Body as _;
use tokio::time::{Sleep, sleep};

use super::{Connection, Progress, Recycle, ResponseBody, SendError, upload::Upload};
use crate::{
    error::RequestError,
    http::{
        body::Body,
        h1::{
            IncomingBody, Upgrade,
            framing::{
                self, BodyLength,
                decode::{Decoded, Decoder},
            },
            head::{
                encode,
                parse::{self, ResponseHead, SectionEnd},
            },
            informational,
        },
    },
};

/// A request whose response has not begun.
struct Sending<'r> {
    connection: Connection,
    /// Without its body, which is in the upload.
    request: &'r mut Request<Body>,
    replay: Replay,
    upload: Upload,
    section: SectionEnd,
    /// A byte of a response was read, informational ones included.
    heard: bool,
    written_before: u64,
    /// Runs while the body is held back.
    patience: Option<Pin<Box<Sleep>>>,
}

/// What is kept of the body, so that the request can be handed back.
enum Replay {
    Whole(Body),
    Gone,
}

pub(super) async fn send(
    mut connection: Connection,
    request: &mut Request<Body>,
    pool: Rc<dyn Recycle>,
) -> Result<Response<Body>, SendError> {
    if let Err(error) = poll_fn(|cx| Poll::Ready(still_open(&mut connection, cx))).await {
        return Err(SendError {
            error,
            progress: Progress::Unsent,
        });
    }

    let mut sending = Sending::begin(connection, request);
    match poll_fn(|cx| sending.poll_head(cx)).await {
        Ok(head) => sending.finish(head, pool).map_err(|error| SendError {
            error,
            progress: Progress::Sent,
        }),
        Err((error, progress)) => {
            sending.replay.put_back(sending.request);
            Err(SendError { error, progress })
        }
    }
}

/// An idle endpoint has nothing to say: an end or unasked bytes rule the connection out.
fn still_open(connection: &mut Connection, cx: &mut Context<'_>) -> Result<(), RequestError> {
    if !connection.wire.incoming.is_empty() {
        return Err(RequestError::UpstreamProtocolError);
    }
    match connection.wire.poll_fill(cx) {
        Poll::Pending => Ok(()),
        Poll::Ready(Ok(true)) => Err(RequestError::UpstreamProtocolError),
        Poll::Ready(Ok(false) | Err(_)) => Err(RequestError::UpstreamReset),
    }
}

impl Replay {
    fn of(body: &Body) -> Self {
        body.replay().map_or(Self::Gone, Self::Whole)
    }

    fn put_back(self, request: &mut Request<Body>) {
        if let Self::Whole(body) = self {
            *request.body_mut() = body;
        }
    }
}

impl<'r> Sending<'r> {
    /// Queues the head. Nothing is written yet.
    fn begin(mut connection: Connection, request: &'r mut Request<Body>) -> Self {
        let length = length(request);
        let body = mem::take(request.body_mut());
        let held = !body.is_end_stream() && expects_continue(request.headers());
        encode::request(
            request.method(),
            request.uri(),
            request.headers(),
            length,
            connection.wire.outgoing.text(),
        );
        let replay = Replay::of(&body);
        let upload = Upload::new(body, length, held);
        Self {
            patience: upload
                .is_held()
                .then(|| Box::pin(sleep(connection.continue_timeout))),
            written_before: connection.wire.written(),
            connection,
            request,
            replay,
            upload,
            section: SectionEnd::default(),
            heard: false,
        }
    }

    /// Sends what can be sent, until the final response's head is there.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, (RequestError, Progress)>> {
        let waiting = self.patience.as_mut();
        if waiting.is_some_and(|patience| patience.as_mut().poll(cx).is_ready()) {
            self.patience = None;
            self.upload.release();
        }
        loop {
            if let Err(error) = self.upload.poll(&mut self.connection.wire, cx) {
                return Poll::Ready(Err((error.into(), Progress::Sent)));
            }
            let wire = &mut self.connection.wire;
            let limits = self.connection.head_limits;
            match parse::response(&mut wire.incoming, &mut self.section, limits) {
                Ok(Some(head)) if is_final(&head) => {
                    return Poll::Ready(Ok(head));
                }
                Ok(Some(interim)) => {
                    if interim.status == StatusCode::CONTINUE {
                        self.patience = None;
                        self.upload.release();
                    } else {
                        informational::forward(interim.status, &interim.headers);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(reason = error.reason(), "response head is malformed");
                    let failure = (RequestError::UpstreamProtocolError, Progress::Sent);
                    return Poll::Ready(Err(failure));
                }
            }
            match wire.poll_fill(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(true)) => self.heard = true,
                Poll::Ready(Ok(false) | Err(_)) => {
                    return Poll::Ready(Err((RequestError::UpstreamReset, self.progress())));
                }
            }
        }
    }

    /// How far it had gone when the endpoint closed.
    fn progress(&self) -> Progress {
        let unsent = self.connection.wire.written() == self.written_before;
        match (&self.replay, self.heard) {
            (Replay::Whole(_), false) if unsent => Progress::Unsent,
            (_, false) if self.connection.requests > 0 => Progress::ReusedClosed,
            _ => Progress::Sent,
        }
    }

    /// Makes the final response of its head.
    fn finish(
        self,
        head: ResponseHead,
        pool: Rc<dyn Recycle>,
    ) -> Result<Response<Body>, RequestError> {
        let Self {
            mut connection,
            request,
            upload,
            ..
        } = self;
        let method = request.method();
        let length = head.framing.response_body(method, head.status);
        let mut decoder = Decoder::new(length, connection.head_limits);
        let persists =
            head.framing.persists(head.version) && !framing::says_close(request.headers());
        connection.requests += 1;

        let body = if switches(method, head.status) {
            let asked = *method == Method::CONNECT || request.headers().contains_key(UPGRADE);
            if !asked || !upload.is_done() {
                tracing::debug!("endpoint switches protocols unasked");
                return Err(RequestError::UpstreamProtocolError);
            }
            Body::Upgrade(Upgrade::to(connection.wire.into_stream()))
        } else if let Some(body) = whole(&mut decoder, &mut connection.wire.incoming) {
            if persists && upload.is_done() && connection.wire.incoming.is_empty() {
                connection.recycle(&*pool);
            }
            body
        } else {
            let pool = persists.then_some(pool);
            let body = ResponseBody::new(connection, decoder, upload, pool);
            Body::H1(IncomingBody::response(body))
        };
        let mut response = Response::new(body);
        *response.status_mut() = head.status;
        *response.version_mut() = head.version;
        *response.headers_mut() = head.headers;
        Ok(response)
    }
}

/// The body, if it has all come with its head: then the connection is free at once.
fn whole(decoder: &mut Decoder, incoming: &mut BytesMut) -> Option<Body> {
    match decoder {
        Decoder::Done => Some(Body::Empty),
        Decoder::Known(bytes) if *bytes <= incoming.len() as u64 => {
            match decoder.decode(incoming) {
                Ok(Decoded::Data(data)) => Some(Body::Full(data)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn is_final(head: &ResponseHead) -> bool {
    !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
}

/// Whether the stream is the caller's from here on.
fn switches(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || framing::tunnels(method, status)
}

/// How the request is framed (RFC 9112 section 6.3). The body decides; the field helps where it can't say.
fn length(request: &Request<Body>) -> BodyLength {
    let (method, headers) = (request.method(), request.headers());
    if *method == Method::CONNECT {
        return BodyLength::Empty;
    }
    let announced = || framing::content_length(headers);
    match request.body().size_hint().exact().or_else(announced) {
        // RFC 9110 section 8.6: a method that usually has a body says that there is none.
        Some(0) if !usually_has_body(method) && !headers.contains_key(CONTENT_LENGTH) => {
            BodyLength::Empty
        }
        Some(bytes) => BodyLength::Known(bytes),
        None => BodyLength::Chunked,
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    let mut expects = headers.get_all(EXPECT).iter();
    expects.any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

fn usually_has_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}
