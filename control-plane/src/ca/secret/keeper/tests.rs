use std::sync::Mutex;

use http::Method;
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;
use crate::{
    ca::secret::ledger::{CERTIFICATE, KEY, NEXT_ROOT, NEXT_SIGNS_AT, ROTATE},
    kubernetes::fake,
};

const SECRETS: &str = "/api/v1/namespaces/weft-system/secrets";

/// The Secrets of a namespace, with resource versions, conflicts and watches.
#[derive(Clone)]
struct Secrets {
    versions: Arc<watch::Sender<u64>>,
    objects: Arc<Mutex<Vec<Secret>>>,
    /// Answers instead of the API when it says so.
    failing: Arc<Mutex<Option<u16>>>,
}

impl Secrets {
    fn new() -> Self {
        Self {
            versions: Arc::new(watch::Sender::new(1)),
            objects: Arc::default(),
            failing: Arc::default(),
        }
    }

    fn cluster(&self, replica: &str) -> Cluster {
        let secrets = self.clone();
        let client = fake::client(move |request| {
            let secrets = secrets.clone();
            async move { secrets.answer(request).await }
        });
        Cluster {
            client,
            namespace: "weft-system".into(),
            replica: replica.into(),
        }
    }

    fn get(&self, name: &str) -> Option<Secret> {
        let objects = self.objects.lock().unwrap();
        let named = |secret: &&Secret| secret.metadata.name.as_deref() == Some(name);
        objects.iter().find(named).cloned()
    }

    fn set(&self, mut secret: Secret) -> Secret {
        let version = *self.versions.borrow() + 1;
        secret.metadata.resource_version = Some(version.to_string());
        let mut objects = self.objects.lock().unwrap();
        objects.retain(|other| other.metadata.name != secret.metadata.name);
        objects.push(secret.clone());
        drop(objects);
        self.versions.send_replace(version);
        secret
    }

    fn delete(&self, name: &str) {
        let named = |secret: &Secret| secret.metadata.name.as_deref() == Some(name);
        self.objects.lock().unwrap().retain(|secret| !named(secret));
        self.versions.send_modify(|version| *version += 1);
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut Ledger)) {
        let mut secret = self.get(name).unwrap();
        let mut ledger = Ledger::read(&secret).unwrap();
        edit(&mut ledger);
        ledger.write(&mut secret);
        self.set(secret);
    }

    fn ledger(&self) -> Ledger {
        Ledger::read(&self.get(NAME).unwrap()).unwrap()
    }

    async fn answer(&self, request: fake::Request) -> (u16, Value) {
        if let Some(code) = *self.failing.lock().unwrap() {
            return failure(code);
        }
        if request.query.contains("watch=true") {
            return self.next_event(&request).await;
        }
        let name = request.path.strip_prefix(SECRETS).unwrap();
        let name = name.trim_start_matches('/');
        match request.method {
            Method::GET if name.is_empty() => {
                let items: Vec<_> = selected(&request.query)
                    .and_then(|name| self.get(&name))
                    .into_iter()
                    .collect();
                let version = self.versions.borrow().to_string();
                (
                    200,
                    json!({"metadata": {"resourceVersion": version}, "items": items}),
                )
            }
            Method::GET => found(self.get(name)),
            Method::POST => {
                let secret: Secret = serde_json::from_value(request.body).unwrap();
                match self.get(secret.metadata.name.as_deref().unwrap()) {
                    Some(_) => failure(409),
                    None => (201, json!(self.set(secret))),
                }
            }
            Method::PUT => {
                let secret: Secret = serde_json::from_value(request.body).unwrap();
                match self.get(name) {
                    None => failure(404),
                    Some(there)
                        if there.metadata.resource_version != secret.metadata.resource_version =>
                    {
                        failure(409)
                    }
                    Some(_) => (200, json!(self.set(secret))),
                }
            }
            other => panic!("{other} is not expected"),
        }
    }

    /// One event at a time: the next change ends the watch.
    async fn next_event(&self, request: &fake::Request) -> (u16, Value) {
        let name = selected(&request.query).unwrap();
        let version = parameter(&request.query, "resourceVersion").unwrap();
        let seen: u64 = version.parse().unwrap();
        let mut versions = self.versions.subscribe();
        versions.wait_for(|version| *version > seen).await.unwrap();
        match self.get(&name) {
            Some(secret) => (200, json!({"type": "MODIFIED", "object": secret})),
            None => {
                let version = versions.borrow().to_string();
                let metadata = json!({"name": name, "resourceVersion": version});
                (
                    200,
                    json!({"type": "DELETED", "object": {"metadata": metadata}}),
                )
            }
        }
    }
}

fn found(secret: Option<Secret>) -> (u16, Value) {
    secret.map_or_else(|| failure(404), |secret| (200, json!(secret)))
}

fn failure(code: u16) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Forbidden",
    };
    let status = json!({
        "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason,
    });
    (code, status)
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| value.to_owned())
    })
}

