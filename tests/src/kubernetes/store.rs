//! Where objects are kept, with the last changes of each: what lists and watches read.
//!
//! One revision counts every change, as etcd's does. The history is a window: what is older can be neither watched
//! from nor listed at.

use bytes::Bytes;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{Arc, OnceLock},
};
use tokio::sync::watch;

/// The namespace (empty for the cluster's own) and the name of an object.
pub(super) type Name = (String, String);

/// The objects of one resource, of whatever version: its group and its plural.
pub(super) type Table = (String, String);

/// An object as it was at one revision.
#[derive(Debug)]
pub(super) struct Object {
    /// The object.
    pub value: Value,
    /// The revision that made it so.
    pub revision: u64,
    encoded: OnceLock<Bytes>,
    encoded_item: OnceLock<Bytes>,
}

impl Object {
    fn new(value: Value, revision: u64) -> Arc<Self> {
        Arc::new(Self {
            value,
            revision,
            encoded: OnceLock::new(),
            encoded_item: OnceLock::new(),
        })
    }

    /// The object as JSON, encoded once.
    pub(super) fn encoded(&self) -> &Bytes {
        self.encoded
            .get_or_init(|| Bytes::from(self.value.to_string()))
    }

    /// The same without `apiVersion` and `kind`.
    pub(super) fn encoded_item(&self) -> &Bytes {
        self.encoded_item.get_or_init(|| {
            let mut item = self.value.clone();
            if let Some(fields) = item.as_object_mut() {
                fields.remove("apiVersion");
                fields.remove("kind");
            }
            Bytes::from(item.to_string())
        })
    }
}

/// One change of one object.
#[derive(Debug, Clone)]
pub(super) struct Change {
    /// The revision that it made.
    pub revision: u64,
    /// The resource.
    pub table: Arc<Table>,
    /// Which object.
    pub name: Name,
    /// What it was.
    pub old: Option<Arc<Object>>,
    /// What it is, or was at last when it was deleted.
    pub new: Arc<Object>,
    /// Whether it was deleted.
    pub is_deletion: bool,
}

/// Every object.
#[derive(Debug)]
pub(super) struct Store {
    revision: u64,
    tables: HashMap<Table, BTreeMap<Name, Arc<Object>>>,
    history: VecDeque<Change>,
    window: usize,
    /// The oldest revision that can be watched from.
    floor: u64,
    changed: watch::Sender<u64>,
}

impl Store {
    /// An empty store that keeps so many changes.
    pub(super) fn new(window: usize) -> Self {
        // Never 0: a client that has no revision yet says 0.
        let revision = 1;
        Self {
            revision,
            tables: HashMap::new(),
            history: VecDeque::new(),
            window,
            floor: revision,
            changed: watch::Sender::new(revision),
        }
    }

    /// The revision of the last change.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision that is known.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Tells of every new revision.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Keeps so many changes from now on.
    pub(super) fn keep(&mut self, window: usize) {
        self.window = window;
        self.forget();
    }

    /// Forgets every change, as after a restart or a compaction.
    pub(super) fn compact(&mut self) {
        self.history.clear();
        self.floor = self.revision;
    }

    /// An object as it is.
    pub(super) fn get(&self, table: &Table, name: &Name) -> Option<&Arc<Object>> {
        self.tables.get(table)?.get(name)
    }

