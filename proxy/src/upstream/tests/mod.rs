//! Upstreams against real servers on loopback.

mod balancing;
mod breaker;
mod connections;
mod http1;
mod http2;
mod limits;
mod reconcile;
mod retry;
mod servers;

use super::*;
use crate::{
    deadline::Deadlines,
    error::RequestError,
    http::{body::Body, limits::HttpLimits},
    snapshot::{
        Cluster, Endpoint, Limits, WorkloadName,
        cluster::{Http2, UpstreamHttp},
    },
    tls::Identity,
};
use http::{Method, Request, Version};
use http_body_util::BodyExt;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

const NAME: &str = "user.demo.svc.cluster.local:80";

/// Runs a test as a worker runs: on one thread, where tasks need not be `Send`.
fn worker<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

/// A worker's upstreams, without a certificate.
fn upstreams() -> Rc<Upstreams> {
    upstreams_as(Identity::new(), &[])
}

fn upstreams_as(identity: Identity, own_addresses: &[IpAddr]) -> Rc<Upstreams> {
    let connector = WorkloadConnector::new(identity, own_addresses.iter().copied());
    sharing(connector, &Arc::default(), &Arc::default())
}

/// One of several workers.
fn sharing(
    connector: WorkloadConnector,
    limits: &Arc<LimitRegistry>,
    status: &Arc<StatusRegistry>,
) -> Rc<Upstreams> {
    let (limits, status) = (limits.clone(), status.clone());
    let deadlines = Deadlines::new();
    let upstreams = Upstreams::new(
        connector,
        HttpLimits::default(),
        limits,
        status,
        deadlines.clone(),
    );
    tokio::task::spawn_local(async move { deadlines.sweep().await });
    upstreams
}

impl LiveCluster {
    /// Sends a request of which its route says nothing.
    async fn send(
        self: &Rc<Self>,
        downstream: Version,
        request: &mut Request<Body>,
    ) -> Result<Sent, Box<Failed>> {
        self.call(downstream, request, &Call::default()).await
    }
}

/// A cluster of plaintext endpoints.
fn cluster(addresses: &[SocketAddr]) -> Cluster {
    Cluster {
        endpoints: addresses.iter().map(|&address| endpoint(address)).collect(),
        ..Cluster::new(NAME.into())
    }
}

fn endpoint(address: SocketAddr) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address,
        identity: None,
        workload: WorkloadName::unknown(),
        weight: NonZeroU32::MIN,
        zone: "".into(),
    })
}

fn live(upstreams: &Upstreams, config: Cluster) -> Rc<LiveCluster> {
    upstreams.cluster(&Arc::new(config))
}

fn get(path: &str) -> Request<Body> {
    request(Method::GET, path, Body::Empty)
}

fn request(method: Method, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("host", "user.demo")
        .body(body)
        .unwrap()
}

/// Which of the server's connections answered, once the response is complete.
async fn answered_on(sent: Result<Sent, Box<Failed>>) -> usize {
    let response = sent.unwrap().response;
    let connection = response.headers()["x-connection"].to_str().unwrap();
    let connection = connection.parse().unwrap();
    response.into_body().collect().await.unwrap();
    connection
}

fn failed<T: std::fmt::Debug>(outcome: Result<T, Box<Failed>>) -> (RequestError, String) {
    let failed = outcome.unwrap_err();
    (failed.error, failed.detail)
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap()
}

fn only_endpoint(cluster: &LiveCluster) -> Rc<LiveEndpoint> {
    let endpoints = cluster.endpoints();
    assert_eq!(endpoints.len(), 1);
    endpoints[0].clone()
}
