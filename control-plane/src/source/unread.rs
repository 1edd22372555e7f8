//! What a source has yet to read before the control plane is ready.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

/// The names of what was not read yet. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Unread(Arc<Mutex<BTreeSet<&'static str>>>);

impl Unread {
    /// What it is, in order of the names.
    pub fn list(&self) -> Vec<&'static str> {
        self.lock().iter().copied().collect()
    }

    pub(crate) fn insert(&self, name: &'static str) {
        self.lock().insert(name);
    }

    pub(crate) fn remove(&self, name: &'static str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        // A panic leaves the list as it was before or after a change.
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
