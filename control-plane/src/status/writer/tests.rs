use std::{collections::VecDeque, convert::Infallible, sync::Mutex};

use axum::body::Body;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::mpsc;

use super::*;
use crate::{
    fixture::objects,
    kubernetes::{Cluster, Leadership},
    world::{Store, Update},
};

const POLICIES: &str = "/apis/weft.dev/v1alpha1/trafficpolicies";

const WORLD: &str = "
apiVersion: v1
kind: Service
metadata: {name: user, namespace: demo}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: weft.dev/v1alpha1
kind: TrafficPolicy
metadata: {name: good, namespace: demo}
spec: {targetRefs: [{kind: Service, name: user}]}
";

/// An API server that keeps policies: it lists and watches them, and takes their status.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    policies: BTreeMap<String, Value>,
    version: u64,
    watches: Vec<mpsc::UnboundedSender<Value>>,
    /// Statuses that it answers patches of status with, before it takes one.
    refusals: VecDeque<u16>,
    /// Patches of status that it was asked for.
    patches: Vec<Value>,
    events: Vec<Value>,
}

impl Kept {
    fn set(&mut self, name: &str, edit: impl FnOnce(&mut Value)) -> Value {
        self.version += 1;
        let policy = self.policies.entry(name.to_owned()).or_default();
        edit(policy);
        policy["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let policy = policy.clone();
        let news = json!({"type": "MODIFIED", "object": policy});
        self.watches
            .retain(|watch| watch.send(news.clone()).is_ok());
        policy
    }
}

fn status(code: u16) -> (u16, Body) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code});
    (code, Body::from(status.to_string()))
}

impl Server {
    fn put(&self, name: &str, generation: i64, spec: Value) {
        self.0.lock().unwrap().set(name, |policy| {
            *policy = json!({
                "apiVersion": "weft.dev/v1alpha1",
                "kind": "TrafficPolicy",
                "metadata": {"name": name, "namespace": "demo", "uid": name, "generation": generation},
                "spec": spec,
            });
        });
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Body) {
        let mut kept = self.0.lock().unwrap();
        let sent = || serde_json::from_slice::<Value>(body).unwrap();
        if path == POLICIES && query.contains("watch=true") {
            let (sender, receiver) = mpsc::unbounded_channel();
            kept.watches.push(sender);
            let lines = stream::unfold(receiver, async |mut receiver| {
                let line = receiver.recv().await?.to_string() + "\n";
                Some((Ok::<_, Infallible>(line), receiver))
            });
            return (200, Body::from_stream(lines));
        }
        if path == POLICIES {
            let list = json!({
                "kind": "TrafficPolicyList", "apiVersion": "weft.dev/v1alpha1",
                "metadata": {"resourceVersion": kept.version.to_string()},
                "items": kept.policies.values().collect::<Vec<_>>(),
            });
            return (200, Body::from(list.to_string()));
        }
        if path.contains("/events") {
            let event = sent();
            kept.events.push(event.clone());
            return (201, Body::from(event.to_string()));
        }
        if *method == Method::PATCH {
            let patch = sent();
            kept.patches.push(patch.clone());
            if let Some(refusal) = kept.refusals.pop_front() {
                return status(refusal);
            }
            let name = patch["metadata"]["name"].as_str().unwrap();
            let held = &kept.policies[name]["metadata"]["resourceVersion"];
            if *held != patch["metadata"]["resourceVersion"] {
                return status(409);
            }
            let policy = kept.set(name, |policy| policy["status"] = patch["status"].clone());
            return (200, Body::from(policy.to_string()));
        }
        // No MeshConfig, and a cluster without Gateway API.
        status(404)
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let server = server.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await.unwrap();
                let query = parts.uri.query().unwrap_or_default();
                let (code, body) = server.answer(&parts.method, parts.uri.path(), query, &body);
                let mut response = Response::new(body);
                *response.status_mut() = StatusCode::from_u16(code).unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(service, "weft-system")
    }

    fn patches(&self) -> usize {
        self.0.lock().unwrap().patches.len()
    }

