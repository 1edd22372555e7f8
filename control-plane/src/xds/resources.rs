//! The resources that somebody follows, rendered once per dialect.

mod progress;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Instant,
};

use futures_util::task::AtomicWaker;
use tokio::sync::watch;
use weft_xds_proto::{
    envoy::google::protobuf::Any,
    exchange::{Catalogue, Encoded},
    resource::ResourceType,
};

use crate::{
    translate::{self, Affected, Dialect},
    world::{Changes, Published, World},
};

pub use progress::{Progress, Refusal};

use progress::Standing;

/// Every resource that a stream follows, by dialect.
#[derive(Debug)]
pub struct Resources {
    inner: Mutex<Inner>,
    /// The number of the last world that was taken in.
    taken_in: watch::Sender<u64>,
    /// The number of the last world of which every resource was rendered.
    rendered: AtomicU64,
    /// Counts what may make [`Self::progress`] another than before.
    activity: Arc<AtomicU64>,
}

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
    activity: Arc<AtomicU64>,
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
    /// What a change of everything has left to be looked at.
    backlog: Backlog,
}

/// Resources to be rendered again once nothing else is to be done, and since when that is known.
#[derive(Debug, Default)]
struct Backlog {
    keys: BTreeSet<Key>,
    since: Option<Instant>,
    /// What those rendered so far mean to followers. They are told when all is done: told of each on its own,
    /// they would be sent several times as many responses.
    news: News,
}

/// What differs for whom: each follower is woken once, however much of what it follows differs.
#[derive(Debug, Default)]
struct News(HashMap<u64, (Arc<Mailbox>, Vec<Key>)>);

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
    wake: AtomicWaker,
    standing: Standing,
}

/// How much of a backlog is worked off before looking for another change: less than a millisecond's work.
const BATCH: usize = 64;

