//! A gRPC application: whatever the method, each message is answered with `<name>:<message>`.
//!
//! Messages are plain text in gRPC's frames (grpc/grpc `doc/PROTOCOL-HTTP2.md`), so that clients of any
//! language need no generated code. A message `fail` ends the call with status 13. A call with the field `x-code`
//! is answered with that status alone, and one with `x-pause` after so many milliseconds.

use super::App;
use anyhow::Context;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{CONTENT_TYPE, TE},
};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2 as client,
    server::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::net::{TcpListener, TcpStream};
use weft_cli::sandbox::Pod;

/// The length of the prefix of a message: a flag of compression and four bytes of length.
const PREFIX: usize = 5;

type Body = BoxBody<Bytes, hyper::Error>;

/// Starts the application under a name that its answers tell.
pub fn start(pod: &Pod, port: u16, name: &str) -> anyhow::Result<App> {
    start_counting(pod, port, name, Arc::default())
}

/// The same, where every call that arrives is counted.
pub fn start_counting(
    pod: &Pod,
    port: u16,
    name: &str,
    calls: Arc<AtomicU64>,
) -> anyhow::Result<App> {
    let name: Arc<str> = name.into();
    App::start(pod, port, move |listener| serve(listener, name, calls))
}

/// What became of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The status that ended it.
    pub code: u16,
    /// The first message of the answer, if there was one.
    pub message: Option<String>,
}

/// Makes a call with one message, from the namespace of the calling thread.
pub fn call(
    address: SocketAddr,
    authority: &str,
    path: &str,
    fields: &[(&str, &str)],
) -> anyhow::Result<Outcome> {
    let mut request = Request::post(format!("http://{authority}{path}"))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(frame(b"hello")))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) =
            client::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?;
        let ended = head.headers.get("grpc-status");
        let ended = ended.or_else(|| body.trailers()?.get("grpc-status"));
        let code = ended.with_context(|| format!("no grpc-status: {head:?}"))?;
        let code = code.to_str()?.parse()?;
        let message = next_message(&mut BytesMut::from(&*body.to_bytes()));
        connection.abort();
        Ok(Outcome {
            code,
            message: message.map(|message| String::from_utf8_lossy(&message).into_owned()),
        })
    })
}

/// A message in its frame.
pub fn frame(message: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).expect("a test's message is short"));
    framed.put_slice(message);
    framed.freeze()
}

/// Takes a whole message from what was received, if there is one.
pub fn next_message(received: &mut BytesMut) -> Option<Bytes> {
    let prefix = received.get(..PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize;
    if received.len() < PREFIX + length {
        return None;
    }
    received.advance(PREFIX);
    Some(received.split_to(length).freeze())
}

async fn serve(listener: TcpListener, name: Arc<str>, calls: Arc<AtomicU64>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (name, calls) = (Arc::clone(&name), Arc::clone(&calls));
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            calls.fetch_add(1, Ordering::Relaxed);
            answer(Arc::clone(&name), request)
        });
        tokio::spawn(async move {
            let server = http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    name: Arc<str>,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let field = |name: &str| request.headers().get(name).cloned();
    let pause = field("x-pause").and_then(|pause| pause.to_str().ok()?.parse().ok());
    let code = field("x-code");
    if let Some(millis) = pause {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
    let mut fields = HeaderMap::new();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let body = match code {
        Some(code) => {
            fields.insert("grpc-status", code);
            Empty::new().map_err(|never| match never {}).boxed()
        }
        None => {
            let answers = Answers {
                name,
                calls: request.into_body(),
                received: BytesMut::new(),
                status: None,
            };
            BodyExt::boxed(StreamBody::new(stream::unfold(answers, Answers::next)))
        }
    };
    let mut response = Response::new(body);
    *response.headers_mut() = fields;
    Ok(response)
}

/// A call under way.
struct Answers {
    name: Arc<str>,
    calls: Incoming,
    received: BytesMut,
    status: Option<u8>,
}

impl Answers {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, hyper::Error>, Self)> {
        if self.status.is_some() {
            return None;
        }
        loop {
            if let Some(message) = next_message(&mut self.received) {
                if message == "fail" {
                    return Some(self.finish(13));
                }
                let answer = [self.name.as_bytes(), b":", &message].concat();
                return Some((Ok(Frame::data(frame(&answer))), self));
            }
            match self.calls.frame().await {
                Some(Ok(received)) => {
                    if let Some(data) = received.data_ref() {
                        self.received.extend_from_slice(data);
                    }
                }
                Some(Err(error)) => return Some((Err(error), self)),
                None => return Some(self.finish(0)),
            }
        }
    }

    fn finish(mut self, status: u8) -> (Result<Frame<Bytes>, hyper::Error>, Self) {
        self.status = Some(status);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
        (Ok(Frame::trailers(trailers)), self)
    }
}
