//! A hash map that is cheap to clone and cheap to change after cloning.
//!
//! A world is replaced on every change of the cluster. Copying an index of 50,000 endpoints each time
//! would cost milliseconds; here a clone shares everything, and a write copies the one shard that it
//! touches. The persistent maps of the registry are under the MPL, and this is all we need of one.

use std::{
    borrow::Borrow,
    collections::HashMap,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, Hash},
    sync::Arc,
};
use xxhash_rust::xxh3::Xxh3Default;

/// Enough that a shard of 50,000 entries holds some 50, few enough that copying the table of shards
/// (one reference count each) stays at microseconds.
const SHARDS: usize = 1024;

type Hasher = BuildHasherDefault<Xxh3Default>;
/// Absent until something is in it.
type Shard<K, V> = Option<Arc<HashMap<K, V, Hasher>>>;

/// A map in [`SHARDS`] shared parts. Iteration has no useful order: sort what leaves the process.
#[derive(Clone)]
pub(crate) struct SharedMap<K, V> {
    shards: Arc<Vec<Shard<K, V>>>,
    len: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[shard_of(key)].as_ref()?.get(key)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let index = shard_of(&key);
        let shard = Arc::make_mut(&mut self.shards)[index].get_or_insert_default();
        let old = Arc::make_mut(shard).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.get(key)?;
        let slot = &mut Arc::make_mut(&mut self.shards)[shard_of(key)];
        let shard = Arc::make_mut(slot.as_mut()?);
        let old = shard.remove(key);
        if shard.is_empty() {
            *slot = None;
        }
        self.len -= usize::from(old.is_some());
        old
    }

    /// Changes the entry of a key, which starts from `V::default()` and is dropped when it ends `empty`.
    pub(crate) fn update(&mut self, key: K, change: impl FnOnce(&mut V), empty: impl Fn(&V) -> bool)
    where
        V: Default,
    {
        let mut value = self.get(&key).cloned().unwrap_or_default();
        change(&mut value);
        if empty(&value) {
            self.remove(&key);
        } else {
            self.insert(key, value);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flatten().flat_map(|shard| shard.iter())
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self {
            shards: Arc::new((0..SHARDS).map(|_| None).collect()),
            len: 0,
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len
            && self
                .iter()
                .all(|(key, value)| other.get(key) == Some(value))
    }
}

impl<K: Hash + Eq + Clone + Ord + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug
    for SharedMap<K, V>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_by_key(|(key, _)| *key);
        f.debug_map().entries(entries).finish()
    }
}

/// The low bits choose the shard; the map inside a shard uses the high ones for its tags and more low
/// ones for buckets, of which a shard of a few dozen entries has no use.
fn shard_of<Q: Hash + ?Sized>(key: &Q) -> usize {
    (Hasher::default().hash_one(key) >> 32) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_after_a_clone_leaves_the_clone_alone() {
        let mut map = SharedMap::default();
        for key in 0..5000 {
            map.insert(key, key);
        }
        let before = map.clone();
        map.insert(7, 0);
        map.remove(&8);
        map.remove(&8);
        assert_eq!(
            (before.len(), before.get(&7), before.get(&8)),
            (5000, Some(&7), Some(&8))
        );
        assert_eq!(
            (map.len(), map.get(&7), map.get(&8)),
            (4999, Some(&0), None)
        );
        assert_eq!(map.iter().count(), 4999);
        assert_ne!(map, before);
    }

    #[test]
    fn an_entry_that_ends_empty_is_dropped() {
        let mut map = SharedMap::<&str, Vec<u8>>::default();
        map.update("a", |list| list.push(1), Vec::is_empty);
        map.update("a", |list| list.clear(), Vec::is_empty);
        assert_eq!(map, SharedMap::default());
    }
}
