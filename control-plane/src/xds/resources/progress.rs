//! How far proxies are with what they are told.
//!
//! A stream says of itself when it is up to date, which costs it two stores; who wants to know of an object which
//! proxies have it asks now and then.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use weft_xds_proto::{exchange::Nack, resource::ResourceType};

use super::{Follower, Key, Known, Mailbox, Resources, lock};
use crate::translate::Affected;

/// How many proxies have taken in some resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Proxies that follow one of them.
    pub concerned: usize,
    /// Those that have accepted all of them that they follow, as they are.
    pub acked: usize,
    /// What was refused, by proxy.
    pub refusals: Vec<Refusal>,
}

/// What a proxy said when it refused a resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Its `node.id`.
    pub node: String,
    /// What is wrong.
    pub message: String,
}

/// What a stream says of itself.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// It has answered all that it was sent, and is owed nothing but what is in its mailbox.
    up_to_date: AtomicBool,
    /// One more than the number of the last world of which it was seen to have everything; 0: of none so far.
    has: AtomicU64,
    /// Whether there is anything in `refused`, so that an ACK need not look.
    refusing: AtomicBool,
    /// What it refuses, in which version. Without a name: something of the type, it did not say what.
    refused: Mutex<BTreeMap<Name, Refused>>,
}

type Name = (ResourceType, Option<Arc<str>>);

#[derive(Debug)]
struct Refused {
    version: Option<Arc<str>>,
    refusal: Refusal,
}

impl Follower {
    /// The client has answered everything, and nothing more is owed to it.
    pub fn up_to_date(&self) {
        if !self
            .mailbox
            .standing
            .up_to_date
            .swap(true, Ordering::SeqCst)
        {
            self.activity.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The client is, or is about to be, sent something.
    pub fn behind(&self) {
        let up_to_date = &self.mailbox.standing.up_to_date;
        up_to_date.store(false, Ordering::SeqCst);
    }

    /// The client has accepted a response of a type.
    pub fn accepted(&self, ty: ResourceType) {
        let standing = &self.mailbox.standing;
        if standing.refusing.load(Ordering::Relaxed) {
            lock(&standing.refused).remove(&(ty, None));
        }
    }

    /// The client has refused a response of a type.
    pub fn refused(&self, ty: ResourceType, node: &str, nack: &Nack) {
        let refused = |version: Option<&Arc<str>>, message: &str| Refused {
            version: version.cloned(),
            refusal: Refusal {
                node: node.to_owned(),
                message: message.to_owned(),
            },
        };
        let standing = &self.mailbox.standing;
        let mut all = lock(&standing.refused);
        for resource in &nack.resources {
            let key = (ty, Some(resource.name.as_str().into()));
            all.insert(key, refused(resource.version.as_ref(), &resource.message));
        }
        if nack.resources.is_empty() {
            all.insert((ty, None), refused(None, &nack.message));
        }
        standing.refusing.store(true, Ordering::Relaxed);
    }
}

impl Resources {
    /// Changes when [`Self::progress`] may have.
    pub fn activity(&self) -> u64 {
        self.activity.load(Ordering::Relaxed)
    }

    /// How many of the proxies that follow any of these resources have them as they are in the world of a number
    /// ([`Store::count`](crate::world::Store::count)). Who has not been up to date since it came is not counted.
    pub fn progress(&self, affected: &Affected, since: u64) -> Progress {
        let rendered = self.rendered.load(Ordering::Acquire);
        let mut followers: HashMap<u64, (Arc<Mailbox>, Vec<Refusal>)> = HashMap::new();
        for shelf in self.shelves() {
            let content = lock(&shelf.content);
            for (key, known) in affected.of(&content.known) {
                let wildcards = content.wildcards.get(&key.0).filter(|_| known.listed);
                let all = known
                    .followers
                    .iter()
                    .chain(wildcards.into_iter().flatten());
                for (id, mailbox) in all {
                    let (_, refusals) = followers
                        .entry(*id)
                        .or_insert_with(|| (mailbox.clone(), Vec::new()));
                    refusals.extend(mailbox.standing.refusal(key, known));
                }
            }
        }
        let mut progress = Progress::default();
        for (mailbox, refusals) in followers.into_values() {
            let has = mailbox.sample(rendered);
            if has == 0 && refusals.is_empty() {
                continue;
            }
            progress.concerned += 1;
            progress.acked += usize::from(has > since && refusals.is_empty());
            progress.refusals.extend(refusals);
        }
        progress.refusals.sort();
        progress.refusals.dedup();
        progress
    }
}

impl Mailbox {
    /// One more than the number of the last world of which the client has everything.
    fn sample(&self, rendered: u64) -> u64 {
        // In this order: who takes from the mailbox says before that it is behind.
        let nothing_waits = lock(&self.changed).is_empty();
        if nothing_waits && self.standing.up_to_date.load(Ordering::SeqCst) {
            self.standing.has.fetch_max(rendered + 1, Ordering::Relaxed);
        }
        self.standing.has.load(Ordering::Relaxed)
    }
}

impl Standing {
    /// What the client says against a resource as it is.
    fn refusal(&self, key: &Key, known: &Known) -> Option<Refusal> {
        if !self.refusing.load(Ordering::Relaxed) {
            return None;
        }
        let (ty, name) = key;
        let all = lock(&self.refused);
        let current = known.resource.as_ref().map(|resource| &resource.version);
        let named = all
            .get(&(*ty, Some(name.clone())))
            .filter(|refused| refused.version.as_ref() == current);
        let refused = named.or_else(|| all.get(&(*ty, None)))?;
        Some(refused.refusal.clone())
    }
}
