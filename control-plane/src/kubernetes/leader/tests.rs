use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::*;

/// An API server that keeps one Lease, and compares versions as the real one does.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    lease: Option<Value>,
    version: u64,
    broken: bool,
}

impl Server {
    fn answer(&self, method: &Method, body: &[u8]) -> (StatusCode, Value) {
        let mut kept = self.0.lock().unwrap();
        if kept.broken {
            return (StatusCode::INTERNAL_SERVER_ERROR, json!({}));
        }
        let current = kept.lease.as_ref();
        let version = current.map(|lease| lease["metadata"]["resourceVersion"].clone());
        let refusal = |code, reason| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                                "code": code, "reason": reason, "message": reason});
            (StatusCode::from_u16(code).unwrap(), status)
        };
        if *method == Method::GET {
            return match current {
                Some(lease) => (StatusCode::OK, lease.clone()),
                None => refusal(404, "NotFound"),
            };
        }
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        let expected = match *method {
            Method::POST => None,
            _ => Some(lease["metadata"]["resourceVersion"].clone()),
        };
        if expected != version {
            return refusal(409, "Conflict");
        }
        kept.version += 1;
        lease["metadata"]["resourceVersion"] = json!(kept.version.to_string());
        kept.lease = Some(lease.clone());
        (StatusCode::OK, lease)
    }

    fn cluster(&self, replica: &str) -> Cluster {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let (status, answer) = server.answer(&parts.method, &body);
                let mut response = Response::new(Body::from(answer.to_string()));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }
        });
        Cluster {
            client: kube::Client::new(service, "weft-system"),
            namespace: "weft-system".into(),
            replica: replica.into(),
        }
    }

    fn holder(&self) -> Value {
        let kept = self.0.lock().unwrap();
        kept.lease.as_ref().unwrap()["spec"]["holderIdentity"].clone()
    }

    fn break_down(&self, broken: bool) {
        self.0.lock().unwrap().broken = broken;
    }
}

fn started(server: &Server, replica: &str) -> (Leadership, CancellationToken) {
    let shutdown = CancellationToken::new();
    let (leadership, election) = elect(&server.cluster(replica), shutdown.clone());
    tokio::spawn(election);
    (leadership, shutdown)
}

#[tokio::test(start_paused = true)]
async fn one_of_two_leads_and_the_other_follows_at_once_when_it_shuts_down() {
    let server = Server::default();
    let (mut first, shutdown) = started(&server, "first");
    first.acquired().await;
    let (mut second, _running) = started(&server, "second");
    tokio::time::sleep(DURATION * 20).await;
    assert!(first.is_held() && !second.is_held());

    shutdown.cancel();
    first.lost().await;
    let released = Instant::now();
    second.acquired().await;
    assert!(released.elapsed() <= RENEW_EVERY * 2);
    assert_eq!(server.holder(), "second");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_gone_is_replaced_within_seconds() {
    let server = Server::default();
    let (mut first, election) = elect(&server.cluster("first"), CancellationToken::new());
    let election = tokio::spawn(election);
    first.acquired().await;
    let (mut second, _running) = started(&server, "second");
    tokio::time::sleep(DURATION).await;
    election.abort();
    let killed = Instant::now();
    second.acquired().await;
    assert!(killed.elapsed() <= Duration::from_secs(7));
    assert!(!first.is_held());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_may_start() {
    let server = Server::default();
    let (mut leadership, _running) = started(&server, "first");
    leadership.acquired().await;
    server.break_down(true);
    let broken = Instant::now();
    leadership.lost().await;
    assert!(broken.elapsed() <= RENEW_WITHIN);

    server.break_down(false);
    leadership.acquired().await;
}

#[tokio::test]
async fn without_an_election_it_is_settled_who_leads() {
    let (mut leading, following) = (Leadership::settled(true), Leadership::settled(false));
    leading.acquired().await;
    assert!(leading.is_held() && !following.is_held());
}
