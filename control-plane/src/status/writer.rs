//! Writes statuses: what differs, a bounded number at a time, and what fails again later.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::jiff::{Timestamp, Unit};
use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::{
    FIELD_MANAGER, Settings, StatusMetrics,
    events::Herald,
    merge::{Difference, difference},
    report::report,
    scope::Scope,
    subject::{Subject, Told},
    watch::{Known, resource, watch},
};
use crate::{
    world::{Changes, Finding, ObjectRef, Published, World},
    xds::{Progress, Resources},
};

/// How often everything is looked at, if anything may differ.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is heard within this time is looked at together.
const LISTEN: Duration = Duration::from_millis(100);

/// Numbers of proxies are written no more often, for each object.
const NUMBERS_EVERY: Duration = Duration::from_secs(10);

/// How many statuses are written in one look, and how many at once.
const WRITES: usize = 100;
const AT_ONCE: usize = 8;

/// A write that takes longer has failed.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// A write that failed is tried again after 1 s, then twice as long each time, up to this.
const RETRY_AT_MOST: Duration = Duration::from_secs(60);

pub(super) struct Writer {
    client: Client,
    resources: Arc<Resources>,
    metrics: StatusMetrics,
    herald: Herald,
    changes: Changes,
    world: Arc<World>,
    count: u64,
    findings: BTreeMap<ObjectRef, Vec<Finding>>,
    known: Known,
    tracked: BTreeMap<ObjectRef, Tracked>,
    /// [`Resources::activity`] at the last look at everything.
    activity: Option<u64>,
    /// Whether everything is to be looked at, as the world is another or something was left.
    due: bool,
}

/// What is kept of an object besides what the API says.
#[derive(Debug, Default)]
struct Tracked {
    /// What it has to do with, once the world has it.
    scope: Option<Scope>,
    /// The number of the world since which it says what it says.
    since: u64,
    written: Option<Instant>,
    failures: u32,
    not_before: Option<Instant>,
}

/// A status to be written.
struct Write {
    object: ObjectRef,
    subject: Subject,
    difference: Difference,
}

impl Writer {
    pub(super) fn new(settings: &Settings) -> Self {
        let changes = settings.store.follow();
        let world = changes.seen().clone();
        let mut writer = Self {
            client: settings.cluster.client.clone(),
            resources: settings.resources.clone(),
            metrics: settings.metrics.clone(),
            herald: Herald::new(settings.cluster.client.clone(), &settings.cluster.replica),
            count: changes.count(),
            changes,
            world,
            findings: BTreeMap::new(),
            known: Known::default(),
            tracked: BTreeMap::new(),
            activity: None,
            due: true,
        };
        writer.find();
        writer
    }

