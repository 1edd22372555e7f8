//! What is kept of each of a bounded number of keys, found without a lock.
//!
//! Keys are hashes under a secret of the process: two callers do not meet by chance, and nobody can choose to.
//! Each has its place in one of two groups of slots. A key that is new takes an empty slot there, or that of a key
//! which nothing is lost to forget; when there is none, it shares what is kept for the rest, so that somebody
//! with many keys neither takes more memory nor drives out others.
//!
//! Only a new key takes a lock. Its slot may have been another's a moment ago, so whoever used a slot looks
//! once more whose it is.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    num::{NonZeroU64, NonZeroUsize},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering, fence},
    },
};

/// Slots of a group: the hashes of two groups are looked through in about 20 ns.
const GROUP: usize = 16;

/// No key has this slot.
const FREE: u64 = 0;
/// Nobody may use this slot for now. A key may be the same number: it would be found only after a look under the
/// lock, which is where this is set.
const TAKEN_BACK: u64 = u64::MAX;

/// A key as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(NonZeroU64);

/// Makes keys.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(RandomState);

impl Keys {
    /// The key of a value.
    pub(crate) fn of(&self, value: impl Hash) -> Key {
        let hash = self.0.hash_one(value).clamp(1, TAKEN_BACK - 1);
        Key(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN))
    }
}

/// Values by key.
#[derive(Debug)]
pub(crate) struct Table<V> {
    /// Made when the first key needs one.
    groups: Box<[OnceLock<Group<V>>]>,
    group_size: usize,
    rest: V,
    /// Held to give a slot to a key.
    giving: Mutex<()>,
}

/// Slots in which the same keys may be.
type Group<V> = Box<[Slot<V>]>;

#[derive(Debug, Default)]
struct Slot<V> {
    key: AtomicU64,
    value: V,
}

impl<V: Default> Table<V> {
    /// A table that remembers so many keys, rounded down to whole groups.
    pub(crate) fn new(maximum_keys: NonZeroUsize) -> Self {
        let groups = (maximum_keys.get() / GROUP).max(1);
        Self {
            groups: (0..groups).map(|_| OnceLock::new()).collect(),
            group_size: maximum_keys.get().min(GROUP),
            rest: V::default(),
            giving: Mutex::default(),
        }
    }

    /// Uses what is kept of a key. `forgettable` says whether a value is like a new one.
    ///
    /// `act` may be called again when the slot was given away meanwhile: what it has done to the value of another
    /// key stays done.
    pub(crate) fn with<T>(
        &self,
        key: Key,
        forgettable: impl Fn(&V) -> bool,
        act: impl Fn(&V) -> T,
    ) -> T {
        loop {
            let Some(slot) = self.find(key).or_else(|| self.give(key, &forgettable)) else {
                return act(&self.rest);
            };
            let done = act(&slot.value);
            // Either this sees that the slot is being taken back, or who takes it back sees what was done.
            fence(Ordering::SeqCst);
            if slot.key.load(Ordering::Relaxed) == key.0.get() {
                return done;
            }
        }
    }

    /// What is kept of every key and of the rest.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        let slots = self.groups.iter().filter_map(OnceLock::get).flatten();
        slots
            .filter(|slot| slot.key.load(Ordering::Relaxed) != FREE)
            .map(|slot| &slot.value)
            .chain([&self.rest])
    }

    /// A table that keeps what `keep` makes of the values of this one. A key for which it has no room is
    /// forgotten.
    pub(crate) fn map(&self, maximum_keys: NonZeroUsize, keep: impl Fn(&V) -> Option<V>) -> Self {
        let mut table = Self::new(maximum_keys);
        table.rest = keep(&self.rest).unwrap_or_default();
        for slot in self.groups.iter().filter_map(OnceLock::get).flatten() {
            let key = NonZeroU64::new(slot.key.load(Ordering::Acquire));
            if let (Some(key), Some(value)) = (key, keep(&slot.value)) {
                table.put(Key(key), value);
            }
        }
        table
    }

    fn put(&mut self, key: Key, value: V) {
        if self.give(key, |_| false).is_none() {
            return;
        }
        for position in self.places(key) {
            let mut slots = self.groups[position].get_mut().into_iter().flatten();
            if let Some(slot) = slots.find(|slot| slot.key.load(Ordering::Relaxed) == key.0.get()) {
                slot.value = value;
                return;
            }
        }
    }

    fn find(&self, key: Key) -> Option<&Slot<V>> {
        let groups = self.places(key).into_iter();
        groups
            .filter_map(|position| self.groups[position].get())
            .flatten()
            .find(|slot| slot.key.load(Ordering::Acquire) == key.0.get())
    }

    /// The groups in which a key may be.
    fn places(&self, key: Key) -> [usize; 2] {
        let groups = self.groups.len() as u64;
        let hash = key.0.get();
        // Multiply-shift of each half (Lemire).
        [hash >> 32, hash & 0xffff_ffff].map(|half| ((half * groups) >> 32) as usize)
    }

    fn give(&self, key: Key, forgettable: impl Fn(&V) -> bool) -> Option<&Slot<V>> {
        let _giving = self.giving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = self.find(key) {
            return Some(slot);
        }
        let groups = self
            .places(key)
            .map(|position| &**self.groups[position].get_or_init(|| new_group(self.group_size)));
        // Of two groups the emptier: so nearly every slot is taken before a key finds none (Azar et al.).
        let free = |group: &[Slot<V>]| {
            let free = group
                .iter()
                .filter(|slot| slot.key.load(Ordering::Relaxed) == FREE);
            free.count()
        };
        let [one, other] = groups;
        let order = if free(other) > free(one) {
            [other, one]
        } else {
            [one, other]
        };
        let mut slots = order.into_iter().flatten();
        let slot = slots
            .clone()
            .find(|slot| slot.key.load(Ordering::Relaxed) == FREE)
            .or_else(|| slots.find(|slot| slot.take_back(&forgettable)))?;
        slot.key.store(key.0.get(), Ordering::Release);
        Some(slot)
    }
}

