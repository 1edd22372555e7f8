//! The endpoints, by path.

use super::{
    health::Health,
    probes::{self, AppProbes},
};
use crate::{
    drain::Drain,
    telemetry::{
        AccessLog, Registry,
        log::Control,
        render::{self, Kind, Sample},
    },
};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Instant};

/// A look at a part of the proxy, taken when somebody asks.
pub type View<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// What the endpoints read and switch.
#[derive(Clone)]
pub struct Parts {
    /// Liveness and readiness.
    pub health: Health,
    /// The counters of the workers.
    pub registry: Registry,
    /// The access log, for what it lost.
    pub access_log: AccessLog,
    /// The numbers that other parts keep: pools, certificates, configuration.
    pub samples: View<Vec<Sample>>,
    /// Every resource held.
    pub config: View<Value>,
    /// Every cluster with its endpoints and pools.
    pub clusters: View<Value>,
    /// The workload's certificate and the roots it trusts. Never a key.
    pub certificates: View<Value>,
    /// The switch to drain.
    pub drain: Drain,
    /// The level of the log.
    pub log: Control,
}

/// Everything, for loopback only.
pub fn admin(parts: Parts) -> Router {
    Router::new()
        .route("/", get(index))
        .route(
            "/config_dump",
            get(|State(parts): State<Parts>| async move { Json((parts.config)()) }),
        )
        .route(
            "/clusters",
            get(|State(parts): State<Parts>| async move { Json((parts.clusters)()) }),
        )
        .route(
            "/certs",
            get(|State(parts): State<Parts>| async move { Json((parts.certificates)()) }),
        )
        .route("/drain", post(drain))
        .route("/log_level", put(log_level))
        .route("/metrics", get(metrics))
        .merge(health_routes())
        .with_state(parts)
}

/// `/metrics`, for Prometheus.
pub fn scrape(parts: Parts) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(parts)
}

/// `/livez` and `/readyz`, and the probes of the application, for the kubelet.
pub fn health(parts: Parts, probes: AppProbes) -> Router {
    health_routes()
        .with_state(parts)
        .merge(probes::router(probes))
}

fn health_routes() -> Router<Parts> {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
}

const INDEX: &str = "\
GET  /livez        200 while every worker shows signs of life
GET  /readyz       200 while the proxy takes traffic; otherwise what is missing
GET  /metrics      OpenMetrics
GET  /config_dump  every resource held, with its version
GET  /clusters     clusters, endpoints, pools
GET  /certs        the workload's certificate and the trusted roots
POST /drain        finish what is in flight, take nothing new, exit
PUT  /log_level    body: a level or directives, such as info,weft_proxy::xds=debug
";

async fn index() -> &'static str {
    INDEX
}

async fn live(State(parts): State<Parts>) -> Response {
    let stuck = parts.health.stuck(Instant::now());
    if stuck.is_empty() {
        return Json(json!({ "live": true })).into_response();
    }
    let body = Json(json!({ "live": false, "stuck_workers": stuck }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn ready(State(parts): State<Parts>) -> Response {
    let missing = parts.health.not_ready();
    if missing.is_empty() {
        return Json(json!({ "ready": true })).into_response();
    }
    let body = Json(json!({ "ready": false, "missing": missing }));
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn metrics(State(parts): State<Parts>) -> Response {
    let mut samples = (parts.samples)();
    samples.push(Sample {
        name: "weft_access_log_dropped",
        help: "Access log lines lost because nobody read them fast enough",
        kind: Kind::Counter,
        labels: Vec::new(),
        value: parts.access_log.dropped() as f64,
    });
    samples.push(Sample {
        name: "weft_build_info",
        help: "The version of the proxy",
        kind: Kind::Gauge,
        labels: vec![("version", env!("CARGO_PKG_VERSION").to_owned())],
        value: 1.0,
    });
    match render::page(&parts.registry, &samples, Instant::now()) {
        Ok(page) => ([(CONTENT_TYPE, render::CONTENT_TYPE)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn drain(State(parts): State<Parts>) -> Json<Value> {
    tracing::info!("drain requested at the admin endpoint");
    parts.drain.start();
    Json(json!({ "draining": true, "in_flight": parts.drain.in_flight() }))
}

async fn log_level(State(parts): State<Parts>, level: String) -> Response {
    match parts.log.set(level.trim()) {
        Ok(()) => {
            tracing::info!(level = level.trim(), "log level changed");
            Json(json!({ "level": level.trim() })).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests;
