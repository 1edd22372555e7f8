//! The configuration a request is served with: validated, immutable, shared by `Arc`.
//!
//! Nothing here knows protobuf (that is `xds::convert`) and nothing here counts anything: pools,
//! balancer state, limits in use and metrics live in `upstream` and `telemetry`, keyed by name, and
//! outlive a push.

pub mod admission;
pub mod breaker;
pub mod cluster;
pub mod destination;
pub mod inbound;
pub mod pattern;
pub mod retry;
pub mod route;
pub mod share;

pub use admission::{ConcurrencyLimit, Rate, RateLimit};
pub use breaker::Breaker;
pub use cluster::{Cluster, Endpoint, Limits, LoadBalancer};
pub use destination::{Destination, DestinationHandle, Protocol};
pub use inbound::{Inbound, InboundPort, MtlsMode};
pub use retry::Retry;
pub use route::{Route, RouteTable};
pub use share::Share;

use std::sync::Arc;

/// What telemetry calls a workload. Unknown parts are `unknown`, so that label sets never change shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkloadName {
    /// The name of the Deployment, StatefulSet or the like; the pod's own name for a bare pod.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
}

impl WorkloadName {
    /// The workload nobody could name.
    pub fn unknown() -> Self {
        Self {
            name: "unknown".into(),
            namespace: "unknown".into(),
        }
    }
}
