//! Server-side apply: who manages which field, and what one manager's object makes of what is there.
//!
//! Pure. Ownership follows `structured-merge-diff`: an applied field belongs to its manager; a write of another kind
//! takes the fields whose value it changes; a manager that no longer applies a field removes it, unless another has
//! it too; a change of what another manages is a conflict, unless forced. Owners are kept per operation and
//! subresource, without regard to the version of the group.

mod fields;
mod lists;
#[cfg(test)]
mod tests;

pub use fields::Fields;
pub use lists::Lists;

use serde_json::{Map, Value, json};

/// Who writes, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manager {
    /// The name given as `fieldManager`.
    pub name: String,
    /// `Apply` or `Update`.
    pub operation: &'static str,
    /// `status`, or nothing for the object itself.
    pub subresource: String,
}

/// The managers of an object's fields: its `metadata.managedFields`.
#[derive(Debug, Clone, Default)]
pub struct Managed(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    manager: String,
    operation: String,
    subresource: String,
    version: String,
    time: Value,
    fields: Fields,
}

impl Entry {
    fn is_of(&self, manager: &Manager) -> bool {
        self.manager == manager.name
            && self.operation == manager.operation
            && self.subresource == manager.subresource
    }

    /// How a conflict names it: `"edit" with subresource "status" using v1`.
    fn described(&self) -> String {
        let subresource = match self.subresource.as_str() {
            "" => String::new(),
            name => format!(" with subresource \"{name}\""),
        };
        // Of one that applies, name and subresource say it all.
        let version = match self.operation.as_str() {
            "Update" => format!(" using {}", self.version),
            _ => String::new(),
        };
        format!("\"{}\"{subresource}{version}", self.manager)
    }
}

impl Managed {
    /// Reads `metadata.managedFields`.
    pub fn of(object: &Value) -> Self {
        let entries = object["metadata"]["managedFields"].as_array();
        let entries = entries.into_iter().flatten().map(|entry| {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            Entry {
                manager: text("manager"),
                operation: text("operation"),
                subresource: text("subresource"),
                version: text("apiVersion"),
                time: entry["time"].clone(),
                fields: Fields::from_v1(&entry["fieldsV1"]),
            }
        });
        Self(entries.collect())
    }

    /// Writes `metadata.managedFields`.
    pub fn write(&self, object: &mut Value) {
        if self.0.is_empty() {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
            return;
        }
        let entries = self.0.iter().map(|entry| {
            let mut written = json!({
                "manager": entry.manager,
                "operation": entry.operation,
                "apiVersion": entry.version,
                "time": entry.time,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_v1(),
            });
            if !entry.subresource.is_empty() {
                written["subresource"] = json!(entry.subresource);
            }
            written
        });
        object["metadata"]["managedFields"] = entries.collect();
    }

    fn set(&mut self, manager: &Manager, version: &str, time: &Value, fields: Fields) {
        let entry = self.0.iter_mut().find(|entry| entry.is_of(manager));
        match entry {
            Some(entry) if entry.fields == fields => {}
            Some(entry) => {
                entry.fields = fields;
                entry.version = version.to_owned();
                entry.time = time.clone();
            }
            None => self.0.push(Entry {
                manager: manager.name.clone(),
                operation: manager.operation.to_owned(),
                subresource: manager.subresource.clone(),
                version: version.to_owned(),
                time: time.clone(),
                fields,
            }),
        }
        self.0.retain(|entry| !entry.fields.is_empty());
    }
}

