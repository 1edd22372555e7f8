//! The resources that somebody follows, rendered once per dialect.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Instant,
};

use tokio::sync::Notify;
use weft_xds_proto::{
    envoy::google::protobuf::Any,
    exchange::{Catalogue, Encoded},
    resource::ResourceType,
};

use crate::{
    translate::{self, Affected, Dialect},
    world::{Changes, Published, World},
};

/// Every resource that a stream follows, by dialect.
#[derive(Debug)]
pub struct Resources(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    world: Arc<World>,
    shelves: HashMap<Dialect, Weak<Shelf>>,
    next_follower: u64,
}

/// A stream's part in the resources: what it follows, and what of that has changed since it last
/// looked. Dropping it ends its subscriptions.
#[derive(Debug)]
pub struct Follower {
    id: u64,
    shelf: Arc<Shelf>,
    mailbox: Arc<Mailbox>,
    names: BTreeSet<Key>,
    wildcards: BTreeSet<ResourceType>,
}

type Key = (ResourceType, Arc<str>);

/// The resources of one dialect.
#[derive(Debug)]
struct Shelf {
    dialect: Dialect,
    content: Mutex<Content>,
}

#[derive(Debug)]
struct Content {
    world: Arc<World>,
    known: BTreeMap<Key, Known>,
    /// Who follows every resource of a type.
    wildcards: BTreeMap<ResourceType, HashMap<u64, Arc<Mailbox>>>,
}

/// A resource that somebody follows, or that a wildcard covers.
#[derive(Debug, Default)]
struct Known {
    /// `None` while it does not exist.
    resource: Option<Arc<Encoded>>,
    /// Whether it is among the names that a wildcard stands for.
    listed: bool,
    followers: HashMap<u64, Arc<Mailbox>>,
}

/// What changed for a follower, coalesced by name.
#[derive(Debug, Default)]
struct Mailbox {
    changed: Mutex<BTreeMap<Key, Instant>>,
    wake: Notify,
}

impl Resources {
    /// Resources of a world that nobody follows yet.
    pub fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            world,
            shelves: HashMap::new(),
            next_follower: 0,
        })))
    }

    /// Keeps the resources up to date with the world. Never ends.
    pub async fn keep_current(&self, mut changes: Changes) {
        loop {
            let published = changes.next().await;
            self.update(&published);
        }
    }

    /// Renders again what a change may affect, and wakes those who follow what differs.
    pub fn update(&self, published: &Published) {
        let Published { old, new, change } = published;
        let shelves: Vec<_> = {
            let mut inner = lock(&self.0);
            inner.world = new.clone();
            inner.shelves.values().filter_map(Weak::upgrade).collect()
        };
        if shelves.is_empty() {
            return;
        }
        let affected = translate::affected(old, new, change);
        for shelf in shelves {
            shelf.update(new, &affected, change.at);
        }
    }

    /// A new follower in a dialect, of nothing so far.
    pub fn follower(&self, dialect: &Dialect) -> Follower {
        let mut inner = lock(&self.0);
        inner.next_follower += 1;
        let id = inner.next_follower;
        let shelf = match inner.shelves.get(dialect).and_then(Weak::upgrade) {
            Some(shelf) => shelf,
            None => {
                let shelf = Arc::new(Shelf::new(dialect.clone(), inner.world.clone()));
                inner.shelves.retain(|_, shelf| shelf.strong_count() > 0);
                inner
                    .shelves
                    .insert(dialect.clone(), Arc::downgrade(&shelf));
                shelf
            }
        };
        Follower {
            id,
            shelf,
            mailbox: Arc::default(),
            names: BTreeSet::new(),
            wildcards: BTreeSet::new(),
        }
    }

    /// How many resources are held, over all dialects.
    pub fn count(&self) -> usize {
        let shelves: Vec<_> = lock(&self.0).shelves.values().cloned().collect();
        let shelves = shelves.iter().filter_map(Weak::upgrade);
        shelves.map(|shelf| lock(&shelf.content).known.len()).sum()
    }
}

impl Follower {
    /// Follows a resource by name, whether it exists or not.
    pub fn follow(&mut self, ty: ResourceType, name: &Arc<str>) {
        let key = (ty, name.clone());
        if self.names.insert(key.clone()) {
            let mut content = lock(&self.shelf.content);
            let known = content.know(&self.shelf.dialect, key);
            known.followers.insert(self.id, self.mailbox.clone());
        }
    }

    /// No longer follows a resource by name.
    pub fn unfollow(&mut self, ty: ResourceType, name: &Arc<str>) {
        let key = (ty, name.clone());
        if self.names.remove(&key) {
            lock(&self.shelf.content).leave(&key, self.id);
        }
    }

    /// Follows every resource of a type from now on, or no longer.
    pub fn follow_all(&mut self, ty: ResourceType, all: bool) {
        let mut content = lock(&self.shelf.content);
        if all && self.wildcards.insert(ty) {
            content.list(&self.shelf.dialect, ty);
            let followers = content.wildcards.entry(ty).or_default();
            followers.insert(self.id, self.mailbox.clone());
        } else if !all && self.wildcards.remove(&ty) {
            content.leave_all(ty, self.id);
        }
    }

    /// How many resources are followed by name.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Waits until something changed. Dropping the future before it is done loses nothing.
    pub async fn changed(&self) {
        self.mailbox.wake.notified().await;
    }

