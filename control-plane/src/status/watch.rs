//! The objects that are spoken of, as the API tells them to the replica that leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::Pin,
    time::Duration,
};

use futures_util::{Stream, StreamExt as _, future, stream, stream::select_all};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::Value;

use super::subject::{Spoken, Subject};
use crate::world::{ObjectKey, ObjectRef};

/// How often a kind that is not there is asked for.
const ASK_EVERY: Duration = Duration::from_secs(30);

/// What is heard of the objects of a kind.
pub(super) type Heard = (Spoken, watcher::Event<DynamicObject>);

/// What is heard from now on. Watches that break are taken up again.
pub(super) fn watch(client: &Client) -> Pin<Box<dyn Stream<Item = Heard> + Send>> {
    let of_kind = |spoken: Spoken| {
        let api = Api::<DynamicObject>::all_with(client.clone(), &resource(spoken));
        stream::once(served(api.clone()))
            .flat_map(move |()| watcher(api.clone(), watcher::Config::default()).default_backoff())
            .filter_map(move |heard| {
                // That a watch broke is told by those of the world.
                let heard = heard.inspect_err(|error| {
                    tracing::debug!(kind = spoken.kind(), %error, "watch of statuses broke");
                });
                future::ready(heard.ok().map(|event| (spoken, event)))
            })
            .boxed()
    };
    Box::pin(select_all(Spoken::ALL.map(of_kind)))
}

/// Waits until the API knows a kind: a cluster need not have Gateway API.
async fn served(api: Api<DynamicObject>) {
    let any = ListParams::default().limit(1);
    while let Err(kube::Error::Api(status)) = api.list(&any).await
        && status.code == 404
    {
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Where the API serves a kind.
pub(super) fn resource(spoken: Spoken) -> ApiResource {
    let (group, version) = spoken.api_version().split_once('/').unwrap_or_default();
    let kind = GroupVersionKind::gvk(group, version, spoken.kind());
    ApiResource::from_gvk_with_plural(&kind, spoken.plural())
}

/// The objects that are there.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) subjects: BTreeMap<ObjectRef, Subject>,
    /// What of a list that has begun has not come in it yet.
    missing: BTreeMap<Spoken, BTreeSet<ObjectKey>>,
}

impl Known {
    /// Takes in what was heard, and says of which object it was.
    pub(super) fn hear(&mut self, (spoken, event): Heard) -> Vec<ObjectRef> {
        match event {
            watcher::Event::Init => {
                let listed = self.subjects.values();
                let of_kind = listed.filter(|subject| subject.spoken == spoken);
                let keys = of_kind.map(|subject| subject.key.clone()).collect();
                self.missing.insert(spoken, keys);
                Vec::new()
            }
            watcher::Event::InitDone => {
                let gone = self.missing.remove(&spoken).unwrap_or_default();
                let gone = gone.into_iter().map(|key| ObjectRef {
                    kind: spoken.in_world(),
                    key,
                });
                let gone: Vec<_> = gone.collect();
                for object in &gone {
                    self.subjects.remove(object);
                }
                gone
            }
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => {
                self.set(spoken, object).into_iter().collect()
            }
            watcher::Event::Delete(object) => {
                let subject = read(spoken, object);
                let gone = subject.map(|subject| subject.object_ref());
                if let Some(gone) = &gone {
                    self.subjects.remove(gone);
                }
                gone.into_iter().collect()
            }
        }
    }

    /// Takes in an object as it is.
    pub(super) fn set(&mut self, spoken: Spoken, object: DynamicObject) -> Option<ObjectRef> {
        let subject = read(spoken, object)?;
        if let Some(missing) = self.missing.get_mut(&spoken) {
            missing.remove(&subject.key);
        }
        let object = subject.object_ref();
        self.subjects.insert(object.clone(), subject);
        Some(object)
    }
}

fn read(spoken: Spoken, object: DynamicObject) -> Option<Subject> {
    let value: Value = serde_json::to_value(object).ok()?;
    Subject::read(spoken, value)
}
