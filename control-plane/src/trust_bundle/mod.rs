//! The roots of the mesh in a ConfigMap of every namespace of the mesh, where sidecars mount them.
//!
//! Owns: the ConfigMap `weft-ca-root-cert` of each namespace that has the label `weft.dev/inject: enabled`, or pods with
//! a sidecar. The leader writes it, and writes it again when somebody changes or deletes it. A namespace that
//! leaves the mesh keeps its ConfigMap, and has it kept up to date: pods may mount it still.
//!
//! Needs, in the whole cluster: `list` and `watch` on `namespaces`; on `configmaps` `create`, and on those of
//! that name `list`, `watch` and `patch`.

mod distribution;

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ObjectMeta, PartialObjectMeta, Patch, PatchParams},
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use tokio::time::{Instant, sleep_until};

use self::distribution::Distribution;
use crate::{
    ca::Ca,
    kubernetes::{Cluster, FIELD_MANAGER, Leadership},
    monitoring::metrics::BundleMetrics,
    world::{Changes, Store},
};

/// The name of each ConfigMap.
pub const NAME: &str = "weft-ca-root-cert";
/// Its one key.
pub const KEY: &str = "root-cert.pem";
/// Their label, for people who look for them.
const LABEL: &str = "weft.dev/trust-bundle";
/// The label of a namespace whose pods get sidecars.
const MESHED: &str = "weft.dev/inject=enabled";

/// Writes at a time.
const CONCURRENT: usize = 8;

/// Brings the roots into every namespace.
#[derive(Debug)]
pub struct TrustBundle {
    cluster: Cluster,
    ca: Arc<Ca>,
    store: Arc<Store>,
    metrics: BundleMetrics,
}

/// Why a ConfigMap is not written.
enum WriteError {
    /// Its namespace is not there any more.
    Gone,
    Failed(kube::Error),
}

impl TrustBundle {
    /// The roots of this CA, in the namespaces of this cluster, whose pods this world has.
    pub fn new(cluster: Cluster, ca: Arc<Ca>, store: Arc<Store>, metrics: BundleMetrics) -> Self {
        Self {
            cluster,
            ca,
            store,
            metrics,
        }
    }

    /// Distributes for as long as this replica leads. Never ends.
    pub async fn run(self, leadership: Leadership) {
        let (mut gained, mut ended) = (leadership.clone(), leadership);
        loop {
            gained.acquired().await;
            tokio::select! {
                () = self.distribute() => {}
                () = ended.lost() => {}
            }
            self.metrics.namespaces.set(0);
        }
    }

    async fn distribute(&self) {
        let client = &self.cluster.client;
        let mut namespaces = pin!(
            watcher::watcher(
                Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
                watcher::Config::default().labels(MESHED),
            )
            .default_backoff()
        );
        let mut copies = pin!(
            watcher::watcher(
                Api::<ConfigMap>::all(client.clone()),
                // By name: rights can be given for no others.
                watcher::Config::default().fields(&format!("metadata.name={NAME}")),
            )
            .default_backoff()
        );
        let mut authorities = self.ca.follow();
        let mut changes = self.store.follow();
        let mut distribution = Distribution::new(self.ca.bundle().into());
        populate(&mut distribution, &changes);
        loop {
            let next = distribution.next_due();
            tokio::select! {
                Some(heard) = namespaces.next() => match heard {
                    Ok(event) => note_namespace(&mut distribution, event),
                    Err(error) => tracing::warn!(%error, "namespaces are not followed for a moment"),
                },
                Some(heard) = copies.next() => match heard {
                    Ok(event) => note_copy(&mut distribution, event),
                    Err(error) => tracing::warn!(%error, "trust bundles are not followed for a moment"),
                },
                Ok(()) = authorities.changed() => {
                    let bundle = authorities.borrow_and_update().bundle();
                    distribution.set_bundle(bundle.into());
                }
                published = changes.next() => {
                    for key in &published.change.workloads {
                        if published.new.workload(key).is_some_and(|workload| workload.meshed) {
                            distribution.populated(&key.namespace);
                        }
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
            self.write_due(&mut distribution).await;
            let current = i64::try_from(distribution.current()).unwrap_or(i64::MAX);
            self.metrics.namespaces.set(current);
        }
    }

    async fn write_due(&self, distribution: &mut Distribution) {
        let bundle = distribution.bundle().clone();
        let due = distribution.due(Instant::now());
        let mut writes = stream::iter(due)
            .map(|namespace| {
                let bundle = &bundle;
                let client = self.cluster.client.clone();
                async move {
                    let written = write(client, &namespace, bundle).await;
                    (namespace, written)
                }
            })
            .buffer_unordered(CONCURRENT);
        while let Some((namespace, written)) = writes.next().await {
            distribution.attempted(&namespace, Instant::now());
            match written {
                Ok(()) => {
                    self.metrics.writes.inc();
                    distribution.holds(&namespace, &bundle);
                    tracing::info!(namespace, "trust bundle written");
                }
                Err(WriteError::Gone) => distribution.gone(&namespace),
                Err(WriteError::Failed(error)) => {
                    self.metrics.failures.inc();
                    tracing::warn!(namespace, %error, "trust bundle not written, trying again");
                }
            }
        }
    }
}

/// Namespaces that hold sidecars now.
fn populate(distribution: &mut Distribution, changes: &Changes) {
    for workload in changes.seen().workloads() {
        if workload.meshed {
            distribution.populated(&workload.key.namespace);
        }
    }
}

fn note_namespace<K: Resource>(distribution: &mut Distribution, event: Event<K>) {
    match event {
        Event::Init => distribution.relist_namespaces(),
        Event::InitApply(namespace) | Event::Apply(namespace) => {
            // Nothing can be made in a namespace that is about to go.
            if namespace.meta().deletion_timestamp.is_some() {
                distribution.gone(&namespace.name_any());
            } else {
                distribution.labelled(&namespace.name_any());
            }
        }
        Event::InitDone => distribution.namespaces_listed(),
        Event::Delete(namespace) => distribution.unlabelled(&namespace.name_any()),
    }
}

fn note_copy(distribution: &mut Distribution, event: Event<ConfigMap>) {
    match event {
        Event::Init => distribution.relist_copies(),
        Event::InitApply(copy) | Event::Apply(copy) => {
            let text = copy.data.as_ref().and_then(|data| data.get(KEY));
            let namespace = copy.namespace().unwrap_or_default();
            distribution.holds(&namespace, text.map_or("", String::as_str));
        }
        Event::Delete(copy) => distribution.lost(&copy.namespace().unwrap_or_default()),
        Event::InitDone => distribution.copies_listed(),
    }
}

async fn write(client: Client, namespace: &str, bundle: &str) -> Result<(), WriteError> {
    let copy = ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(BTreeMap::from([(LABEL.to_owned(), "true".to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(KEY.to_owned(), bundle.to_owned())])),
        ..ConfigMap::default()
    };
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match Api::<ConfigMap>::namespaced(client, namespace)
        .patch(NAME, &params, &Patch::Apply(&copy))
        .await
    {
        Ok(_) => Ok(()),
        Err(error) if is_of_namespace(&error) => Err(WriteError::Gone),
        Err(error) => Err(WriteError::Failed(error)),
    }
}

/// Whether a write failed because its namespace is gone, or going.
fn is_of_namespace(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    status.code == 404 || (causes.into_iter()).any(|cause| cause.reason == "NamespaceTerminating")
}

#[cfg(test)]
mod tests;
