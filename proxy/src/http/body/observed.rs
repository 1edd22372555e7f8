//! A body that tells someone how much of it passed and how it ended.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};

use super::{Body, BodyError};

/// Learns what happens to a body: for counters, latency and in-flight guards.
pub trait Observer {
    /// So many bytes were handed on.
    fn data(&mut self, bytes: usize) {
        let _ = bytes;
    }

    /// Asked before every frame: ready when the body is to be broken off, with the reason.
    ///
    /// While it is not, it must see to it that the task is woken when it may be.
    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let _ = cx;
        Poll::Pending
    }

    /// The body is over. Called exactly once.
    fn end(&mut self, end: BodyEnd<'_>);
}

/// How a body was over.
#[derive(Debug)]
pub enum BodyEnd<'a> {
    /// It was handed on to its last byte.
    Complete {
        /// The trailers it had.
        trailers: Option<&'a HeaderMap>,
    },
    /// It broke off.
    Failed(BodyError),
    /// Nobody wanted the rest.
    Dropped,
}

/// See [`Body::observed`].
pub struct Observed {
    pub(super) body: Body,
    observer: Option<Box<dyn Observer>>,
}

impl Observed {
    pub(super) fn new(body: Body, observer: Box<dyn Observer>) -> Self {
        Self {
            body,
            observer: Some(observer),
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(observer) = &mut self.observer
            && let Poll::Ready(error) = observer.poll_cut(cx)
        {
            // Gives up what the body comes from, which is how its sender learns of it.
            self.body = Body::Empty;
            self.end(BodyEnd::Failed(error));
            return Poll::Ready(Some(Err(error)));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.end(BodyEnd::Complete { trailers: None }),
            Some(Err(error)) => self.end(BodyEnd::Failed(*error)),
            Some(Ok(frame)) => {
                if let (Some(data), Some(observer)) = (frame.data_ref(), &mut self.observer) {
                    observer.data(data.len());
                }
                if let trailers @ Some(_) = frame.trailers_ref() {
                    self.end(BodyEnd::Complete { trailers });
                } else if self.body.is_end_stream() {
                    // Nobody has to poll for a `None` that was announced.
                    self.end(BodyEnd::Complete { trailers: None });
                }
            }
        }
        Poll::Ready(frame)
    }

    fn end(&mut self, end: BodyEnd<'_>) {
        if let Some(mut observer) = self.observer.take() {
            observer.end(end);
        }
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.end(BodyEnd::Complete { trailers: None });
        } else {
            self.end(BodyEnd::Dropped);
        }
    }
}