fn selected(query: &str) -> Option<String> {
    let selector = parameter(query, "fieldSelector")?;
    selector.strip_prefix("metadata.name%3D").map(str::to_owned)
}

fn settings(supplied: Option<&str>) -> Settings {
    Settings {
        leaves: Leaves {
            trust_domain: "cluster.local".into(),
            max_ttl: Duration::from_secs(3600),
        },
        supplied: supplied.map(Into::into),
        overlap: Duration::from_secs(600),
    }
}

async fn open(secrets: &Secrets, replica: &str) -> (Arc<Ca>, Keeper) {
    Keeper::open(
        &secrets.cluster(replica),
        settings(None),
        CaMetrics::default(),
    )
    .await
    .unwrap()
}

/// A Secret as cert-manager writes it.
fn supplied() -> Secret {
    let root = NewRoot::generate("cluster.local", SystemTime::now());
    let data = [
        ("tls.crt", root.certificate.clone()),
        ("tls.key", root.key),
        ("ca.crt", root.certificate),
    ];
    let mut secret = Secret {
        data: Some(
            data.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())))
                .into(),
        ),
        ..Secret::default()
    };
    secret.metadata.name = Some("issuer".to_owned());
    secret
}

#[tokio::test]
async fn the_first_replica_makes_the_root_and_all_others_read_it() {
    let secrets = Secrets::new();
    let (first, second) = tokio::join!(open(&secrets, "a"), open(&secrets, "b"));
    assert_eq!(first.0.bundle(), second.0.bundle());
    let (third, _) = open(&secrets, "c").await;
    assert_eq!(third.bundle(), first.0.bundle());
    let secret = secrets.get(NAME).unwrap();
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    let keys: Vec<_> = secret.data.unwrap().into_keys().collect();
    assert_eq!(keys, [CERTIFICATE, KEY]);
}

