//! The current world, and those who follow it.

use super::{Change, Update, World};
use arc_swap::ArcSwap;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};
use tokio::sync::{Notify, watch};

/// Holds the current world. Sources write it, everyone else reads it or follows its changes.
#[derive(Debug)]
pub struct Store {
    current: ArcSwap<World>,
    /// Held while a world is replaced, so that followers see every change with the world it led to.
    followers: Mutex<Vec<Weak<Follower>>>,
    synced: watch::Sender<bool>,
    /// How many worlds there have been after the first. Written with `followers` held.
    count: AtomicU64,
}

impl Store {
    /// A store of a first world, usually an empty one.
    pub fn new(world: World) -> Arc<Self> {
        Arc::new(Self {
            current: ArcSwap::from_pointee(world),
            followers: Mutex::default(),
            synced: watch::Sender::new(false),
            count: AtomicU64::new(0),
        })
    }

    /// The world as of now.
    pub fn current(&self) -> Arc<World> {
        self.current.load_full()
    }

    /// Applies updates that became known at an instant, all in one new world.
    pub fn apply(&self, updates: impl IntoIterator<Item = Update>, at: Instant) {
        self.publish(at, |world, change| {
            for update in updates {
                world.apply(update, change);
            }
        });
    }

    /// Sets the roots of the trust domain, as PEM.
    pub fn set_roots(&self, roots: Arc<str>) {
        self.publish(Instant::now(), |world, change| {
            world.set_roots(roots, change);
        });
    }

    /// Follows the world from now on.
    pub fn follow(&self) -> Changes {
        let mut followers = lock(&self.followers);
        let follower = Arc::new(Follower::default());
        followers.retain(|follower| follower.strong_count() > 0);
        followers.push(Arc::downgrade(&follower));
        Changes {
            seen: self.current(),
            count: self.count(),
            follower,
        }
    }

    /// The number of the current world. Who has seen [`Published::count`] reach it knows all that is known now.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Notes that the source has told all it knew when it started.
    pub fn mark_synced(&self) {
        self.synced.send_replace(true);
    }

    /// Whether the source has told all it knew when it started. Before that, what the world lacks
    /// proves nothing, and the control plane is not ready.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits for [`Self::is_synced`].
    pub async fn synced(&self) {
        self.synced
            .subscribe()
            .wait_for(|synced| *synced)
            .await
            .expect("the sender lives in self");
    }

    fn publish(&self, at: Instant, edit: impl FnOnce(&mut World, &mut Change)) {
        let followers = lock(&self.followers);
        let mut world = World::clone(&self.current.load());
        let mut change = Change::none(at);
        edit(&mut world, &mut change);
        if change.is_empty() {
            return;
        }
        let world = Arc::new(world);
        self.current.store(world.clone());
        let count = self.count.fetch_add(1, Ordering::AcqRel) + 1;
        for follower in followers.iter().filter_map(Weak::upgrade) {
            follower.note(&world, &change, count);
        }
    }
}

/// The changes of a world, for one follower. A slow follower gets several as one, and loses none.
#[derive(Debug)]
pub struct Changes {
    seen: Arc<World>,
    count: u64,
    follower: Arc<Follower>,
}

/// A step from one world to a later one.
#[derive(Debug, Clone)]
pub struct Published {
    /// The world that this follower saw last.
    pub old: Arc<World>,
    /// The world as of now.
    pub new: Arc<World>,
    /// What differs.
    pub change: Change,
    /// The number of `new`, see [`Store::count`].
    pub count: u64,
}

impl Changes {
    /// The world that this follower saw last.
    pub fn seen(&self) -> &Arc<World> {
        &self.seen
    }

    /// The number of the world that this follower saw last.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Waits for the next change. Dropping the future before it is done loses nothing.
    pub async fn next(&mut self) -> Published {
        loop {
            if let Some(published) = self.take() {
                return published;
            }
            self.follower.wake.notified().await;
        }
    }

    /// The next change, if there is one already.
    pub fn take(&mut self) -> Option<Published> {
        let (new, change, count) = lock(&self.follower.pending).take()?;
        let old = std::mem::replace(&mut self.seen, new.clone());
        self.count = count;
        Some(Published {
            old,
            new,
            change,
            count,
        })
    }
}

#[derive(Debug, Default)]
struct Follower {
    /// Bounded by the number of objects, however far behind the follower is.
    pending: Mutex<Option<(Arc<World>, Change, u64)>>,
    wake: Notify,
}

impl Follower {
    fn note(&self, world: &Arc<World>, change: &Change, count: u64) {
        let mut pending = lock(&self.pending);
        match &mut *pending {
            Some((latest, changes, last)) => {
                *latest = world.clone();
                *last = count;
                changes.merge(change);
            }
            None => *pending = Some((world.clone(), change.clone(), count)),
        }
        drop(pending);
        self.wake.notify_one();
    }
}

/// A panic while a lock is held leaves nothing half done here: every guarded value is replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Namespace, Object};

    fn namespace(name: &str) -> Update {
        Update::Set(Object::Namespace(Arc::new(Namespace {
            name: name.into(),
            mtls: None,
        })))
    }

    #[tokio::test]
    async fn a_slow_follower_gets_all_changes_as_one() {
        let store = Store::new(World::new("cluster.local"));
        let mut changes = store.follow();
        let (first, second) = (Instant::now(), Instant::now());
        store.apply([namespace("a")], first);
        store.apply([namespace("b")], second);
        store.apply([namespace("a")], second);
        let published = changes.next().await;
        assert_eq!(
            published.change,
            Change {
                namespaces: ["a".into(), "b".into()].into(),
                ..Change::none(first)
            }
        );
        assert_eq!(*published.old, World::new("cluster.local"));
        assert!(Arc::ptr_eq(&published.new, &store.current()));
        assert!(changes.take().is_none());
    }

    #[tokio::test]
    async fn a_waiting_follower_is_woken() {
        let store = Store::new(World::new("cluster.local"));
        let mut changes = store.follow();
        let writer = tokio::spawn({
            let store = store.clone();
            async move {
                store.set_roots("roots".into());
                store.mark_synced();
            }
        });
        assert!(changes.next().await.change.roots);
        store.synced().await;
        writer.await.unwrap();
    }
}
