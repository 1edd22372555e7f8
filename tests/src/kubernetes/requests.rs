//! What was asked, so that a test can tell a hot loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

/// Which requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The name of the user.
    pub user: String,
    /// The verb, as rights name it.
    pub verb: String,
    /// The resource with its subresource: `pods/status`.
    pub resource: String,
}

/// Counts of requests, refused ones included.
#[derive(Debug, Default)]
pub struct Requests {
    counts: Mutex<BTreeMap<Asked, u64>>,
    forbidden: Mutex<BTreeSet<String>>,
}

impl Requests {
    pub(super) fn add(&self, user: &str, verb: &str, resource: &str) {
        let asked = Asked {
            user: user.to_owned(),
            verb: verb.to_owned(),
            resource: resource.to_owned(),
        };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(asked).or_default() += 1;
    }

    pub(super) fn forbid(&self, message: &str) {
        let forbidden = self.forbidden.lock();
        let mut forbidden = forbidden.unwrap_or_else(PoisonError::into_inner);
        forbidden.insert(message.to_owned());
    }

    /// What was refused for want of rights, in the words of the refusals.
    pub fn forbidden(&self) -> BTreeSet<String> {
        let forbidden = self.forbidden.lock();
        forbidden.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every count so far.
    pub fn all(&self) -> BTreeMap<Asked, u64> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }

    /// How often anybody asked with a verb for a resource; empty means any.
    pub fn count(&self, verb: &str, resource: &str) -> u64 {
        let all = self.all();
        all.iter()
            .filter(|(asked, _)| verb.is_empty() || asked.verb == verb)
            .filter(|(asked, _)| resource.is_empty() || asked.resource == resource)
            .map(|(_, count)| count)
            .sum()
    }
}