/// The managers after a write that was no apply: it takes what it changed.
pub fn track(
    old: Option<&Value>,
    new: &Value,
    manager: &Manager,
    time: &Value,
    lists: Lists<'_>,
) -> Managed {
    let mut managed = old.map(Managed::of).unwrap_or_default();
    let old = old.map_or_else(|| json!({}), of_managers);
    let new_fields = of_managers(new);
    let present = Fields::of(&new_fields, lists);
    let changed = present.changed(&old, &new_fields, lists);
    for entry in &mut managed.0 {
        entry.fields.keep(&present);
        if !entry.is_of(manager) {
            entry.fields.remove(&changed);
        }
    }
    let own = managed.0.iter().find(|entry| entry.is_of(manager));
    let mut own = own.map(|entry| entry.fields.clone()).unwrap_or_default();
    own.add(&changed);
    let version = new["apiVersion"].as_str().unwrap_or_default();
    managed.set(manager, version, time, own);
    managed
}

/// What an apply makes of an object: pairs of manager and field where it would change what others manage.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager,
    is_forced: bool,
    time: &Value,
    lists: Lists<'_>,
) -> Result<Value, Vec<(String, String)>> {
    let mut managed = live.map(Managed::of).unwrap_or_default();
    let wanted = of_managers(applied);
    let own = Fields::of(&wanted, lists);
    let mut object = live.cloned().unwrap_or_else(|| {
        json!({
            "apiVersion": applied["apiVersion"],
            "kind": applied["kind"],
            "metadata": identity(applied),
        })
    });
    let before = of_managers(&object);
    merge(&mut object, &wanted, lists);
    let changed = own.changed(&before, &of_managers(&object), lists);

    let mut conflicts = Vec::new();
    for entry in managed.0.iter_mut().filter(|entry| !entry.is_of(manager)) {
        let contested = entry.fields.common(&changed);
        let described = entry.described();
        conflicts.extend(
            contested
                .paths()
                .into_iter()
                .map(|path| (described.clone(), path)),
        );
        entry.fields.remove(&contested);
    }
    if !is_forced && !conflicts.is_empty() {
        return Err(conflicts);
    }

    let previous = managed.0.iter().find(|entry| entry.is_of(manager));
    let mut dropped = previous
        .map(|entry| entry.fields.clone())
        .unwrap_or_default();
    dropped.remove(&own);
    for other in managed.0.iter().filter(|entry| !entry.is_of(manager)) {
        dropped.remove(&other.fields);
    }
    dropped.delete_from(&mut object, lists);

    let version = applied["apiVersion"].as_str().unwrap_or_default();
    managed.set(manager, version, time, own);
    managed.write(&mut object);
    Ok(object)
}

/// The fields that have managers: all but those that say which object it is, and those that the server writes.
fn of_managers(object: &Value) -> Value {
    let mut fields = object.clone();
    if let Some(fields) = fields.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            for name in SERVERS {
                metadata.remove(*name);
            }
            if metadata.is_empty() {
                fields.remove("metadata");
            }
        }
    }
    fields
}

/// Fields of the metadata that nobody manages.
const SERVERS: &[&str] = &[
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
    "selfLink",
];

fn identity(applied: &Value) -> Value {
    let metadata = applied["metadata"].as_object();
    let fields = metadata.into_iter().flatten();
    let fields = fields.filter(|(name, _)| matches!(name.as_str(), "name" | "namespace"));
    Value::Object(
        fields
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    )
}

/// Merges applied fields into an object: maps by name, lists as their kind has it, everything else replaced.
fn merge(object: &mut Value, applied: &Value, lists: Lists<'_>) {
    match (object, applied) {
        (Value::Object(object), Value::Object(applied)) if !lists.is_atomic_map() => {
            for (name, value) in applied {
                let within = lists.field(name);
                match object.get_mut(name) {
                    Some(present) => merge(present, value, within),
                    None => {
                        object.insert(name.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(present), Value::Array(applied)) if !lists.is_atomic_list(applied) => {
            for item in applied {
                let key = lists.key(item, 0);
                match present.iter_mut().find(|other| lists.key(other, 0) == key) {
                    Some(other) => merge(other, item, lists.items()),
                    None => present.push(item.clone()),
                }
            }
        }
        (object, applied) => *object = applied.clone(),
    }
}

/// What an object without fields is.
fn empty() -> Value {
    Value::Object(Map::new())
}
