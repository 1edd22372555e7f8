//! What people are told of their objects, in the status of these and as events.
//!
//! The way of it: [`subject`] (an object as the API has it, with the verdict on it) -> [`report`] (what is to be said of
//! it, given the world and what proxies have) -> [`merge`] (its new status, if that differs) -> [`writer`]. All but the
//! last are functions of values.
//!
//! Only the replica that leads writes. It writes what differs from what the API has, with the version that it saw, so
//! that what another controller says of the same object is never lost; its own writing changes nothing that it would
//! write again. An object is spoken of once the world has it in the generation that the API has.
//!
//! Needs `list` and `watch` on `trafficpolicies` and `meshconfigs` (`weft.dev`), `httproutes` and `grpcroutes`
//! (`gateway.networking.k8s.io`); `patch` on the `status` of each; `create` and `patch` on `events` (`events.k8s.io`).

mod events;
mod merge;
mod metrics;
mod report;
mod scope;
mod subject;
mod watch;
mod writer;

pub use metrics::StatusMetrics;

use std::sync::Arc;

use crate::{
    kubernetes::{Cluster, Leadership},
    world::Store,
    xds::Resources,
};
use writer::Writer;

/// What the writing of status works with.
#[derive(Debug)]
pub struct Settings {
    /// Where it is written.
    pub cluster: Cluster,
    /// Says whether this replica writes.
    pub leadership: Leadership,
    /// What is in force.
    pub store: Arc<Store>,
    /// What proxies have of it.
    pub resources: Arc<Resources>,
    /// Where it counts.
    pub metrics: StatusMetrics,
}

/// Keeps the status of all objects current while this replica leads. Never ends.
pub async fn keep_current(settings: Settings) {
    let mut leadership = settings.leadership.clone();
    settings.store.synced().await;
    loop {
        leadership.acquired().await;
        let mut writer = Writer::new(&settings);
        tokio::select! {
            () = writer.run() => {}
            () = leadership.lost() => {}
        }
    }
}

/// Who writes status, beside [`FIELD_MANAGER`](crate::kubernetes::FIELD_MANAGER), who writes everything else.
const FIELD_MANAGER: &str = "weft-control-plane/status";