impl<V> Slot<V> {
    /// Takes the slot from its key, if nothing is lost by that.
    fn take_back(&self, forgettable: impl Fn(&V) -> bool) -> bool {
        if !forgettable(&self.value) {
            return false;
        }
        let owner = self.key.swap(TAKEN_BACK, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let forgettable = forgettable(&self.value);
        if !forgettable {
            self.key.store(owner, Ordering::Release);
        }
        forgettable
    }
}

fn new_group<V: Default>(size: usize) -> Group<V> {
    (0..size)
        .map(|_| Slot {
            key: AtomicU64::new(FREE),
            value: V::default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashMap, thread};

    type Counts = Table<AtomicU64>;

    fn table(maximum_keys: usize) -> Counts {
        Table::new(maximum_keys.try_into().unwrap())
    }

    fn count(table: &Counts, key: Key) -> u64 {
        table.with(
            key,
            |value| value.load(Ordering::Relaxed) == 0,
            |value| value.fetch_add(1, Ordering::AcqRel) + 1,
        )
    }

    fn key(n: u64) -> Key {
        // Spread over both halves, as a hash is.
        Key(NonZeroU64::new(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap())
    }

    #[test]
    fn every_key_has_a_value_of_its_own() {
        let table = table(1000);
        for round in 1..=3 {
            for n in 0..500 {
                assert_eq!(count(&table, key(n)), round, "{n}");
            }
        }
    }

    #[test]
    fn keys_beyond_the_maximum_share_the_rest_and_drive_out_nobody() {
        let table = table(4);
        for n in 0..100 {
            count(&table, key(n));
        }
        assert_eq!(table.rest.load(Ordering::Relaxed), 96);
        for n in 0..4 {
            assert_eq!(count(&table, key(n)), 2);
        }
        assert_eq!(table.values().count(), 5);
    }

    #[test]
    fn a_table_is_nearly_full_before_a_key_finds_no_place() {
        let table = table(10_000);
        for n in 0..9_000 {
            count(&table, key(n));
        }
        assert_eq!(table.rest.load(Ordering::Relaxed), 0);
        for n in 9_000..1_000_000 {
            count(&table, key(n));
        }
        assert!(table.values().count() <= 10_001);
    }

    #[test]
    fn a_key_that_nothing_is_lost_to_forget_makes_room() {
        let table = table(1);
        count(&table, key(1));
        assert_eq!(count(&table, key(2)), 1);
        assert_eq!(table.rest.load(Ordering::Relaxed), 1, "the first is in use");
        table.with(key(1), |_| false, |value| value.store(0, Ordering::Relaxed));
        assert_eq!((count(&table, key(2)), count(&table, key(2))), (1, 2));
    }

    #[test]
    fn what_is_kept_can_be_made_into_another_table() {
        let table = table(100);
        for n in 0..50 {
            for _ in 0..=n % 2 {
                count(&table, key(n));
            }
        }
        let odd = table.map(200.try_into().unwrap(), |value| {
            let value = value.load(Ordering::Relaxed);
            (value == 2).then(|| AtomicU64::new(10))
        });
        for n in 0..50 {
            assert_eq!(count(&odd, key(n)), if n % 2 == 1 { 11 } else { 1 }, "{n}");
        }
    }

    /// Threads that fight for slots: none of the counts that a key was told is told twice, unless it was
    /// forgotten between, which here is never without loss.
    #[test]
    fn threads_that_bring_new_keys_lose_no_count() {
        let table = table(64);
        let told: Vec<(u64, u64)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let table = &table;
                    scope.spawn(move || {
                        let rounds = (0..200).flat_map(|_| 0..40);
                        rounds
                            .map(|n| (n, count(table, key(n))))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        let mut highest: HashMap<u64, (u64, u64)> = HashMap::new();
        for (n, value) in told {
            let (times, most) = highest.entry(n).or_default();
            *times += 1;
            *most = (*most).max(value);
        }
        for (n, (times, most)) in highest {
            assert!(most >= times, "{n}: told {times} times, counted {most}");
        }
    }
}
