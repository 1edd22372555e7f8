//! Sets of fields, as `fieldsV1` writes them.

use super::{empty, lists::Lists};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A set of fields: whether this one belongs to it, and which within it do.
///
/// Fields go by the names of `fieldsV1`: `f:spec`, `k:{"name":"a"}`, `v:"a"`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    is_member: bool,
    within: BTreeMap<String, Fields>,
}

impl Fields {
    /// Every field of a value.
    pub fn of(value: &Value, lists: Lists<'_>) -> Self {
        let mut fields = Self::of_value(value, lists);
        fields.is_member = false;
        fields
    }

    fn of_value(value: &Value, lists: Lists<'_>) -> Self {
        let mut within = BTreeMap::new();
        match value {
            Value::Object(object) if !lists.is_atomic_map() => {
                for (name, value) in object {
                    within.insert(
                        format!("f:{name}"),
                        Self::of_value(value, lists.field(name)),
                    );
                }
            }
            Value::Array(items) if !lists.is_atomic_list(items) => {
                for (index, item) in items.iter().enumerate() {
                    let mut fields = Self::of_value(item, lists.items());
                    fields.is_member = true;
                    within.insert(lists.key(item, index), fields);
                }
            }
            _ => {}
        }
        // What has fields is made of them; what has none is a field itself.
        Self {
            is_member: within.is_empty(),
            within,
        }
    }

    /// Reads `fieldsV1`.
    pub fn from_v1(value: &Value) -> Self {
        let mut fields = Self::read(value);
        fields.is_member = false;
        fields
    }

    fn read(value: &Value) -> Self {
        let object = value.as_object();
        let is_member = object.is_none_or(|object| object.is_empty() || object.contains_key("."));
        let within = object.into_iter().flatten();
        let within = within.filter(|(name, _)| *name != ".");
        Self {
            is_member,
            within: within
                .map(|(name, value)| (name.clone(), Self::read(value)))
                .collect(),
        }
    }

    /// Writes `fieldsV1`.
    pub fn to_v1(&self) -> Value {
        let mut object = Map::new();
        if self.is_member && !self.within.is_empty() {
            object.insert(".".to_owned(), empty());
        }
        object.extend(
            self.within
                .iter()
                .map(|(name, fields)| (name.clone(), fields.to_v1())),
        );
        Value::Object(object)
    }

    /// Whether nothing belongs to it.
    pub fn is_empty(&self) -> bool {
        !self.is_member && self.within.values().all(Self::is_empty)
    }

    /// Adds what belongs to another.
    pub fn add(&mut self, other: &Self) {
        self.is_member |= other.is_member;
        for (name, fields) in &other.within {
            self.within.entry(name.clone()).or_default().add(fields);
        }
    }

    /// Removes what belongs to another.
    pub fn remove(&mut self, other: &Self) {
        self.is_member &= !other.is_member;
        for (name, fields) in &other.within {
            if let Some(own) = self.within.get_mut(name) {
                own.remove(fields);
            }
        }
        self.within.retain(|_, fields| !fields.is_empty());
    }

    /// Removes what does not exist. `present` is everything that does.
    pub fn keep(&mut self, present: &Self) {
        self.within
            .retain(|name, own| match present.within.get(name) {
                Some(there) if there.within.is_empty() || own.within.is_empty() => true,
                Some(there) => {
                    own.keep(there);
                    !own.is_empty()
                }
                None => false,
            });
    }

    /// What belongs to both. A whole value is common to whatever is within it.
    pub fn common(&self, other: &Self) -> Self {
        let within = self.within.iter().filter_map(|(name, own)| {
            let theirs = other.within.get(name)?;
            let is_leaf = own.within.is_empty() || theirs.within.is_empty();
            let common = if is_leaf && own.is_member && !theirs.is_empty() {
                own.clone()
            } else {
                own.common(theirs)
            };
            (!common.is_empty()).then(|| (name.clone(), common))
        });
        let within: BTreeMap<_, _> = within.collect();
        Self {
            is_member: self.is_member
                && other.is_member
                && within.is_empty()
                && self.within.is_empty(),
            within,
        }
    }

    /// Those of its fields whose values differ between two objects.
    pub fn changed(&self, old: &Value, new: &Value, lists: Lists<'_>) -> Self {
        let within = self.within.iter().filter_map(|(name, fields)| {
            let (of, old_value) = child(old, name, lists);
            let (_, new_value) = child(new, name, lists);
            if old_value == new_value {
                return None;
            }
            let changed = if fields.within.is_empty() {
                fields.clone()
            } else {
                let mut changed = fields.changed(
                    old_value.unwrap_or(&Value::Null),
                    new_value.unwrap_or(&Value::Null),
                    of,
                );
                changed.is_member = fields.is_member && old_value.is_none();
                changed
            };
            (!changed.is_empty()).then(|| (name.clone(), changed))
        });
        Self {
            is_member: false,
            within: within.collect(),
        }
    }

    /// The fields as people read them: `.spec.ports[port=80,protocol="TCP"].name`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect("", &mut paths);
        paths
    }

    fn collect(&self, path: &str, paths: &mut Vec<String>) {
        if self.is_member && !path.is_empty() {
            paths.push(path.to_owned());
        }
        for (name, fields) in &self.within {
            fields.collect(&format!("{path}{}", readable(name)), paths);
        }
    }

    /// Deletes its fields from an object, and what they leave empty.
    pub fn delete_from(&self, object: &mut Value, lists: Lists<'_>) {
        for (name, fields) in &self.within {
            match object {
                Value::Object(object) => {
                    let Some(field) = name.strip_prefix("f:") else {
                        continue;
                    };
                    if let Some(value) = object.get_mut(field) {
                        let was_empty = is_hollow(value);
                        fields.delete_from(value, lists.field(field));
                        let is_whole = fields.is_member && fields.within.is_empty();
                        if is_whole || (!was_empty && is_hollow(value)) {
                            object.remove(field);
                        }
                    }
                }
                Value::Array(items) => {
                    let at = items.iter().position(|item| lists.key(item, 0) == *name);
                    if let Some(at) = at {
                        if fields.is_member {
                            items.remove(at);
                        } else {
                            fields.delete_from(&mut items[at], lists.items());
                        }
                    }
                }
                _ => {}
            }
        }
    }
}

fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// What a name of `fieldsV1` leads to, and the place of it.
fn child<'v, 'l>(
    value: &'v Value,
    name: &'l str,
    lists: Lists<'l>,
) -> (Lists<'l>, Option<&'v Value>) {
    if let Some(field) = name.strip_prefix("f:") {
        return (lists.field(field), value.get(field));
    }
    let items = value.as_array().into_iter().flatten();
    let mut items = items.enumerate();
    let item = items.find(|(index, item)| lists.key(item, *index) == name);
    (lists.items(), item.map(|(_, item)| item))
}

fn readable(name: &str) -> String {
    match name.split_at_checked(2) {
        Some(("f:", field)) => format!(".{field}"),
        Some(("k:", keys)) => {
            let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys = keys.iter().map(|(key, value)| format!("{key}={value}"));
            format!("[{}]", keys.collect::<Vec<_>>().join(","))
        }
        Some(("v:", value)) => format!("[={value}]"),
        _ => format!("[{name}]"),
    }
}
