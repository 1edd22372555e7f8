use super::*;
use crate::world::{ObjectKey, World};
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use kube::client::Body;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Mutex,
};

type Reply = Response<StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>>;

/// What is answered to one question.
enum Answer {
    /// A status, and a body that need not be JSON.
    Status(u16, &'static str),
    /// A page of a list.
    Page(Value),
    /// Events, and then nothing for ever.
    Held(Vec<Value>),
    /// Events, and then the end of the connection.
    Cut(Vec<Value>),
    /// The same, within an event.
    CutWithin(&'static str),
}

/// An API that has been told what to answer, by resource. To whatever it was not told about it has nothing.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Script>>);

#[derive(Default)]
struct Script {
    answers: HashMap<&'static str, VecDeque<Answer>>,
    asked: Vec<(String, String)>,
}

/// A source that reads an API, for as long as this is kept.
struct Harness {
    api: Api,
    store: Arc<Store>,
    unread: Unread,
    _running: JoinSet<()>,
}

impl Api {
    fn answer(&self, request: &Request<Body>) -> Reply {
        let mut script = self.0.lock().unwrap();
        let resource = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let query = request.uri().query().unwrap_or_default();
        let asked = shorten(query);
        script.asked.push((resource.clone(), asked.clone()));
        let answers = script.answers.get_mut(resource.as_str());
        let answer = answers.and_then(VecDeque::pop_front);
        answer
            .unwrap_or_else(|| match asked.as_str() {
                "page" | "all" => page(json!([]), "1", ""),
                _ => Answer::Held(vec![list_ends("1")]),
            })
            .into_response()
    }

    /// What was asked about a resource, in short.
    fn asked(&self, resource: &str) -> Vec<String> {
        let script = self.0.lock().unwrap();
        let asked = script.asked.iter();
        asked
            .filter(|(of, _)| of == resource)
            .map(|(_, question)| question.clone())
            .collect()
    }
}

/// `watch from 5`, `page`, `page after x`, `all`, `stream`.
fn shorten(query: &str) -> String {
    let parameter = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .filter(|(found, _)| *found == name)
            .map(|(_, value)| value.to_owned())
            .next()
    };
    if parameter("sendInitialEvents").is_some() {
        return "stream".to_owned();
    }
    if parameter("watch").is_some() {
        assert_eq!(parameter("allowWatchBookmarks").as_deref(), Some("true"));
        return format!("watch from {}", parameter("resourceVersion").unwrap());
    }
    match (parameter("limit"), parameter("continue")) {
        (None, _) => "all".to_owned(),
        (Some(_), None) => "page".to_owned(),
        (Some(_), Some(next)) => format!("page after {next}"),
    }
}

impl Answer {
    fn into_response(self) -> Reply {
        let lines = |events: Vec<Value>| -> String {
            events.iter().map(|event| format!("{event}\n")).collect()
        };
        let held = matches!(self, Self::Held(_));
        let (status, text) = match self {
            Self::Status(status, text) => (status, text.to_owned()),
            Self::Page(page) => (200, page.to_string()),
            Self::Held(events) | Self::Cut(events) => (200, lines(events)),
            Self::CutWithin(text) => (200, text.to_owned()),
        };
        let data = stream::iter([Ok(Frame::data(Bytes::from(text)))]);
        let body = if held {
            data.chain(stream::pending()).boxed()
        } else {
            data.boxed()
        };
        let response = Response::builder().status(status);
        response.body(StreamBody::new(body)).unwrap()
    }
}

impl Harness {
    fn start(answers: impl IntoIterator<Item = (&'static str, Vec<Answer>)>) -> Self {
        let api = Api::default();
        api.0.lock().unwrap().answers = answers
            .into_iter()
            .map(|(resource, answers)| (resource, answers.into()))
            .collect();
        let service = tower::service_fn({
            let api = api.clone();
            move |request| {
                let response = api.answer(&request);
                async move { Ok::<_, Infallible>(response) }
            }
        });
        let store = Store::new(World::new("cluster.local"));
        let unread = Unread::default();
        let mut running = JoinSet::new();
        running.spawn(run(Settings {
            client: Client::new(service, "default"),
            trust_domain: "cluster.local".into(),
            metrics: Metrics::default(),
            unread: unread.clone(),
            problems: Problems::new(),
            store: store.clone(),
        }));
        Self {
            api,
            store,
            unread,
            _running: running,
        }
    }

    /// Waits until the services of the world have these ports.
    async fn has(&self, services: &[(&str, u16)]) {
        let mut changes = self.store.follow();
        loop {
            let world = self.store.current();
            let services_now = world.services();
            let found = services_now
                .iter()
                .map(|service| (&*service.key.name, service.ports[0].port));
            if found.eq(services.iter().copied()) {
                return;
            }
            soon(changes.next()).await;
        }
    }
}

/// Awaits what must happen, in a time that is paused: an hour of it passes at once where nothing else happens.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    let hour = std::time::Duration::from_secs(3600);
    let what = tokio::time::timeout(hour, what).await;
    what.expect("it has not happened within an hour")
}

fn service(name: &str, port: u16, version: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "demo", "resourceVersion": version},
        "spec": {"ports": [{"port": port}]},
    })
}

fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

fn bookmark(version: &str, annotations: Value) -> Value {
    let metadata = json!({"resourceVersion": version, "annotations": annotations});
    event(
        "BOOKMARK",
        json!({"kind": "Service", "apiVersion": "v1", "metadata": metadata}),
    )
}

