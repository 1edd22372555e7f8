//! Health, readiness, metrics and debugging, over plain HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the process works |
//! | `/readyz` | 200 once the source has told all it knew at its start; 503 with the reason before, and while shutting down |
//! | `/metrics` | Prometheus |
//! | `/debug/nacks` | the last refusals of proxies, JSON |
//! | `/debug/problems` | what is wrong with the configuration, JSON |

pub mod metrics;

use std::{fmt, sync::Arc, time::SystemTime};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
    registry::Registry,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ca::Ca,
    source::{Problem, Problems, Unread},
    world::Store,
    xds::{NackRecord, Nacks, Resources},
};

/// What the endpoints look at.
#[derive(Debug)]
pub struct Monitoring {
    /// Its state decides readiness.
    pub store: Arc<Store>,
    /// What the source has yet to tell before it is ready.
    pub unread: Unread,
    /// What is wrong with the configuration.
    pub problems: Problems,
    /// What proxies refused.
    pub nacks: Nacks,
    /// All metrics.
    pub registry: Registry,
    /// Cancelled once the control plane shuts down.
    pub shutdown: CancellationToken,
}

impl Monitoring {
    /// The endpoints.
    pub fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "live\n"))
            .route("/readyz", get(ready))
            .route("/metrics", get(scrape))
            .route("/debug/nacks", get(nacks))
            .route("/debug/problems", get(problems))
            .with_state(Arc::new(self))
    }
}

/// Gauges of what is there, read when they are asked for.
#[derive(Debug)]
pub struct Inventory {
    /// The world.
    pub store: Arc<Store>,
    /// The resources that proxies follow.
    pub resources: Arc<Resources>,
    /// The CA.
    pub ca: Arc<Ca>,
}

impl Collector for Inventory {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let world = self.store.current();
        let root_not_after = self
            .ca
            .authority()
            .not_after()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let gauges = [
            (
                "world_services",
                "Services in the world",
                world.service_count() as u64,
            ),
            (
                "world_workloads",
                "Workloads in the world",
                world.workload_count() as u64,
            ),
            (
                "world_ready_endpoints",
                "Addresses of services that take new connections",
                world.ready_endpoint_count() as u64,
            ),
            (
                "xds_resources",
                "Resources that proxies follow, each rendered once per dialect",
                self.resources.count() as u64,
            ),
            (
                "ca_root_not_after_seconds",
                "When the signing root of the mesh ends, in seconds since 1970",
                root_not_after.as_secs(),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

async fn ready(State(monitoring): State<Arc<Monitoring>>) -> (StatusCode, String) {
    if monitoring.shutdown.is_cancelled() {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting down\n".to_owned(),
        );
    }
    if monitoring.store.is_synced() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut reason = "the source has not told yet what there is".to_owned();
    let unread = monitoring.unread.list();
    if !unread.is_empty() {
        reason += " of ";
        reason += &unread.join(", ");
    }
    (StatusCode::SERVICE_UNAVAILABLE, reason + "\n")
}

async fn scrape(State(monitoring): State<Arc<Monitoring>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &monitoring.registry) {
        Ok(()) => (
            StatusCode::OK,
            [(
                CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        ),
        Err(fmt::Error) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            [(CONTENT_TYPE, "text/plain")],
            "cannot encode the metrics\n".to_owned(),
        ),
    }
}

async fn nacks(State(monitoring): State<Arc<Monitoring>>) -> Json<Vec<NackRecord>> {
    Json(monitoring.nacks.list())
}

async fn problems(State(monitoring): State<Arc<Monitoring>>) -> Json<Vec<Problem>> {
    Json(monitoring.problems.list())
}
