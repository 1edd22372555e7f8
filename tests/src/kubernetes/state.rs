//! What every request of the stand-in shares.

use super::{
    authentication::{Tokens, User},
    authorization::{Attributes, Grants},
    defaults::Addresses,
    faults::Faults,
    place::Place,
    requests::Requests,
    resource::Registry,
    status::Status,
    store::{Store, Table},
};
use serde_json::Value;
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

/// How many changes are known unless a test says otherwise.
const WINDOW: usize = 10_000;
/// How often a watch is told how far it is, as Kubernetes does.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// The whole stand-in, but for its sockets.
#[derive(Debug)]
pub(super) struct State {
    data: Mutex<Data>,
    /// What a test lets go wrong.
    pub faults: Faults,
    /// What was asked.
    pub requests: Requests,
    /// From where webhooks are reached.
    pub place: Place,
    is_guarded: AtomicBool,
    bookmarks: AtomicU64,
}

/// What changes with requests.
#[derive(Debug)]
pub(super) struct Data {
    /// The objects.
    pub store: Store,
    /// The kinds of them.
    pub registry: Registry,
    /// The tokens.
    pub tokens: Tokens,
    /// The addresses of services.
    pub addresses: Addresses,
}

impl State {
    pub(super) fn new(place: Place) -> Self {
        Self {
            data: Mutex::new(Data {
                store: Store::new(WINDOW),
                registry: Registry::default(),
                tokens: Tokens::default(),
                addresses: Addresses::default(),
            }),
            faults: Faults::default(),
            requests: Requests::default(),
            place,
            is_guarded: AtomicBool::new(false),
            bookmarks: AtomicU64::new(u64::try_from(BOOKMARKS.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// Exclusive use of what changes.
    pub(super) fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether rights are checked.
    pub(super) fn guard(&self, is_guarded: bool) {
        self.is_guarded.store(is_guarded, Ordering::Relaxed);
    }

    pub(super) fn is_guarded(&self) -> bool {
        self.is_guarded.load(Ordering::Relaxed)
    }

    pub(super) fn set_bookmarks(&self, interval: Duration) {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.bookmarks.store(millis, Ordering::Relaxed);
    }

    pub(super) fn bookmarks(&self) -> Duration {
        Duration::from_millis(self.bookmarks.load(Ordering::Relaxed))
    }

    /// Refuses what the user may not do, where rights are checked.
    pub(super) fn authorize(&self, user: &User, attributes: Attributes<'_>) -> Result<(), Status> {
        if !self.is_guarded() || user.is_admin() {
            return Ok(());
        }
        let data = self.data();
        let roles = |plural: &str| rbac(&data.store, plural);
        Grants {
            roles: roles("roles"),
            cluster_roles: roles("clusterroles"),
            bindings: roles("rolebindings"),
            cluster_bindings: roles("clusterrolebindings"),
        }
        .check(user, attributes)
    }
}

fn rbac<'a>(store: &'a Store, plural: &str) -> Vec<&'a Value> {
    let table: Table = ("rbac.authorization.k8s.io".to_owned(), plural.to_owned());
    let objects = store.list(&table, "", None);
    objects.map(|object| &object.value).collect()
}

/// The time as objects carry it.
pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