    /// Never ends.
    pub(super) async fn run(&mut self) {
        let mut heard = watch(&self.client);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(first) = heard.next() => {
                    let mut concerned: BTreeSet<_> = self.known.hear(first).into_iter().collect();
                    let mut listened = std::pin::pin!(sleep(LISTEN));
                    loop {
                        tokio::select! {
                            Some(next) = heard.next() => concerned.extend(self.known.hear(next)),
                            () = &mut listened => break,
                        }
                    }
                    self.take_in_changes();
                    self.look(concerned).await;
                }
                _ = looks.tick() => {
                    self.take_in_changes();
                    let activity = Some(self.resources.activity());
                    if std::mem::take(&mut self.due) || activity != self.activity {
                        self.activity = activity;
                        let all = self.known.subjects.keys().cloned().collect();
                        self.look(all).await;
                    }
                }
            }
        }
    }

    /// Takes in what has become of the world.
    fn take_in_changes(&mut self) {
        let Some(Published {
            new, change, count, ..
        }) = self.changes.take()
        else {
            return;
        };
        self.due = true;
        self.world = new;
        self.count = count;
        if change.concerns_findings() {
            self.find();
        }
        for (object, tracked) in &mut self.tracked {
            let (Some(scope), Some(subject)) = (&tracked.scope, self.known.subjects.get(object))
            else {
                continue;
            };
            let anew = scope.is_said_anew(subject, &change);
            if anew {
                tracked.since = count;
            }
            if anew || scope.moves(&change) {
                tracked.scope = None;
            }
        }
    }

    fn find(&mut self) {
        self.findings.clear();
        for finding in self.world.findings() {
            let of_object = self.findings.entry(finding.object.clone()).or_default();
            of_object.push(finding);
        }
    }

    /// Writes what differs of these objects.
    async fn look(&mut self, objects: BTreeSet<ObjectRef>) {
        let now = Instant::now();
        let mut writes = Vec::new();
        for object in objects {
            let Some(subject) = self.known.subjects.get(&object) else {
                self.tracked.remove(&object);
                continue;
            };
            // The world will have it in a moment, and then there is a change to look at.
            if !subject.is_in(&self.world) {
                continue;
            }
            let count = self.count;
            let first = || Tracked {
                since: count,
                ..Tracked::default()
            };
            let tracked = self.tracked.entry(object.clone()).or_insert_with(first);
            let Some(difference) = tracked.difference(
                subject,
                &self.world,
                self.findings.get(&object).map_or(&[], Vec::as_slice),
                &self.resources,
            ) else {
                continue;
            };
            if !tracked.may_write(&difference, now) || writes.len() == WRITES {
                self.due = true;
                continue;
            }
            writes.push(Write {
                object,
                subject: subject.clone(),
                difference,
            });
        }
        let (client, herald) = (&self.client, &self.herald);
        let written: Vec<_> = stream::iter(writes)
            .map(async |write| {
                let outcome = put(client, &write).await;
                if outcome.is_ok() {
                    let bad_news = &write.difference.bad_news;
                    herald.tell(&write.subject, bad_news).await;
                }
                (write, outcome)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (write, outcome) in written {
            self.settle(write, outcome);
        }
    }

    fn settle(&mut self, write: Write, outcome: Result<DynamicObject, Failure>) {
        let Write {
            object, subject, ..
        } = write;
        let now = Instant::now();
        let tracked = self.tracked.entry(object.clone()).or_default();
        match outcome {
            Ok(as_written) => {
                self.metrics.written.inc();
                tracked.failures = 0;
                tracked.written = Some(now);
                // Known before the watch tells it: it is not written twice.
                self.known.set(subject.spoken, as_written);
            }
            Err(Failure::Gone) => {
                self.known.subjects.remove(&object);
                self.tracked.remove(&object);
            }
            Err(Failure::Conflict) => {
                self.metrics.conflicts.inc();
                tracked.not_before = Some(now + LOOK_EVERY);
                self.due = true;
            }
            Err(Failure::Other(error)) => {
                self.metrics.failed.inc();
                let kind = subject.spoken.kind();
                match tracked.failures {
                    0 => {
                        tracing::warn!(kind, object = %subject.key, error, "a status cannot be written")
                    }
                    _ => {
                        tracing::debug!(kind, object = %subject.key, error, "a status cannot be written")
                    }
                }
                let wait = LOOK_EVERY.saturating_mul(1 << tracked.failures.min(6));
                tracked.not_before = Some(now + wait.min(RETRY_AT_MOST));
                tracked.failures = tracked.failures.saturating_add(1);
                self.due = true;
            }
        }
    }
}

impl Tracked {
    fn difference(
        &mut self,
        subject: &Subject,
        world: &World,
        findings: &[Finding],
        resources: &Resources,
    ) -> Option<Difference> {
        let progress = match subject.verdict {
            Told::Good(_) => {
                let scope = self.scope.get_or_insert_with(|| Scope::of(subject, world));
                resources.progress(&scope.affected, self.since)
            }
            Told::Bad(_) | Told::Foreign => Progress::default(),
        };
        let entries = report(subject, findings, &progress);
        difference(subject, &entries, &rfc3339())
    }

    fn may_write(&self, difference: &Difference, now: Instant) -> bool {
        let waits = self.not_before.is_some_and(|not_before| now < not_before);
        let recent = |written: Instant| now < written + NUMBERS_EVERY;
        !waits && (difference.pressing || !self.written.is_some_and(recent))
    }
}

/// Why a status was not written.
enum Failure {
    /// The object is not there any more.
    Gone,
    /// It is another than it was when the status was thought of.
    Conflict,
    Other(String),
}

async fn put(client: &Client, write: &Write) -> Result<DynamicObject, Failure> {
    let Write { subject, .. } = write;
    let resource = resource(subject.spoken);
    let api = match &*subject.key.namespace {
        "" => Api::all_with(client.clone(), &resource),
        namespace => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let namespace = Some(&*subject.key.namespace).filter(|namespace| !namespace.is_empty());
    let patch = json!({
        "apiVersion": subject.spoken.api_version(),
        "kind": subject.spoken.kind(),
        "metadata": {
            "name": &*subject.key.name,
            "namespace": namespace,
            "uid": subject.uid,
            "resourceVersion": subject.version,
        },
        "status": write.difference.status,
    });
    // A list that several controllers write to is owned whole by who wrote last; the version keeps what others said.
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let patch = Patch::Apply(&patch);
    let done = timeout(
        WRITE_WITHIN,
        api.patch_status(&subject.key.name, &params, &patch),
    );
    match done.await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Err(Failure::Gone),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failure::Conflict),
        Ok(Err(error)) => Err(Failure::Other(error.to_string())),
        Err(_) => Err(Failure::Other("the API server does not answer".to_owned())),
    }
}

/// Now, to the second, as conditions tell time.
fn rfc3339() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests;
