//! What the workers' clusters and endpoints are doing, for `/clusters`.
//!
//! A worker counts in atomics that only it writes; another thread adds up the workers when it is asked.

mod breaker;

pub use breaker::{BreakerSummary, CircuitSummary, TransitionSummary};
pub(super) use breaker::{CircuitCounters, ShownBreaker};

use super::limits::{ClusterLimits, Resource};
use crate::snapshot::{Cluster, Endpoint, LoadBalancer};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use weft_xds_proto::spiffe::SpiffeId;

/// The clusters in use, over all workers. One per proxy.
#[derive(Debug, Default)]
pub struct StatusRegistry {
    clusters: Mutex<Vec<Weak<ClusterStatus>>>,
}

/// A cluster as people read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ClusterSummary {
    /// The resource name: `user.demo.svc.cluster.local:80`.
    pub name: String,
    /// The service it stands for.
    pub service: String,
    /// The namespace of the service.
    pub namespace: String,
    /// `peak-ewma`, `least-request`, `round-robin`, `random`, `ring-hash` or `maglev`.
    pub load_balancer: &'static str,
    /// Open connections.
    pub connections: Usage,
    /// Requests that wait for a connection.
    pub pending: Usage,
    /// Requests in flight.
    pub requests: Usage,
    /// Its breakers; absent where it has none.
    pub breakers: Option<CircuitSummary>,
    /// By address.
    pub endpoints: Vec<EndpointSummary>,
}

/// How much of a limit is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// In use now.
    pub used: u32,
    /// The most that may be.
    pub limit: u32,
}

/// An endpoint as people read it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointSummary {
    /// Where it listens.
    pub address: SocketAddr,
    /// The identity it must prove; absent for plaintext.
    pub identity: Option<String>,
    /// The workload it belongs to.
    pub workload: String,
    /// The namespace of the workload.
    pub namespace: String,
    /// Requests and opaque connections now.
    pub in_flight: u64,
    /// Requests and opaque connections so far.
    pub requests: u64,
    /// Those that failed before a response began, failures to connect included.
    pub failures: u64,
    /// Failures to connect.
    pub connect_failures: u64,
    /// The slowest worker's moving average of latencies, in milliseconds.
    pub latency_ms: f64,
    /// Open connections.
    pub connections: ConnectionSummary,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Whether it takes requests; absent where the cluster has no breaker.
    pub breaker: Option<BreakerSummary>,
}

/// The open connections to an endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ConnectionSummary {
    /// HTTP/1.1 connections that carry a request.
    pub http1_active: u64,
    /// HTTP/1.1 connections that wait for one.
    pub http1_idle: u64,
    /// HTTP/2 connections that carry streams.
    pub http2_active: u64,
    /// HTTP/2 connections that carry none.
    pub http2_idle: u64,
    /// Opaque connections.
    pub tcp: u64,
}

impl StatusRegistry {
    /// A worker's entry for a cluster. It lasts for as long as the worker holds it.
    pub(super) fn register(
        &self,
        config: &Arc<Cluster>,
        limits: Arc<ClusterLimits>,
    ) -> Arc<ClusterStatus> {
        let status = Arc::new(ClusterStatus {
            limits,
            circuit: Arc::default(),
            shown: Mutex::new(Shown {
                config: config.clone(),
                endpoints: Vec::new(),
            }),
        });
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        clusters.retain(|cluster| cluster.strong_count() > 0);
        clusters.push(Arc::downgrade(&status));
        status
    }

    /// Every cluster that a worker has in use, by name.
    pub fn summary(&self) -> Vec<ClusterSummary> {
        let live: Vec<_> = {
            let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
            clusters.iter().filter_map(Weak::upgrade).collect()
        };
        let mut summaries: BTreeMap<Arc<str>, (ClusterSummary, EndpointSummaries)> =
            BTreeMap::new();
        for worker in live {
            let shown = worker.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let (cluster, endpoints) =
                summaries
                    .entry(shown.config.name.clone())
                    .or_insert_with(|| {
                        let summary = ClusterSummary::new(&shown.config, &worker.limits);
                        (summary, BTreeMap::new())
                    });
            if let Some(breakers) = &mut cluster.breakers {
                breakers.add(&worker.circuit);
            }
            for (endpoint, counters) in &shown.endpoints {
                let (summary, breakers) = endpoints
                    .entry((endpoint.address, endpoint.identity.clone()))
                    .or_insert_with(|| (EndpointSummary::new(endpoint), Vec::new()));
                summary.add(counters);
                breakers.extend(counters.breaker.read());
            }
        }
        summaries
            .into_values()
            .map(|(cluster, endpoints)| cluster.with(endpoints))
            .collect()
    }
}

