//! What the API says, and what is in force of it. No IO.

use super::kind::Watched;
use crate::{
    source::{
        Origin, Problem, Severity,
        convert::{Outcome, Verdict},
    },
    world::{Finding, Kind, Object, ObjectKey, ObjectRef, Update, Workload, World},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What is known of the objects of the cluster: the last good version of each, which is shared with the world.
#[derive(Default)]
pub(super) struct Catalog {
    objects: HashMap<Kind, Kept<Entry>>,
    /// The zone of each node that says one.
    nodes: Kept<Option<Arc<str>>>,
    /// Nodes whose zone is another than their pods were last told of.
    moved: BTreeSet<Arc<str>>,
    /// What is wrong with an object by itself.
    refused: BTreeMap<ObjectRef, Problem>,
    /// What is wrong with an object in the light of others.
    contradictions: BTreeMap<ObjectRef, Vec<Problem>>,
}

/// Something that was heard of the objects of one kind.
#[derive(Debug)]
pub(super) enum Event {
    /// A list of all objects begins.
    ListBegins,
    /// An object is there: in a list, or after it.
    Told(Told),
    /// An object is no longer there.
    Gone(ObjectKey),
    /// The list is complete: what was not in it is not there.
    ListEnds,
}

/// An object as it was told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) key: ObjectKey,
    /// Tells it from one of the same name that was there before.
    pub(super) incarnation: u64,
    pub(super) what: What,
}

/// What was told.
#[derive(Debug)]
pub(super) enum What {
    /// An object that the world may have a use for.
    Object(Outcome),
    /// A node, of which its zone is used.
    Node {
        /// If it says one.
        zone: Option<Arc<str>>,
    },
}

/// What came of events.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// What the world is to be told, in this order.
    pub(super) updates: Vec<Update>,
    /// The objects whose problems may be others than before.
    pub(super) concerned: BTreeSet<ObjectRef>,
}

/// What is held of an object.
#[derive(Debug, PartialEq)]
struct Entry {
    incarnation: u64,
    /// What is in force; `None` for an object that is not good and never was, or that the mesh has no use for.
    object: Option<Object>,
    /// What is in force is not what was written, but stands for it.
    stand_in: bool,
    /// It says no zone, and so has that of its node.
    zone_of_node: bool,
}

impl Catalog {
    /// Takes in an event. What comes of all events is complete with [`Self::settle`].
    pub(super) fn hear(&mut self, watched: Watched, event: Event, applied: &mut Applied) {
        match watched.in_world() {
            Some(kind) => self.hear_of_object(kind, event, applied),
            None => self.hear_of_node(event),
        }
    }

    /// Tells the pods of nodes that moved. Done once for many events: it reads every pod.
    pub(super) fn settle(&mut self, applied: &mut Applied) {
        let moved = std::mem::take(&mut self.moved);
        let Some(pods) = self
            .objects
            .get_mut(&Kind::Workload)
            .filter(|_| !moved.is_empty())
        else {
            return;
        };
        for entry in pods.values_mut() {
            let Some(Object::Workload(workload)) = &entry.object else {
                continue;
            };
            let on_moved = workload
                .node
                .as_ref()
                .is_some_and(|node| moved.contains(node));
            if !on_moved || !entry.zone_of_node {
                continue;
            }
            let zone = zone_of(&self.nodes, workload);
            if zone != workload.zone {
                let object = Object::Workload(Arc::new(Workload {
                    zone,
                    ..Workload::clone(workload)
                }));
                entry.object = Some(object.clone());
                applied.updates.push(Update::Set(object));
            }
        }
    }

    /// Looks for what only the whole world can tell is wrong, where a change may have brought or solved some.
    pub(super) fn look_at_the_whole(&mut self, world: &World, applied: &mut Applied) {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Finding {
            object,
            field,
            reason,
            cause: _,
        } in world.findings()
        {
            let problem = Problem {
                severity: Severity::Error,
                object: Some(name(&object)),
                origin: Origin::Object(object.clone()),
                field: Some(field),
                reason,
            };
            found.entry(object).or_default().push(problem);
        }
        let old = std::mem::replace(&mut self.contradictions, found);
        let either = old.keys().chain(self.contradictions.keys());
        let changed = either.filter(|object| old.get(*object) != self.contradictions.get(*object));
        applied.concerned.extend(changed.cloned());
    }

    /// The problems of an object.
    pub(super) fn problems(&self, object: &ObjectRef) -> Vec<Problem> {
        let contradictions = self.contradictions.get(object);
        let refused = self.refused.get(object);
        refused
            .into_iter()
            .chain(contradictions.into_iter().flatten())
            .cloned()
            .collect()
    }

    /// How many objects of a kind there are.
    pub(super) fn count(&self, watched: Watched) -> usize {
        match watched.in_world() {
            Some(kind) => self.objects.get(&kind).map_or(0, Kept::len),
            None => self.nodes.len(),
        }
    }

    fn hear_of_node(&mut self, event: Event) {
        match event {
            Event::ListBegins => self.nodes.list_begins(),
            Event::Told(Told { key, what, .. }) => {
                let What::Node { zone } = what else { return };
                if self.nodes.get(&key) != Some(&zone) {
                    self.moved.insert(key.name.clone());
                }
                self.nodes.put(key, zone);
            }
            Event::Gone(key) => {
                self.nodes.remove(&key);
                self.moved.insert(key.name);
            }
            Event::ListEnds => {
                for (key, _) in self.nodes.list_ends() {
                    self.moved.insert(key.name);
                }
            }
        }
    }

