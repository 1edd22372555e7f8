//! A request with what its route says of it: which endpoint suits it, and what to do when that one fails it.

use super::{Failed, LiveCluster, Sent};
use crate::{http::body::Body, snapshot::Retry};
use http::{Request, Version};
use std::rc::Rc;

/// What a route says of a request to a cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct Call<'r> {
    /// Whether it is tried again. Absent: only what provably was not processed is, once.
    pub retry: Option<&'r Retry>,
    /// What a consistent hash goes by (`RouteAction.hash_policy`). Absent: chance.
    pub hash: Option<u64>,
}

impl LiveCluster {
    /// Sends a request as its route says and waits for the head of the response that the caller is to see.
    /// What is sent is taken out of the request.
    pub async fn call(
        self: &Rc<Self>,
        downstream: Version,
        request: &mut Request<Body>,
        _call: Call<'_>,
    ) -> Result<Sent, Box<Failed>> {
        self.send(downstream, request).await
    }
}