    /// What changed since the last call, and when.
    pub fn take_changed(&self) -> BTreeMap<(ResourceType, Arc<str>), Instant> {
        std::mem::take(&mut lock(&self.mailbox.changed))
    }
}

impl Catalogue for Follower {
    fn find(&self, ty: ResourceType, name: &str) -> Option<Arc<Encoded>> {
        let content = lock(&self.shelf.content);
        content.known.get(&(ty, name.into()))?.resource.clone()
    }

    fn names(&self, ty: ResourceType) -> Vec<Arc<str>> {
        let content = lock(&self.shelf.content);
        let of_type = content.of_type(ty);
        let listed = of_type.filter(|(_, known)| known.listed && known.resource.is_some());
        listed.map(|((_, name), _)| name.clone()).collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut content = lock(&self.shelf.content);
        for key in &self.names {
            content.leave(key, self.id);
        }
        for ty in &self.wildcards {
            content.leave_all(*ty, self.id);
        }
    }
}

impl Shelf {
    fn new(dialect: Dialect, world: Arc<World>) -> Self {
        Self {
            dialect,
            content: Mutex::new(Content {
                world,
                known: BTreeMap::new(),
                wildcards: BTreeMap::new(),
            }),
        }
    }

    fn update(&self, world: &Arc<World>, affected: &Affected, at: Instant) {
        let mut content = lock(&self.content);
        content.world = world.clone();
        content.update_list(&self.dialect, affected);
        let keys: Vec<Key> = affected
            .of(&content.known)
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            content.render_again(&self.dialect, &key, at);
        }
    }
}

impl Content {
    fn of_type(&self, ty: ResourceType) -> impl Iterator<Item = (&Key, &Known)> {
        self.known
            .range((ty, Arc::from(""))..)
            .take_while(move |((found, _), _)| *found == ty)
    }

    /// The entry of a resource, rendered when it is new.
    fn know(&mut self, dialect: &Dialect, key: Key) -> &mut Known {
        let world = &self.world;
        self.known
            .entry(key)
            .or_insert_with_key(|(ty, name)| Known {
                resource: translate::plan(world, dialect, *ty, name)
                    .map(|plan| encode(*ty, name.clone(), &plan)),
                ..Known::default()
            })
    }

    /// Lists what a wildcard of the type stands for.
    fn list(&mut self, dialect: &Dialect, ty: ResourceType) {
        for name in translate::names(&self.world, dialect, ty) {
            self.know(dialect, (ty, name)).listed = true;
        }
    }

    /// Lists what a change may have added to a wildcard. What it removed is found when it is rendered
    /// again.
    fn update_list(&mut self, dialect: &Dialect, affected: &Affected) {
        for ty in ResourceType::ALL {
            if !self.wildcards.contains_key(&ty) {
                continue;
            }
            let may_be_new = affected.everything
                || affected.names.iter().any(|key| {
                    let listed = self.known.get(key).is_some_and(|known| known.listed);
                    key.0 == ty && !listed
                });
            if !may_be_new {
                continue;
            }
            for name in translate::names(&self.world, dialect, ty) {
                // Left empty when it is new: rendering it then finds that it differs.
                self.known.entry((ty, name)).or_default().listed = true;
            }
        }
    }

    fn render_again(&mut self, dialect: &Dialect, key: &Key, at: Instant) {
        let (ty, name) = key;
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        let plan = translate::plan(&self.world, dialect, *ty, name);
        let held = known.resource.as_ref().map(|resource| &resource.version);
        if held == plan.as_ref().map(translate::Plan::version).as_ref() {
            return;
        }
        known.resource = plan.map(|plan| encode(*ty, name.clone(), &plan));
        for mailbox in known.followers.values() {
            mailbox.note(key, at);
        }
        if known.listed {
            for mailbox in self.wildcards.get(ty).into_iter().flat_map(HashMap::values) {
                mailbox.note(key, at);
            }
            known.listed = known.resource.is_some();
        }
        self.forget_if_unused(key);
    }

    fn leave(&mut self, key: &Key, follower: u64) {
        if let Some(known) = self.known.get_mut(key) {
            known.followers.remove(&follower);
        }
        self.forget_if_unused(key);
    }

    fn leave_all(&mut self, ty: ResourceType, follower: u64) {
        if let Some(followers) = self.wildcards.get_mut(&ty) {
            followers.remove(&follower);
            if followers.is_empty() {
                self.wildcards.remove(&ty);
                self.known.retain(|(found, _), known| {
                    known.listed &= *found != ty;
                    known.listed || !known.followers.is_empty()
                });
            }
        }
    }

    fn forget_if_unused(&mut self, key: &Key) {
        if let Some(known) = self.known.get(key)
            && !known.listed
            && known.followers.is_empty()
        {
            self.known.remove(key);
        }
    }
}

impl Mailbox {
    fn note(&self, key: &Key, at: Instant) {
        // The first change is the one that somebody has waited for longest.
        lock(&self.changed).entry(key.clone()).or_insert(at);
        self.wake.notify_one();
    }
}

fn encode(ty: ResourceType, name: Arc<str>, plan: &translate::Plan) -> Arc<Encoded> {
    let rendered = plan.render();
    Arc::new(Encoded {
        name,
        version: rendered.version,
        body: Any {
            type_url: ty.url().to_owned(),
            value: rendered.value.into(),
        },
    })
}

/// A panic while a lock is held leaves at worst an entry that the next change renders again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