fn list_ends(version: &str) -> Value {
    bookmark(version, json!({"k8s.io/initial-events-end": "true"}))
}

fn page(items: Value, version: &str, next: &str) -> Answer {
    Answer::Page(
        json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items}),
    )
}

const TOO_OLD: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"too old","reason":"Expired","code":410}"#;
const NOT_STREAMED: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"sendInitialEvents is forbidden","reason":"Invalid","code":422}"#;
const FORBIDDEN: &str = r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"forbidden","reason":"Forbidden","code":403}"#;

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_cut_goes_on_where_it_was_and_one_whose_version_is_lost_lists_anew() {
    let harness = Harness::start([(
        "services",
        vec![
            Answer::Cut(vec![
                event("ADDED", service("a", 80, "1")),
                event("ADDED", service("b", 81, "2")),
                list_ends("3"),
            ]),
            Answer::Cut(vec![
                event("MODIFIED", service("a", 82, "4")),
                event("DELETED", service("b", 81, "5")),
                bookmark("6", json!({})),
            ]),
            Answer::Status(500, "the server is about to stop"),
            Answer::CutWithin(r#"{"type":"ADDED","object":{"kind":"Serv"#),
            Answer::Cut(vec![event("ERROR", serde_json::from_str(TOO_OLD).unwrap())]),
            Answer::Cut(vec![event("ADDED", service("a", 82, "4"))]),
            Answer::Held(vec![
                event("ADDED", service("a", 82, "4")),
                event("ADDED", service("c", 83, "8")),
                list_ends("9"),
                event("ADDED", service("d", 84, "10")),
            ]),
        ],
    )]);
    harness.has(&[("a", 82), ("c", 83), ("d", 84)]).await;
    assert_eq!(
        harness.api.asked("services"),
        [
            "stream",
            "watch from 3",
            "watch from 6",
            "watch from 6",
            "watch from 6",
            "stream",
            "stream",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_stream_lists_is_read_page_by_page_and_as_a_whole_if_pages_expire() {
    let harness = Harness::start([(
        "services",
        vec![
            Answer::Status(422, NOT_STREAMED),
            page(json!([service("a", 80, "1")]), "", "x"),
            Answer::Status(410, TOO_OLD),
            page(
                json!([service("b", 81, "1"), service("c", 82, "2")]),
                "7",
                "",
            ),
            Answer::Held(vec![event("ADDED", service("d", 83, "8"))]),
        ],
    )]);
    harness.has(&[("b", 81), ("c", 82), ("d", 83)]).await;
    assert_eq!(
        harness.api.asked("services"),
        ["stream", "page", "page after x", "all", "watch from 7"]
    );
}

#[tokio::test(start_paused = true)]
async fn kinds_that_are_not_installed_hold_nothing_up_and_are_watched_once_they_are() {
    let route = json!({
        "metadata": {"name": "r", "namespace": "demo", "resourceVersion": "1"},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "a"}],
            "rules": [{"backendRefs": [{"name": "a", "port": 80}]}],
        },
    });
    let harness = Harness::start([(
        "httproutes",
        vec![
            Answer::Status(404, "404 page not found\n"),
            Answer::Status(404, "404 page not found\n"),
            Answer::Held(vec![event("ADDED", route), list_ends("2")]),
        ],
    )]);
    soon(harness.store.synced()).await;
    assert_eq!(harness.unread.list(), Vec::<&str>::new());
    let mut changes = harness.store.follow();
    let changed = soon(changes.next()).await.change;
    assert_eq!(changed.routes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_ready_when_every_kind_was_read_and_says_which_was_not() {
    let harness = Harness::start([
        (
            "services",
            vec![Answer::Status(403, FORBIDDEN), Answer::Held(vec![])],
        ),
        ("endpointslices", vec![Answer::Held(vec![list_ends("1")])]),
    ]);
    soon(harness.unread.becomes(&["Service"])).await;
    assert!(!harness.store.is_synced());
    // The list that is held up is taken for one that a server without streams does not end.
    soon(harness.unread.becomes(&[])).await;
    soon(harness.store.synced()).await;
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_read_again_from_the_start() {
    let harness = Harness::start([(
        "services",
        vec![
            Answer::Held(vec![list_ends("1"), json!({"type": "NEWS"})]),
            Answer::Held(vec![event("ADDED", service("a", 80, "2")), list_ends("3")]),
        ],
    )]);
    harness.has(&[("a", 80)]).await;
    assert_eq!(harness.api.asked("services"), ["stream", "stream"]);
}

#[tokio::test(start_paused = true)]
async fn nodes_give_their_zone_to_pods_in_whatever_order_they_are_told() {
    let pod = json!({
        "metadata": {"name": "a", "namespace": "demo", "resourceVersion": "1"},
        "spec": {"nodeName": "n", "containers": []},
    });
    let node = json!({"metadata": {"name": "n", "resourceVersion": "1", "labels": {"topology.kubernetes.io/zone": "east"}}});
    let harness = Harness::start([
        (
            "pods",
            vec![Answer::Held(vec![event("ADDED", pod), list_ends("1")])],
        ),
        (
            "nodes",
            vec![Answer::Held(vec![event("ADDED", node), list_ends("1")])],
        ),
    ]);
    soon(harness.store.synced()).await;
    let world = harness.store.current();
    let workload = world.workload(&ObjectKey::new("demo", "a")).unwrap();
    assert_eq!(workload.zone.as_deref(), Some("east"));
}
