//! A gRPC application: whatever the method, each message is answered with `<name>:<message>`.
//!
//! Messages are plain text in gRPC's frames (grpc/grpc `doc/PROTOCOL-HTTP2.md`), so that clients of any
//! language need no generated code. A message `fail` ends the call with status 13.

use super::App;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http2,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::sync::Arc;
use tokio::net::TcpListener;
use weft_cli::sandbox::Pod;

/// The length of the prefix of a message: a flag of compression and four bytes of length.
const PREFIX: usize = 5;

/// Starts the application under a name that its answers tell.
pub fn start(pod: &Pod, port: u16, name: &str) -> anyhow::Result<App> {
    let name: Arc<str> = name.into();
    App::start(pod, port, move |listener| serve(listener, name))
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

async fn serve(listener: TcpListener, name: Arc<str>) {
    while let Ok((stream, _)) = listener.accept().await {
        let name = Arc::clone(&name);
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let answers = Answers {
                name: Arc::clone(&name),
                calls: request.into_body(),
                received: BytesMut::new(),
                status: None,
            };
            let body = StreamBody::new(stream::unfold(answers, Answers::next));
            let mut response = Response::new(body);
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            async move { Ok::<_, hyper::Error>(response) }
        });
        tokio::spawn(async move {
            let server = http2::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
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
