//! What a source has yet to read before the control plane is ready.

use std::collections::BTreeSet;
use tokio::sync::watch;

/// The names of what was not read yet. Clones share one list.
#[derive(Debug, Clone)]
pub struct Unread(watch::Sender<BTreeSet<&'static str>>);

impl Unread {
    /// What it is, in order of the names.
    pub fn list(&self) -> Vec<&'static str> {
        self.0.borrow().iter().copied().collect()
    }

    /// Waits until it is this and no more.
    #[cfg(test)]
    pub(crate) async fn becomes(&self, names: &[&str]) {
        let mut list = self.0.subscribe();
        let reached = list.wait_for(|list| list.iter().eq(names)).await;
        reached.expect("the sender lives in self");
    }

    pub(crate) fn insert(&self, name: &'static str) {
        self.0.send_modify(|list| {
            list.insert(name);
        });
    }

    pub(crate) fn remove(&self, name: &'static str) {
        self.0.send_modify(|list| {
            list.remove(name);
        });
    }
}

impl Default for Unread {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeSet::new()))
    }
}