    /// The conditions of a policy, `Accepted=True`.
    fn conditions(&self, name: &str) -> Vec<String> {
        let kept = self.0.lock().unwrap();
        let conditions = &kept.policies[name]["status"]["ancestors"][0]["conditions"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let conditions = conditions.as_array().into_iter().flatten();
        conditions
            .map(|condition| text(&condition["type"]) + "=" + &text(&condition["status"]))
            .collect()
    }
}

/// The writing of statuses, with a world in which the policy `good` is in force.
fn start(server: &Server) -> Arc<Store> {
    let store = Store::new(World::new("cluster.local"));
    let objects = objects(WORLD).into_iter().map(Update::Set);
    store.apply(objects, std::time::Instant::now());
    store.mark_synced();
    let resources = Resources::new(store.current());
    tokio::spawn(crate::status::keep_current(Settings {
        cluster: Cluster {
            client: server.client(),
            namespace: "weft-system".into(),
            replica: "a".into(),
        },
        leadership: Leadership::settled(true),
        store: store.clone(),
        resources,
        metrics: StatusMetrics::register(&mut Registry::default()),
    }));
    store
}

fn good() -> Value {
    json!({"targetRefs": [{"kind": "Service", "name": "user"}]})
}

const LONG: Duration = Duration::from_secs(300);

#[tokio::test(start_paused = true)]
async fn a_status_is_written_once_and_then_left_alone() {
    let server = Server::default();
    server.put("good", 1, good());
    let _store = start(&server);
    sleep(LONG).await;
    assert_eq!(
        server.conditions("good"),
        ["Accepted=True", "ResolvedRefs=True", "Programmed=True"]
    );
    assert_eq!(server.patches(), 1);
    assert_eq!(server.0.lock().unwrap().events, [] as [Value; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_object_is_told_in_status_and_by_one_event() {
    let server = Server::default();
    let _store = start(&server);
    sleep(LONG).await;
    let mut bad = good();
    bad["fault"] = json!({});
    server.put("bad", 1, bad);
    sleep(LONG).await;
    assert_eq!(
        server.conditions("bad"),
        ["Accepted=False", "Programmed=False"]
    );
    assert_eq!(server.patches(), 1);
    let kept = server.0.lock().unwrap();
    let told: Vec<_> = kept
        .events
        .iter()
        .map(|event| {
            (
                &event["reason"],
                &event["note"],
                &event["regarding"]["name"],
            )
        })
        .collect();
    assert_eq!(
        told,
        [(
            &json!("Invalid"),
            &json!("spec.fault: does nothing; write delay or abort"),
            &json!("bad")
        )]
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_the_world_has_otherwise_is_not_spoken_of_yet() {
    let server = Server::default();
    let mut newer = good();
    newer["timeout"] = json!({"request": "1s"});
    server.put("good", 2, newer.clone());
    let store = start(&server);
    sleep(LONG).await;
    assert_eq!(server.patches(), 0);
    let newer = json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": {"name": "good", "namespace": "demo"},
        "spec": newer,
    });
    let newer = objects(&newer.to_string()).into_iter().map(Update::Set);
    store.apply(newer, std::time::Instant::now());
    sleep(LONG).await;
    assert_eq!(server.patches(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_tried_again_later_and_each_time_more_so() {
    let server = Server::default();
    server.put("good", 1, good());
    server.0.lock().unwrap().refusals = [500, 503, 500, 409].into();
    let _store = start(&server);
    let began = Instant::now();
    while server.conditions("good").is_empty() {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.patches(), 5);
    assert!(began.elapsed() >= Duration::from_secs(1 + 2 + 4 + 1));
    sleep(LONG).await;
    assert_eq!(server.patches(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_another_takes_away_is_written_again() {
    let server = Server::default();
    server.put("good", 1, good());
    let _store = start(&server);
    sleep(LONG).await;
    let take_away = |policy: &mut Value| policy["status"] = Value::Null;
    server.0.lock().unwrap().set("good", take_away);
    sleep(LONG).await;
    assert_eq!(server.conditions("good").len(), 3);
    assert_eq!(server.patches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_goes_is_told() {
    let server = Server::default();
    server.put("good", 1, good());
    let store = start(&server);
    sleep(LONG).await;
    let gone = ObjectRef {
        kind: crate::world::Kind::Service,
        key: crate::world::ObjectKey::new("demo", "user"),
    };
    store.apply([Update::Remove(gone)], std::time::Instant::now());
    sleep(LONG).await;
    assert_eq!(
        server.conditions("good"),
        ["Accepted=False", "ResolvedRefs=True", "Programmed=False"]
    );
    assert_eq!(server.patches(), 2);
    let kept = server.0.lock().unwrap();
    assert_eq!(kept.events.len(), 1);
    assert_eq!(kept.events[0]["reason"], "TargetNotFound");
}
