//! What an exchange learns from its two bodies, and how it breaks off the second.

use super::Shared;
use crate::{
    error::RequestError,
    http::{
        body::{BodyEnd, BodyError, Observer},
        reply,
    },
};
use http::Method;
use std::{
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;

/// Watches what the caller sends.
pub(super) struct RequestBody {
    pub(super) shared: Rc<Shared>,
    pub(super) timeout: Option<Duration>,
}

impl Observer for RequestBody {
    fn data(&mut self, bytes: usize) {
        self.shared.active();
        let received = &self.shared.received;
        received.set(received.get() + bytes as u64);
    }

    fn end(&mut self, end: BodyEnd<'_>) {
        match end {
            BodyEnd::Complete { .. } => {
                if let Some(timeout) = self.timeout {
                    self.shared
                        .clock
                        .timeout
                        .set(Some(Instant::now() + timeout));
                    self.shared.arm();
                }
            }
            BodyEnd::Failed(error) => self.shared.fail(error.into()),
            // An endpoint may answer without having read everything.
            BodyEnd::Dropped => {}
        }
    }
}

/// Watches what the endpoint answers, and breaks it off when its time is up.
pub(super) struct ResponseBody {
    pub(super) shared: Rc<Shared>,
}

impl Observer for ResponseBody {
    fn data(&mut self, bytes: usize) {
        self.shared.active();
        let sent = &self.shared.sent;
        sent.set(sent.get() + bytes as u64);
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        self.shared.poll_overdue(cx).map(|error| match error {
            RequestError::RequestTimeout => BodyError::RequestTimeout,
            _ => BodyError::StreamIdleTimeout,
        })
    }

    fn end(&mut self, end: BodyEnd<'_>) {
        let shared = &self.shared;
        match end {
            BodyEnd::Complete { trailers } => {
                if let Some(trailers) = trailers.filter(|_| shared.grpc) {
                    shared.grpc_status.set(reply::grpc_status(trailers));
                }
            }
            BodyEnd::Failed(error) => shared.fail(error.into()),
            // The answer to HEAD is complete without the body that it describes.
            BodyEnd::Dropped if shared.method == Method::HEAD => {}
            BodyEnd::Dropped => shared.fail(RequestError::DownstreamReset),
        }
        shared.record();
    }
}
