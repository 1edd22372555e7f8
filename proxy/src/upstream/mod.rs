//! What a worker knows of the clusters it calls, and how it reaches their endpoints.
//!
//! Owns live state: connections, latencies, limits in use, counts. It is keyed by the name of the cluster and
//! by the address and identity of the endpoint, so that it survives a push of configuration, which it takes
//! from the snapshot of each request. Does not own: which cluster a request goes to, how it is to be tried again, and its
//! timeout: a caller that gives up drops the future.
//!
//! - [`registry`]: the clusters of a worker; drops those that nobody uses.
//! - [`cluster`]: one cluster: its configuration in force, its endpoints.
//! - [`call`]: a request with the retries that its route allows; [`hedge`]: two attempts side by side.
//! - [`retry`]: whether an attempt is followed by another one; [`budget`]: how many there may be in all. Pure.
//! - [`send`]: the way of a request, or of an opaque connection, to an endpoint and back.
//! - [`lease`]: what a request or connection takes up for as long as it is under way.
//! - [`queue`]: requests that wait because the cluster may have no more connections.
//! - [`balancer`]: which endpoint. Pure.
//! - [`breaker`]: whether an endpoint takes requests. Pure.
//! - [`circuit`]: the breakers of a cluster: how many may be ejected, and who learns of it.
//! - [`unfinished`]: a response whose end may yet be held against its endpoint.
//! - [`endpoint`]: one endpoint: its latency and its pools.
//! - [`http1`], [`http2`]: the connections to an endpoint, by version.
//! - [`keep_alive`]: how long an endpoint keeps idle HTTP/1.1 connections. Pure.
//! - [`request`]: the form of a request for the version that its endpoint speaks. Pure.
//! - [`connect`]: TCP, TLS, and the check of the endpoint's identity.
//! - [`limits`]: connections, pending requests and requests of a cluster over all workers.
//! - [`status`]: what `/clusters` shows.
//!
//! All but `limits` and `status` belong to one worker and are not `Send`.

pub(crate) mod balancer;
mod breaker;
mod budget;
mod call;
mod circuit;
mod cluster;
mod connect;
mod endpoint;
mod hedge;
mod http1;
mod http2;
mod keep_alive;
mod lease;
mod limits;
mod queue;
mod registry;
mod request;
mod retry;
mod send;
mod status;
mod unfinished;

pub use call::{Call, Tries};
pub use cluster::LiveCluster;
pub use connect::{ConnectError, Connector, WorkloadConnector};
pub use endpoint::LiveEndpoint;
pub use lease::Hold;
pub use limits::LimitRegistry;
pub use registry::Upstreams;
pub use retry::Ending;
pub use send::{Connected, Failed, Sent};
pub use status::{
    BreakerSummary, CircuitSummary, ClusterSummary, ConnectionSummary, EndpointSummary,
    StatusRegistry, TransitionSummary, Usage,
};

use std::time::Instant;

/// The worker's clock, which tests may pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