    fn hear_of_object(&mut self, kind: Kind, event: Event, applied: &mut Applied) {
        let kept = self.objects.entry(kind).or_default();
        match event {
            Event::ListBegins => kept.list_begins(),
            Event::Told(told) => self.told(kind, told, applied),
            Event::Gone(key) => {
                let entry = kept.remove(&key);
                self.gone(ObjectRef { kind, key }, entry, applied);
            }
            Event::ListEnds => {
                for (key, entry) in kept.list_ends() {
                    self.gone(ObjectRef { kind, key }, Some(entry), applied);
                }
            }
        }
    }

    fn told(&mut self, kind: Kind, told: Told, applied: &mut Applied) {
        let Told {
            key,
            incarnation,
            what: What::Object(outcome),
        } = told
        else {
            return;
        };
        let reference = ObjectRef { kind, key };
        let kept = self.objects.entry(kind).or_default();
        let known = kept.get(&reference.key);
        // An object that was made anew owes nothing to the one before it.
        let good = known.filter(|known| known.incarnation == incarnation && !known.stand_in);
        let (mut entry, problem) = read(&reference, incarnation, outcome, good);
        if let Some(Object::Workload(workload)) = &mut entry.object
            && entry.zone_of_node
        {
            let zone = zone_of(&self.nodes, workload);
            if zone != workload.zone {
                Arc::make_mut(workload).zone = zone;
            }
        }
        let was = known.and_then(|known| known.object.as_ref());
        if entry.object.as_ref() == was {
            // One copy of it is enough.
            entry.object = was.cloned();
        } else {
            applied.updates.push(match &entry.object {
                Some(object) => Update::Set(object.clone()),
                None => Update::Remove(reference.clone()),
            });
        }
        kept.put(reference.key.clone(), entry);
        self.set_refused(reference, problem, applied);
    }

    fn gone(&mut self, reference: ObjectRef, entry: Option<Entry>, applied: &mut Applied) {
        if entry.is_some_and(|entry| entry.object.is_some()) {
            applied.updates.push(Update::Remove(reference.clone()));
        }
        self.set_refused(reference, None, applied);
    }

    fn set_refused(
        &mut self,
        reference: ObjectRef,
        problem: Option<Problem>,
        applied: &mut Applied,
    ) {
        let old = match &problem {
            Some(problem) => self.refused.insert(reference.clone(), problem.clone()),
            None => self.refused.remove(&reference),
        };
        if old != problem {
            applied.concerned.insert(reference);
        }
    }
}

/// Things by name, of which a list tells all there are.
struct Kept<T> {
    entries: HashMap<ObjectKey, (T, u32)>,
    /// Counts lists. Whatever bears an older number at the end of one was not in it.
    list: u32,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            list: 0,
        }
    }
}

impl<T> Kept<T> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn get(&self, key: &ObjectKey) -> Option<&T> {
        self.entries.get(key).map(|(entry, _)| entry)
    }

    fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.values_mut().map(|(entry, _)| entry)
    }

    fn put(&mut self, key: ObjectKey, entry: T) {
        self.entries.insert(key, (entry, self.list));
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<T> {
        self.entries.remove(key).map(|(entry, _)| entry)
    }

    fn list_begins(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// Takes out what was not in the list.
    fn list_ends(&mut self) -> Vec<(ObjectKey, T)> {
        let list = self.list;
        self.entries
            .extract_if(|_, (_, told)| *told != list)
            .map(|(key, (entry, _))| (key, entry))
            .collect()
    }
}

/// What is in force of an object as it was told, and what is wrong with it, given its last good version.
fn read(
    reference: &ObjectRef,
    incarnation: u64,
    outcome: Outcome,
    good: Option<&Entry>,
) -> (Entry, Option<Problem>) {
    let entry = |object: Option<Object>, stand_in| Entry {
        incarnation,
        zone_of_node: matches!(&object, Some(Object::Workload(pod)) if pod.zone.is_none()),
        object,
        stand_in,
    };
    let problem = |severity, field: Option<String>, reason| Problem {
        severity,
        origin: Origin::Object(reference.clone()),
        object: Some(name(reference)),
        field: field.filter(|field| !field.is_empty()),
        reason,
    };
    let (invalid, instead) = match outcome.verdict {
        Verdict::Accepted(object) => return (entry(Some(object), false), None),
        Verdict::Unused => return (entry(None, false), None),
        Verdict::UnknownKind(kind) => {
            let reason = format!("{kind} is not a kind that Weft reads; it is ignored");
            return (
                entry(None, false),
                Some(problem(Severity::Warning, None, reason)),
            );
        }
        Verdict::Refused { invalid, instead } => (invalid, instead),
    };
    let good = good.and_then(|good| Some((good, good.object.as_ref()?)));
    let (entry, consequence) = match (good, instead) {
        (Some((_, object)), Some(instead)) => (
            entry(Some(instead.after(object)), false),
            "its last good version stays in force",
        ),
        (Some((good, object)), None) => (
            Entry {
                zone_of_node: good.zone_of_node,
                ..entry(Some(object.clone()), false)
            },
            "its last good version stays in force",
        ),
        (None, Some(instead)) => (entry(Some(instead.object), true), instead.consequence),
        (None, None) => (entry(None, false), "it is not in force until it is mended"),
    };
    let reason = format!("{}; {consequence}", invalid.reason);
    (
        entry,
        Some(problem(Severity::Error, Some(invalid.field), reason)),
    )
}

/// `Service demo/user`.
fn name(object: &ObjectRef) -> String {
    let kind = Watched::of(object.kind).map_or("object", Watched::name);
    format!("{kind} {}", object.key)
}

/// The zone of the node that a pod runs on.
fn zone_of(nodes: &Kept<Option<Arc<str>>>, pod: &Workload) -> Option<Arc<str>> {
    let node = ObjectKey::of_cluster(pod.node.clone()?);
    nodes.get(&node).cloned().flatten()
}

#[cfg(test)]
mod tests;