type EndpointSummaries =
    BTreeMap<(SocketAddr, Option<SpiffeId>), (EndpointSummary, Vec<breaker::Shown>)>;

impl ClusterSummary {
    fn new(config: &Cluster, limits: &ClusterLimits) -> Self {
        let usage = |resource| {
            let (used, limit) = limits.usage(resource);
            Usage { used, limit }
        };
        Self {
            name: config.name.to_string(),
            service: config.service.to_string(),
            namespace: config.namespace.to_string(),
            load_balancer: match config.load_balancer {
                LoadBalancer::PeakEwma { .. } => "peak-ewma",
                LoadBalancer::LeastRequest => "least-request",
                LoadBalancer::RoundRobin => "round-robin",
                LoadBalancer::Random => "random",
                LoadBalancer::RingHash { .. } => "ring-hash",
                LoadBalancer::Maglev { .. } => "maglev",
            },
            connections: usage(Resource::Connections),
            pending: usage(Resource::Pending),
            requests: usage(Resource::Requests),
            breakers: config.breaker.is_some().then(CircuitSummary::default),
            endpoints: Vec::new(),
        }
    }

    fn with(mut self, endpoints: EndpointSummaries) -> Self {
        for (endpoint, breakers) in endpoints.into_values() {
            if let Some(circuit) = &mut self.breakers {
                circuit.count(&breakers);
            }
            self.endpoints.push(EndpointSummary {
                breaker: BreakerSummary::of(&breakers),
                ..endpoint
            });
        }
        self
    }
}

impl EndpointSummary {
    fn new(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address,
            identity: endpoint.identity.as_ref().map(ToString::to_string),
            workload: endpoint.workload.name.to_string(),
            namespace: endpoint.workload.namespace.to_string(),
            in_flight: 0,
            requests: 0,
            failures: 0,
            connect_failures: 0,
            latency_ms: 0.0,
            connections: ConnectionSummary::default(),
            last_error: None,
            breaker: None,
        }
    }

    fn add(&mut self, counters: &EndpointCounters) {
        self.in_flight += counters.in_flight.read();
        self.requests += counters.requests.read();
        self.failures += counters.failures.read();
        self.connect_failures += counters.connect_failures.read();
        self.latency_ms = self.latency_ms.max(counters.latency_us.read() as f64 / 1e3);
        let connections = &mut self.connections;
        connections.http1_active += counters.http1_active.read();
        connections.http1_idle += counters.http1_idle.read();
        connections.http2_active += counters.http2_active.read();
        connections.http2_idle += counters.http2_idle.read();
        connections.tcp += counters.tcp.read();
        let last_error = counters
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last_error.is_some() {
            self.last_error.clone_from(&last_error);
        }
    }
}

/// A worker's entry for a cluster.
#[derive(Debug)]
pub(super) struct ClusterStatus {
    limits: Arc<ClusterLimits>,
    pub(super) circuit: Arc<CircuitCounters>,
    shown: Mutex<Shown>,
}

#[derive(Debug)]
struct Shown {
    config: Arc<Cluster>,
    endpoints: Vec<(Arc<Endpoint>, Arc<EndpointCounters>)>,
}

impl ClusterStatus {
    /// Shows what a push changed.
    pub(super) fn show(
        &self,
        config: Arc<Cluster>,
        endpoints: Vec<(Arc<Endpoint>, Arc<EndpointCounters>)>,
    ) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = Shown { config, endpoints };
    }
}

/// What one worker counts of an endpoint.
#[derive(Debug, Default)]
pub(super) struct EndpointCounters {
    pub(super) in_flight: Count,
    pub(super) requests: Count,
    pub(super) failures: Count,
    pub(super) connect_failures: Count,
    pub(super) latency_us: Count,
    pub(super) http1_active: Count,
    pub(super) http1_idle: Count,
    pub(super) http2_active: Count,
    pub(super) http2_idle: Count,
    pub(super) tcp: Count,
    pub(super) breaker: ShownBreaker,
    last_error: Mutex<Option<String>>,
}

impl EndpointCounters {
    /// Keeps the last thing that went wrong.
    pub(super) fn note_error(&self, error: String) {
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(error);
    }
}

/// A number that one thread writes and others read: plain loads and stores, no locked instruction.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(super) fn increment(&self) {
        self.set(self.read() + 1);
    }

    pub(super) fn decrement(&self) {
        debug_assert!(self.read() > 0, "what is counted down was counted up");
        self.set(self.read().saturating_sub(1));
    }
}

/// Milliseconds and below matter, so latencies are shown in microseconds.
pub(super) fn micros(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |latency| {
        u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
    })
}
