//! Clusters: the endpoints of one destination, and how to choose among and talk to them.

use super::WorkloadName;
use std::{net::SocketAddr, num::NonZeroU32, sync::Arc, time::Duration};
use weft_xds_proto::spiffe::SpiffeId;

/// One upstream cluster (`envoy.config.cluster.v3.Cluster` with its `ClusterLoadAssignment`).
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// The resource name: `user.demo.svc.cluster.local:80`. Live state is keyed by it.
    pub name: Arc<str>,
    /// The service, for telemetry; `unknown` when the cluster does not stand for a service.
    pub service: Arc<str>,
    /// The namespace of the service.
    pub namespace: Arc<str>,
    /// How endpoints are chosen.
    pub load_balancer: LoadBalancer,
    /// `Cluster.connect_timeout`: TCP and TLS together. Default 5 s.
    pub connect_timeout: Duration,
    /// Idle upstream connections are closed after this (`HttpProtocolOptions.idle_timeout`). Default 60 s.
    pub idle_timeout: Duration,
    /// What may be in use at once.
    pub limits: Limits,
    /// The HTTP version towards endpoints, when the cluster insists (`HttpProtocolOptions.explicit_http_config`).
    pub http_version: UpstreamHttp,
    /// The endpoints that may take traffic, in no particular order.
    pub endpoints: Arc<[Arc<Endpoint>]>,
}

/// The HTTP version spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamHttp {
    /// The version that the caller spoke.
    #[default]
    AsDownstream,
    /// HTTP/1.1 always.
    Http1,
    /// HTTP/2 always.
    Http2,
}

/// How an endpoint is chosen for a request or connection.
#[derive(Debug, Clone, PartialEq)]
pub enum LoadBalancer {
    /// `ROUND_ROBIN`.
    RoundRobin,
    /// `LEAST_REQUEST` over two random choices.
    LeastRequest,
    /// `weft.v1.PeakEwma`: the lower of `ewma latency x (in flight + 1)` over two random choices.
    PeakEwma {
        /// The time in which an old peak loses all but 1/e of its weight. Default 10 s.
        decay: Duration,
        /// The latency assumed of an endpoint never used. Default 30 ms.
        default_rtt: Duration,
    },
}

/// Limits of a cluster over all workers of the proxy (`CircuitBreakers.thresholds`). What passes a limit
/// fails at once and is never held against an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections. Default 10,000.
    pub connections: NonZeroU32,
    /// Requests that wait for a connection. Default 1,024.
    pub pending: NonZeroU32,
    /// Requests in flight. Default 10,000.
    pub requests: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const fn limit(n: u32) -> NonZeroU32 {
            NonZeroU32::new(n).expect("the default limits are not zero")
        }
        Self {
            connections: limit(10_000),
            pending: limit(1_024),
            requests: limit(10_000),
        }
    }
}

/// One address that serves a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// The identity it must prove: mutual TLS when present, plaintext when absent.
    pub identity: Option<SpiffeId>,
    /// What telemetry calls it.
    pub workload: WorkloadName,
    /// Its share under weighted balancers. Default 1.
    pub weight: NonZeroU32,
    /// Its zone (`Locality.zone`), empty when unknown.
    pub zone: Arc<str>,
}
