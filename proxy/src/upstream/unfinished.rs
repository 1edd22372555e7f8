//! A response whose head says nothing against its endpoint, and whose end may: a gRPC status comes in trailers, and
//! an endpoint may go away in the middle of its answer.

use super::{breaker::Era, endpoint::LiveEndpoint};
use crate::http::{
    body::{Body, BodyEnd, BodyError, Observer},
    reply,
};
use http::Response;
use http_body::Body as _;
use std::rc::Rc;

/// Tells the breaker of an endpoint how a response ended.
///
/// A caller that loses interest is no failure of the endpoint, and no success either unless a part of the body had
/// come. To an endpoint that is probed the first part of a body is success enough: a stream may last for hours.
#[derive(Debug)]
pub(super) struct Unfinished {
    endpoint: Rc<LiveEndpoint>,
    era: Era,
    /// A part of the body has come.
    heard: bool,
    /// Its success is counted.
    counted: bool,
}

impl Unfinished {
    pub(super) fn new(endpoint: Rc<LiveEndpoint>, era: Era) -> Self {
        Self {
            endpoint,
            era,
            heard: false,
            counted: false,
        }
    }

    /// Watches the body of the response, if there is one that is not there yet.
    pub(super) fn watch(unfinished: Option<Self>, response: Response<Body>) -> Response<Body> {
        let Some(unfinished) = unfinished else {
            return response;
        };
        if response.body().is_end_stream() || response.body().in_memory().is_some() {
            unfinished.complete();
            return response;
        }
        response.map(|body| body.observed(unfinished))
    }

    /// There is nothing to come.
    pub(super) fn complete(mut self) {
        self.succeeded(None);
    }

    fn succeeded(&mut self, grpc_code: Option<u8>) {
        let gate = &self.endpoint.gate;
        gate.complete(self.era, grpc_code, self.counted, super::now());
    }
}

impl Observer for Unfinished {
    fn data(&mut self, bytes: usize) {
        if self.heard || bytes == 0 {
            return;
        }
        self.heard = true;
        if let Some(era) = self.endpoint.gate.heard(self.era, super::now()) {
            self.era = era;
            self.counted = true;
        }
    }

    fn end(&mut self, end: BodyEnd<'_>) {
        match end {
            BodyEnd::Complete { trailers } => self.succeeded(trailers.and_then(reply::grpc_status)),
            BodyEnd::Failed(error @ (BodyError::UpstreamReset | BodyError::UpstreamProtocol)) => {
                let gate = &self.endpoint.gate;
                gate.failed(self.era, error.into(), super::now());
            }
            BodyEnd::Failed(_) | BodyEnd::Dropped if self.heard => self.succeeded(None),
            BodyEnd::Failed(_) | BodyEnd::Dropped => {}
        }
    }
}
