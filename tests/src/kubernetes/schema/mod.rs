//! What custom resources may look like: structural schemas of CustomResourceDefinitions.
//!
//! Defaults, unknown fields and validation as in `apiextensions-apiserver`; rules in CEL are [`rules`]' matter.

mod check;
mod rules;
#[cfg(test)]
mod tests;

use rules::Rules;
use serde_json::{Map, Value};

/// A structural schema with its rules.
#[derive(Debug)]
pub struct Schema {
    root: Value,
    rules: Rules,
}

impl Schema {
    /// Takes an `openAPIV3Schema`; an error says which rule cannot be read.
    pub fn new(root: Value) -> Result<Self, String> {
        let rules = Rules::compile(&root)?;
        Ok(Self { root, rules })
    }

    /// The schema as it was given.
    pub fn root(&self) -> &Value {
        &self.root
    }

    /// Fills in what is absent and has a default.
    pub fn default(&self, object: &mut Value) {
        default(object, &self.root);
    }

    /// Removes fields that the schema does not know, and names them.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut unknown = Vec::new();
        prune(object, &self.root, true, "", &mut unknown);
        unknown
    }

    /// What is wrong with an object: errors that begin with their field. `old` is what it was before an update.
    pub fn errors(&self, object: &Value, old: Option<&Value>) -> Vec<String> {
        let mut errors = Vec::new();
        check::value(object, &self.root, "", &mut errors);
        if errors.is_empty() {
            self.rules.check(object, old, &self.root, "", &mut errors);
        }
        errors
    }
}

/// Whether a schema keeps what it does not know.
fn keeps_unknown(schema: &Value) -> bool {
    schema["x-kubernetes-preserve-unknown-fields"] == Value::Bool(true)
}

/// The path of a field within an object.
fn field(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in schema["properties"].as_object().into_iter().flatten() {
                let default_value = &property["default"];
                let is_null = fields.get(name).is_some_and(Value::is_null);
                let is_nullable = property["nullable"] == Value::Bool(true);
                let is_absent = !fields.contains_key(name) || (is_null && !is_nullable);
                if is_absent && !default_value.is_null() {
                    fields.insert(name.clone(), default_value.clone());
                }
            }
            for (name, value) in fields.iter_mut() {
                let property = &schema["properties"][name];
                let of = if property.is_null() {
                    &schema["additionalProperties"]
                } else {
                    property
                };
                default(value, of);
            }
        }
        Value::Array(items) => {
            for item in items {
                default(item, &schema["items"]);
            }
        }
        _ => {}
    }
}

fn prune(value: &mut Value, schema: &Value, is_root: bool, path: &str, unknown: &mut Vec<String>) {
    match value {
        Value::Object(fields) => prune_fields(fields, schema, is_root, path, unknown),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let path = format!("{path}[{index}]");
                prune(item, &schema["items"], false, &path, unknown);
            }
        }
        _ => {}
    }
}

fn prune_fields(
    fields: &mut Map<String, Value>,
    schema: &Value,
    is_root: bool,
    path: &str,
    unknown: &mut Vec<String>,
) {
    let is_object = is_root || schema["x-kubernetes-embedded-resource"] == Value::Bool(true);
    let is_of_every_object =
        |name: &str| is_object && matches!(name, "apiVersion" | "kind" | "metadata");
    let properties = &schema["properties"];
    let additional = &schema["additionalProperties"];
    let keeps_all = keeps_unknown(schema) || additional == &Value::Bool(true);
    fields.retain(|name, _| {
        let is_known = keeps_all
            || additional.is_object()
            || is_of_every_object(name)
            || !properties[name].is_null();
        if !is_known {
            unknown.push(field(path, name));
        }
        is_known
    });
    for (name, value) in fields.iter_mut() {
        if is_of_every_object(name) {
            continue;
        }
        let property = &properties[name];
        if !property.is_null() {
            prune(value, property, false, &field(path, name), unknown);
        } else if additional.is_object() {
            prune(value, additional, false, &field(path, name), unknown);
        }
    }
}