    /// The objects of a resource, of one namespace or all, in order, from behind `after` on.
    pub(super) fn list<'a>(
        &'a self,
        table: &Table,
        namespace: &'a str,
        after: Option<&Name>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let start = match after {
            Some(name) => Bound::Excluded(name.clone()),
            None => Bound::Included((namespace.to_owned(), String::new())),
        };
        let objects = self.tables.get(table);
        objects
            .into_iter()
            .flat_map(move |objects| objects.range((start.clone(), Bound::Unbounded)))
            .take_while(move |((of, _), _)| namespace.is_empty() || of == namespace)
            .map(|(_, object)| object)
    }

    /// The objects of a resource as they were at a revision that is known.
    pub(super) fn list_at(
        &self,
        table: &Table,
        namespace: &str,
        revision: u64,
    ) -> BTreeMap<Name, Arc<Object>> {
        let mut objects = self.tables.get(table).cloned().unwrap_or_default();
        let later = self.history.iter().rev();
        for change in later.take_while(|change| change.revision > revision) {
            if *change.table == *table {
                match &change.old {
                    Some(old) => objects.insert(change.name.clone(), Arc::clone(old)),
                    None => objects.remove(&change.name),
                };
            }
        }
        objects.retain(|(of, _), _| namespace.is_empty() || of == namespace);
        objects
    }

    /// The changes of a resource after a revision, or nothing when they are no longer known.
    pub(super) fn changes(&self, table: &Table, after: u64) -> Option<Vec<Change>> {
        if after < self.floor {
            return None;
        }
        let start = self
            .history
            .partition_point(|change| change.revision <= after);
        let changes = self.history.range(start..);
        Some(
            changes
                .filter(|change| *change.table == *table)
                .cloned()
                .collect(),
        )
    }

    /// Writes an object, with its new revision as `resourceVersion`.
    pub(super) fn put(&mut self, table: &Table, name: Name, mut value: Value) -> Arc<Object> {
        self.revision += 1;
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let new = Object::new(value, self.revision);
        let objects = self.tables.entry(table.clone()).or_default();
        let old = objects.insert(name.clone(), Arc::clone(&new));
        self.record(table, name, old, Arc::clone(&new), false);
        new
    }

    /// Deletes an object; what it was at last has the revision of its deletion.
    pub(super) fn delete(&mut self, table: &Table, name: &Name) -> Option<Arc<Object>> {
        let old = self.tables.get_mut(table)?.remove(name)?;
        self.revision += 1;
        let mut value = old.value.clone();
        value["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let last = Object::new(value, self.revision);
        self.record(table, name.clone(), Some(old), Arc::clone(&last), true);
        Some(last)
    }

    /// Every object of a namespace, whatever it is.
    pub(super) fn within(&self, namespace: &str) -> Vec<(Table, Name)> {
        let tables = self.tables.iter();
        tables
            .flat_map(|(table, objects)| {
                objects
                    .keys()
                    .map(move |name| (table.clone(), name.clone()))
            })
            .filter(|(_, (of, _))| of == namespace)
            .collect()
    }

    fn record(
        &mut self,
        table: &Table,
        name: Name,
        old: Option<Arc<Object>>,
        new: Arc<Object>,
        is_deletion: bool,
    ) {
        self.history.push_back(Change {
            revision: self.revision,
            table: Arc::new(table.clone()),
            name,
            old,
            new,
            is_deletion,
        });
        self.forget();
        self.changed.send_replace(self.revision);
    }

    fn forget(&mut self) {
        while self.history.len() > self.window {
            if let Some(forgotten) = self.history.pop_front() {
                self.floor = forgotten.revision;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        (String::new(), "configmaps".to_owned())
    }

    fn name(name: &str) -> Name {
        ("ns".to_owned(), name.to_owned())
    }

    fn names(objects: &BTreeMap<Name, Arc<Object>>) -> Vec<&str> {
        objects.keys().map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn the_past_can_be_listed_while_it_is_known() {
        let mut store = Store::new(10);
        store.put(&table(), name("a"), json!({}));
        let revision = store.put(&table(), name("b"), json!({})).revision;
        store.delete(&table(), &name("a"));
        store.put(&table(), name("c"), json!({}));
        assert_eq!(names(&store.list_at(&table(), "ns", revision)), ["a", "b"]);
        assert_eq!(
            names(&store.list_at(&table(), "ns", store.revision())),
            ["b", "c"]
        );
        assert_eq!(
            names(&store.list_at(&table(), "other", revision)),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn changes_are_known_within_the_window() {
        let mut store = Store::new(2);
        let first = store.put(&table(), name("a"), json!({})).revision;
        let second = store.put(&table(), name("b"), json!({})).revision;
        store.delete(&table(), &name("a"));
        assert_eq!(
            store
                .changes(&table(), first - 1)
                .map(|changes| changes.len()),
            None
        );
        assert_eq!(
            store.changes(&table(), first).map(|changes| changes.len()),
            Some(2)
        );
        let changes = store.changes(&table(), second).unwrap_or_default();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].is_deletion);
        let version = changes[0].new.value["metadata"]["resourceVersion"].as_str();
        assert_eq!(version, Some(store.revision().to_string().as_str()));
    }
}
