//! The `kubernetes` source: the objects of a cluster, by its API.
//!
//! `watch` asks for the objects of a kind, as `course` says; `catalog` says what they mean for the world. What is
//! wrong with an object is a [`Problem`](super::Problem), and never takes away what was good before.
//!
//! Needs the verbs `list` and `watch`, for the whole cluster, and no other, on:
//!
//! | API group | resources |
//! |---|---|
//! | core | `namespaces`, `nodes`, `services`, `pods` |
//! | `discovery.k8s.io` | `endpointslices` |
//! | `weft.dev` | `meshconfigs`, `trafficpolicies` |
//! | `gateway.networking.k8s.io` | `httproutes`, `grpcroutes`, `referencegrants` |

mod catalog;
mod course;
mod item;
mod kind;
mod metrics;
mod watch;

use super::{Place, Problems, Unread};
use crate::world::{Changes, Store};
use catalog::{Applied, Catalog, Event};
use kind::Watched;
use kube::Client;
pub use metrics::Metrics;
use std::{collections::BTreeSet, sync::Arc, time::Instant};
use tokio::{sync::mpsc, task::JoinSet};
use watch::{Heard, Watch};

/// What the source needs to know, and whom it tells.
#[derive(Clone)]
pub struct Settings {
    /// Reads the API.
    pub client: Client,
    /// The trust domain of the identities of workloads.
    pub trust_domain: Arc<str>,
    /// What it counts.
    pub metrics: Metrics,
    /// The kinds of which not all is known yet.
    pub unread: Unread,
    /// What is wrong.
    pub problems: Problems,
    /// The world.
    pub store: Arc<Store>,
}

/// What is taken in at once, where so much waits.
const BURST: usize = 1024;

/// Watches the API for as long as it is polled: tells the store what there is, marks it synced once every kind was
/// read, then follows every change.
pub async fn run(settings: Settings) {
    let (heard, inbox) = mpsc::channel(BURST);
    let mut watches = JoinSet::new();
    for watched in Watched::ALL {
        settings.unread.insert(watched.name());
        let watch = Watch {
            watched,
            client: settings.client.clone(),
            trust_domain: settings.trust_domain.clone(),
            metrics: settings.metrics.of(watched),
            heard: heard.clone(),
        };
        watches.spawn(watch.run());
    }
    let follower = Follower {
        catalog: Catalog::default(),
        changes: settings.store.follow(),
        unread: Watched::ALL.into(),
        settings,
    };
    follower.run(inbox).await;
}

struct Follower {
    catalog: Catalog,
    changes: Changes,
    /// The kinds of which no list was complete yet.
    unread: BTreeSet<Watched>,
    settings: Settings,
}

impl Follower {
    async fn run(mut self, mut inbox: mpsc::Receiver<Heard>) {
        let mut burst = Vec::with_capacity(BURST);
        // Waits for an event, takes with it what else is there already, and not a moment longer.
        while inbox.recv_many(&mut burst, BURST).await > 0 {
            self.take_in(&mut burst);
        }
    }

    fn take_in(&mut self, burst: &mut Vec<Heard>) {
        let at = burst.iter().map(|heard| heard.at).min();
        let at = at.unwrap_or_else(Instant::now);
        let mut applied = Applied::default();
        let (mut kinds, mut read) = (BTreeSet::new(), BTreeSet::new());
        for Heard { watched, event, .. } in burst.drain(..) {
            kinds.insert(watched);
            if matches!(event, Event::ListEnds) {
                read.insert(watched);
            }
            self.catalog.hear(watched, event, &mut applied);
        }
        self.catalog.settle(&mut applied);
        let store = &self.settings.store;
        store.apply(std::mem::take(&mut applied.updates), at);
        let published = self.changes.take();
        if published.is_some_and(|published| published.change.concerns_findings()) {
            self.catalog
                .look_at_the_whole(&store.current(), &mut applied);
        }
        for object in applied.concerned {
            let problems = self.catalog.problems(&object);
            self.settings.problems.set(Place::Object(object), problems);
        }
        for watched in kinds {
            let count = self.catalog.count(watched);
            self.settings.metrics.set_objects(watched, count);
        }
        self.note_read(&read);
    }

    fn note_read(&mut self, read: &BTreeSet<Watched>) {
        if self.unread.is_empty() {
            return;
        }
        for watched in read {
            self.unread.remove(watched);
            self.settings.unread.remove(watched.name());
        }
        if self.unread.is_empty() {
            self.settings.store.mark_synced();
        }
    }
}

#[cfg(test)]
mod tests;
