use super::*;
use crate::{
    admin::Condition,
    telemetry::{
        Mode,
        log::{self, Format},
        registry::{DEFAULT_EDGE_IDLE, DEFAULT_MAX_EDGES},
    },
};
use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use std::{num::NonZeroUsize, sync::OnceLock};
use tower::ServiceExt;

fn parts() -> Parts {
    static LOG: OnceLock<Control> = OnceLock::new();
    let log = LOG.get_or_init(|| log::install("error", Format::Text).unwrap());
    Parts {
        health: Health::new(1, Instant::now()),
        registry: Registry::new(NonZeroUsize::MIN, DEFAULT_MAX_EDGES, DEFAULT_EDGE_IDLE),
        access_log: AccessLog::stdout(Mode::Off).unwrap(),
        samples: Arc::new(Vec::new),
        config: Arc::new(|| json!({ "listeners": [] })),
        clusters: Arc::new(|| json!({ "clusters": [] })),
        certificates: Arc::new(|| json!({ "roots": [] })),
        drain: Drain::new(),
        log: log.clone(),
    }
}

async fn ask(router: Router, method: &str, path: &str, body: &str) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn readiness_says_what_is_missing() {
    let parts = parts();
    parts.health.met(Condition::Listeners);
    parts.health.met(Condition::Configuration);
    let (status, body) = ask(
        health(parts.clone(), AppProbes::default()),
        "GET",
        "/readyz",
        "",
    )
    .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("no certificate"), "{body}");
    parts.health.met(Condition::Certificate);
    let (status, _) = ask(health(parts, AppProbes::default()), "GET", "/readyz", "").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn every_endpoint_of_the_index_is_there() {
    for line in INDEX.lines() {
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let (status, _) = ask(admin(parts()), method, path, "info").await;
        assert_ne!(status, StatusCode::NOT_FOUND, "{line}");
        assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{line}");
    }
}

#[tokio::test]
async fn the_metrics_port_offers_metrics_only() {
    let (status, body) = ask(scrape(parts()), "GET", "/metrics", "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.contains("weft_build_info{version=") && body.ends_with("# EOF\n"));
    let (status, _) = ask(scrape(parts()), "POST", "/drain", "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_drain_asked_for_begins() {
    let parts = parts();
    ask(admin(parts.clone()), "POST", "/drain", "").await;
    assert!(parts.drain.is_draining());
}

#[tokio::test]
async fn a_log_level_that_is_none_changes_nothing() {
    let (status, body) = ask(admin(parts()), "PUT", "/log_level", "weft=loud").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("weft=loud"), "{body}");
}
