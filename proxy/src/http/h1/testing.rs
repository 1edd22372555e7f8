//! Raw bytes against either side, over a loopback connection.

use std::{cell::RefCell, mem, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Connection, Handler, Recycle};
use crate::{
    error::RequestError,
    http::{
        body::{Body, BodyError},
        limits::HttpLimits,
    },
    net::stream::Stream,
};

/// A peer that speaks in bytes.
pub(super) struct Raw(pub(super) Stream);

impl Raw {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0
            .write_all(bytes.as_ref())
            .await
            .expect("the other side reads");
    }

    /// Reads exactly `expected`.
    #[track_caller]
    pub(super) fn expect(&mut self, expected: &str) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let mut read = Vec::new();
            while read.len() < expected.len() {
                let mut more = vec![0; expected.len() - read.len()];
                match self.0.read(&mut more).await {
                    Ok(0) | Err(_) => break,
                    Ok(count) => read.extend_from_slice(&more[..count]),
                }
            }
            let read = String::from_utf8_lossy(&read);
            assert_eq!(read, expected, "at {caller}");
        }
    }

    /// Ends this half of the connection.
    pub(super) async fn finish(&mut self) {
        self.0.shutdown().await.expect("the other side is there");
    }

    /// Everything to the end of the connection, which must be a clean one.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.expect("a clean end");
        String::from_utf8_lossy(&rest).into_owned()
    }
}

/// A handler made of a function.
pub(super) struct Answer<F>(pub(super) F);

impl<F, A> Handler for Answer<F>
where
    F: Fn(Request<Body>) -> A,
    A: Future<Output = Result<Response<Body>, RequestError>>,
{
    fn handle(
        &self,
        request: &mut Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, RequestError>> {
        (self.0)(mem::take(request))
    }
}

/// A pool that keeps everything.
#[derive(Clone, Default)]
pub(super) struct Pool(pub(super) Rc<RefCell<Vec<Connection>>>);

impl Pool {
    pub(super) fn recycle(&self) -> Rc<dyn Recycle> {
        Rc::new(self.clone())
    }

    pub(super) fn take(&self) -> Option<Connection> {
        self.0.borrow_mut().pop()
    }

    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }
}

impl Recycle for Pool {
    fn recycle(&self, connection: Connection) {
        self.0.borrow_mut().push(connection);
    }
}

/// A client's connection, and the endpoint at its other end.
pub(super) async fn endpoint() -> (Connection, Raw) {
    let (near, far) = Stream::pair().await;
    (Connection::new(near, &HttpLimits::default()), Raw(far))
}

/// A whole body.
pub(super) async fn collect(body: Body) -> Result<(Bytes, Option<HeaderMap>), BodyError> {
    let collected = body.collect().await?;
    let trailers = collected.trailers().cloned();
    Ok((collected.to_bytes(), trailers))
}

/// A body that comes in pieces, and fails when told to.
pub(super) fn pieces(
    pieces: impl IntoIterator<Item = Result<&'static str, BodyError>> + 'static,
) -> Body {
    let frames = pieces.into_iter().map(|piece| {
        piece.map(|piece| http_body::Frame::data(Bytes::from_static(piece.as_bytes())))
    });
    Body::boxed(http_body_util::StreamBody::new(futures_util::stream::iter(
        frames.collect::<Vec<_>>(),
    )))
}