impl Resources {
    /// Resources of a world that nobody follows yet.
    pub fn new(world: Arc<World>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                world,
                shelves: HashMap::new(),
                next_follower: 0,
            }),
            taken_in: watch::Sender::new(0),
            rendered: AtomicU64::new(0),
            activity: Arc::default(),
        })
    }

    /// Keeps the resources up to date with the world. Never ends.
    ///
    /// A change of everything, as of the mesh's settings, takes a while with many followers. It is
    /// worked off between other changes, which do not wait for it.
    pub async fn keep_current(&self, mut changes: Changes) {
        let mut backlog = false;
        let mut count = changes.count();
        self.taken_in.send_replace(count);
        self.rendered.store(count, Ordering::Release);
        loop {
            let published = match backlog {
                true => changes.take(),
                false => Some(changes.next().await),
            };
            if let Some(published) = published {
                self.take_in(&published);
                count = published.count;
                self.taken_in.send_replace(count);
            }
            backlog = self.work_off(BATCH);
            if backlog {
                tokio::task::yield_now().await;
            } else {
                self.rendered.store(count, Ordering::Release);
                self.activity.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until a world of this number ([`Store::count`](crate::world::Store::count)), or a later one, is what
    /// followers are given.
    pub async fn caught_up(&self, count: u64) {
        let mut taken_in = self.taken_in.subscribe();
        let caught_up = taken_in.wait_for(|taken_in| *taken_in >= count).await;
        caught_up.expect("the sender lives in self");
    }

    /// Renders again what a change may affect, and wakes those who follow what differs. Leaves a change of
    /// everything to [`work_off`](Self::work_off).
    fn take_in(&self, published: &Published) {
        let Published {
            old, new, change, ..
        } = published;
        lock(&self.inner).world = new.clone();
        let shelves = self.shelves();
        if shelves.is_empty() {
            return;
        }
        let affected = translate::affected(old, new, change);
        for shelf in shelves {
            shelf.update(new, &affected, change.at);
        }
    }

    /// Works off a part of the backlog, and says whether some is left.
    fn work_off(&self, batch: usize) -> bool {
        let shelves = self.shelves();
        let left = shelves.iter().filter(|shelf| shelf.work_off(batch));
        left.count() > 0
    }

    fn shelves(&self) -> Vec<Arc<Shelf>> {
        let inner = lock(&self.inner);
        inner.shelves.values().filter_map(Weak::upgrade).collect()
    }

    /// A new follower in a dialect, of nothing so far.
    pub fn follower(&self, dialect: &Dialect) -> Follower {
        let mut inner = lock(&self.inner);
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
            activity: self.activity.clone(),
            names: BTreeSet::new(),
            wildcards: BTreeSet::new(),
        }
    }

    /// How many resources are held, over all dialects.
    pub fn count(&self) -> usize {
        let shelves = self.shelves();
        let known = shelves.iter().map(|shelf| lock(&shelf.content).known.len());
        known.sum()
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
            self.activity.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// No longer follows a resource by name.
    pub fn unfollow(&mut self, ty: ResourceType, name: &Arc<str>) {
        let key = (ty, name.clone());
        if self.names.remove(&key) {
            lock(&self.shelf.content).leave(&key, self.id);
            self.activity.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Follows every resource of a type from now on, or no longer.
    pub fn follow_all(&mut self, ty: ResourceType, all: bool) {
        // As every request says it anew, mostly to the same effect.
        if all == self.wildcards.contains(&ty) {
            return;
        }
        let mut content = lock(&self.shelf.content);
        if all {
            self.wildcards.insert(ty);
            content.list(&self.shelf.dialect, ty);
            let followers = content.wildcards.entry(ty).or_default();
            followers.insert(self.id, self.mailbox.clone());
        } else {
            self.wildcards.remove(&ty);
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

    /// Ready once something changed that [`take_changed`](Self::take_changed) has not taken. One task
    /// at a time may wait for it.
    pub fn poll_changed(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.mailbox.wake.register(cx.waker());
        match lock(&self.mailbox.changed).is_empty() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// What changed since the last call, and when.
    pub fn take_changed(&self) -> BTreeMap<(ResourceType, Arc<str>), Instant> {
        self.behind();
        std::mem::take(&mut lock(&self.mailbox.changed))
    }
}

impl Catalogue for Follower {
    fn find(&self, ty: ResourceType, name: &Arc<str>) -> Option<Arc<Encoded>> {
        let key = (ty, name.clone());
        let content = lock(&self.shelf.content);
        content.known.get(&key)?.resource.clone()
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
        self.activity.fetch_add(1, Ordering::Relaxed);
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
                backlog: Backlog::default(),
            }),
        }
    }

    fn update(&self, world: &Arc<World>, affected: &Affected, at: Instant) {
        let keys: Vec<Key> = {
            let mut content = lock(&self.content);
            content.world = world.clone();
            content.update_list(&self.dialect, affected);
            let known = affected.of(&content.known);
            let keys = known.map(|(key, _)| key.clone()).collect();
            if affected.everything {
                content.backlog.add(keys, at);
                return;
            }
            keys
        };
        let mut news = News::default();
        for key in keys {
            self.render_again(&key, &mut news);
        }
        news.tell(at);
    }

    /// Works off a part of the backlog, and says whether some is left.
    fn work_off(&self, batch: usize) -> bool {
        let (mut news, since) = {
            let backlog = &mut lock(&self.content).backlog;
            let Some(since) = backlog.since else {
                return false;
            };
            (std::mem::take(&mut backlog.news), since)
        };
        for _ in 0..batch {
            let Some(key) = lock(&self.content).backlog.take() else {
                news.tell(since);
                return false;
            };
            self.render_again(&key, &mut news);
        }
        lock(&self.content).backlog.news = news;
        true
    }

    /// Renders a resource in the world as it is now. Only one task does this, but others ask for resources
    /// meanwhile: what takes time is done without the lock.
    fn render_again(&self, key: &Key, news: &mut News) {
        let (ty, name) = key;
        let (world, held) = {
            let content = lock(&self.content);
            let Some(known) = content.known.get(key) else {
                return;
            };
            (content.world.clone(), known.resource.clone())
        };
        let plan = translate::plan(&world, &self.dialect, *ty, name);
        let version = plan.as_ref().map(translate::Plan::version);
        if held.map(|resource| resource.version.clone()) == version {
            return;
        }
        let resource = plan.map(|plan| encode(*ty, name.clone(), &plan));
        lock(&self.content).replace(key, resource, news);
    }
}

impl Backlog {
    fn add(&mut self, keys: Vec<Key>, at: Instant) {
        self.keys.extend(keys);
        self.since = Some(self.since.map_or(at, |since| since.min(at)));
    }

    fn take(&mut self) -> Option<Key> {
        let key = self.keys.pop_first();
        if key.is_none() {
            self.since = None;
        }
        key
    }
}

impl News {
    fn add(&mut self, key: &Key, followers: &HashMap<u64, Arc<Mailbox>>) {
        for (id, mailbox) in followers {
            let (_, keys) = self
                .0
                .entry(*id)
                .or_insert_with(|| (mailbox.clone(), Vec::new()));
            keys.push(key.clone());
        }
    }

    fn tell(self, since: Instant) {
        for (mailbox, keys) in self.0.into_values() {
            mailbox.note(keys, since);
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

    /// Puts a resource in place of the one of the same name, which is news to those that it concerns.
    fn replace(&mut self, key: &Key, resource: Option<Arc<Encoded>>, news: &mut News) {
        let Some(known) = self.known.get_mut(key) else {
            return;
        };
        known.resource = resource;
        news.add(key, &known.followers);
        if known.listed {
            if let Some(followers) = self.wildcards.get(&key.0) {
                news.add(key, followers);
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
    fn note(&self, keys: Vec<Key>, at: Instant) {
        let mut changed = lock(&self.changed);
        for key in keys {
            // The first change is the one that somebody has waited for longest.
            changed.entry(key).or_insert(at);
        }
        drop(changed);
        self.wake.wake();
    }
}

fn encode(ty: ResourceType, name: Arc<str>, plan: &translate::Plan) -> Arc<Encoded> {
    let rendered = plan.render();
    let body = Any {
        type_url: ty.url().to_owned(),
        value: rendered.value.into(),
    };
    Arc::new(Encoded::new(name, rendered.version, body))
}

/// A panic while a lock is held leaves at worst an entry that the next change renders again.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