#[tokio::test]
async fn a_root_that_cannot_be_read_is_named_and_left_alone() {
    for key in [CERTIFICATE, KEY] {
        let secrets = Secrets::new();
        open(&secrets, "a").await;
        secrets.edit(NAME, |ledger| {
            ledger.texts.insert(key.to_owned(), "garbage".to_owned());
        });
        let before = secrets.get(NAME);
        let cluster = secrets.cluster("b");
        let opened = Keeper::open(&cluster, settings(None), CaMetrics::default());
        let error = opened.await.unwrap_err().to_string();
        for part in ["weft-system/weft-ca", key, "backup"] {
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(secrets.get(NAME), before);
    }
}

#[tokio::test(start_paused = true)]
async fn an_api_that_refuses_is_told_at_once_and_one_that_fails_after_a_while() {
    for (code, patience) in [(403, Duration::ZERO), (500, PATIENCE)] {
        let secrets = Secrets::new();
        *secrets.failing.lock().unwrap() = Some(code);
        let began = Instant::now();
        let cluster = secrets.cluster("a");
        let opened = Keeper::open(&cluster, settings(None), CaMetrics::default());
        let error = opened.await.unwrap_err().to_string();
        assert!(
            error.contains("weft-system/weft-ca cannot be read"),
            "{error}"
        );
        assert_eq!(began.elapsed(), patience);
    }
}

#[tokio::test]
async fn a_rotation_is_done_by_the_leader_alone_and_step_by_step() {
    let secrets = Secrets::new();
    let (ca, mut keeper) = open(&secrets, "a").await;
    let before = ca.authority();
    secrets.edit(NAME, |ledger| {
        ledger.notes.insert(ROTATE.to_owned(), "now".to_owned());
    });
    keeper.take_own(secrets.get(NAME)).unwrap();

    let now = SystemTime::now();
    keeper.act(false, now).await;
    assert!(secrets.ledger().text(NEXT_ROOT).is_none());

    assert_eq!(keeper.act(true, now).await, Duration::ZERO);
    let introduced = secrets.ledger();
    assert!(introduced.text(NEXT_ROOT).is_some());
    assert!(!introduced.notes.contains_key(ROTATE));
    assert_eq!(ca.authority().roots().len(), 2);
    assert_eq!(ca.authority().roots()[0], before.roots()[0]);

    // Another replica goes on.
    let signs_at = introduced.time(NEXT_SIGNS_AT).unwrap().unwrap();
    let (other, mut keeper) = open(&secrets, "b").await;
    assert_eq!(keeper.act(true, signs_at).await, Duration::ZERO);
    let promoted = other.authority();
    assert_eq!(promoted.roots()[0], *introduced.text(NEXT_ROOT).unwrap());
    assert_eq!(promoted.roots()[1], before.roots()[0]);

    let wait = keeper.act(true, signs_at).await;
    assert!(wait > Duration::ZERO && wait <= CLOCK_CHECK);
    let over = signs_at + Duration::from_secs(3600 + 600 + 1);
    assert_eq!(keeper.act(true, over).await, Duration::ZERO);
    assert_eq!(other.authority().roots(), &promoted.roots()[..1]);
    for (step, count) in [("introduce", 0), ("promote", 1), ("retire", 1)] {
        assert_eq!(keeper.metrics.step(step).get(), count, "{step}");
    }
}

#[tokio::test]
async fn of_two_that_write_one_wins_and_the_other_looks_again() {
    let secrets = Secrets::new();
    let (_, mut first) = open(&secrets, "a").await;
    let (_, mut second) = open(&secrets, "b").await;
    secrets.edit(NAME, |ledger| {
        ledger.notes.insert(ROTATE.to_owned(), "now".to_owned());
    });
    let asked = secrets.get(NAME);
    first.take_own(asked.clone()).unwrap();
    second.take_own(asked).unwrap();
    let now = SystemTime::now();
    assert_eq!(first.act(true, now).await, Duration::ZERO);
    let introduced = secrets.ledger();
    assert_eq!(second.act(true, now).await, RETRY);
    assert_eq!(secrets.ledger(), introduced);
}

#[tokio::test]
async fn a_secret_that_becomes_unusable_leaves_the_last_good_root_in_force() {
    let secrets = Secrets::new();
    let (ca, mut keeper) = open(&secrets, "a").await;
    let before = ca.authority();
    secrets.edit(NAME, |ledger| {
        ledger.texts.insert(KEY.to_owned(), "garbage".to_owned());
        ledger.notes.insert(ROTATE.to_owned(), "now".to_owned());
    });
    let broken = secrets.get(NAME);
    keeper.heard(|keeper| keeper.take_own(broken.clone()));
    assert_eq!(keeper.metrics.usable.get(), 0);
    assert_eq!(ca.authority(), before);
    assert_ne!(keeper.act(true, SystemTime::now()).await, Duration::ZERO);
    assert_eq!(secrets.get(NAME), broken);
}

#[tokio::test]
async fn a_deleted_secret_is_made_again_from_what_it_said() {
    let secrets = Secrets::new();
    let (ca, mut keeper) = open(&secrets, "a").await;
    let (before, ledger) = (ca.authority(), secrets.ledger());
    secrets.delete(NAME);
    keeper.take_own(None).unwrap();
    assert_eq!(keeper.act(true, SystemTime::now()).await, Duration::ZERO);
    assert_eq!(secrets.ledger(), ledger);
    assert_eq!(ca.authority(), before);
}

#[tokio::test]
async fn every_replica_takes_over_a_change_as_it_happens() {
    let secrets = Secrets::new();
    let (ca, keeper) = open(&secrets, "a").await;
    let mut authorities = ca.follow();
    let following = tokio::spawn(keeper.run(Leadership::settled(false)));
    let other = NewRoot::generate("cluster.local", SystemTime::now());
    secrets.edit(NAME, |ledger| {
        ledger
            .texts
            .insert("other.root.pem".to_owned(), other.certificate.clone());
    });
    let told = authorities.wait_for(|authority| authority.roots().len() == 2);
    assert_eq!(told.await.unwrap().roots()[1], other.certificate);
    following.abort();
}

#[tokio::test]
async fn a_supplied_secret_signs_and_is_never_written() {
    let secrets = Secrets::new();
    let given = secrets.set(supplied());
    let cluster = secrets.cluster("a");
    let opened = Keeper::open(&cluster, settings(Some("issuer")), CaMetrics::default());
    let (ca, mut keeper) = opened.await.unwrap();
    assert_eq!(keeper.act(true, SystemTime::now()).await, Duration::ZERO);
    assert_eq!(secrets.get("issuer"), Some(given));
    assert!(!secrets.ledger().is_established());
    let first = ca.authority();

    let changed = secrets.set(supplied());
    keeper.take_supplied(Some(changed)).unwrap();
    let now = SystemTime::now();
    assert_eq!(keeper.act(true, now).await, Duration::ZERO);
    assert_eq!(ca.authority().roots().len(), 2);
    assert_eq!(ca.authority().roots()[0], first.roots()[0]);

    let later = now + Duration::from_secs(60);
    keeper.act(false, later).await;
    assert_eq!(ca.authority().roots()[1].trim(), first.roots()[0].trim());

    // A replica that starts now knows of the former root from the control plane's own Secret.
    let opened = Keeper::open(&cluster, settings(Some("issuer")), CaMetrics::default());
    let (restarted, _) = opened.await.unwrap();
    assert_eq!(restarted.authority().roots().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_supplied_secret_that_is_not_there_is_asked_for() {
    let secrets = Secrets::new();
    let cluster = secrets.cluster("a");
    let opened = Keeper::open(&cluster, settings(Some("issuer")), CaMetrics::default());
    let error = opened.await.unwrap_err().to_string();
    assert!(
        error.contains("weft-system/issuer") && error.contains("--ca-secret"),
        "{error}"
    );
}
