//! What a schema says of a value: the ranges that stand in the types are what is enforced, documented, and given to
//! Kubernetes.
//!
//! Knows of JSON Schema what the schemas of this module's types are made of, and of Weft's own keywords: bounds of
//! durations and sizes, which are strings, and `x-weft-write`, the fix for a value that does not fit.

use super::{Bytes, Duration};
use regex::Regex;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

/// A value that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// Where it stands, `retry.on[1]`; empty for the whole.
    pub(crate) path: String,
    /// What is wrong, and what to write.
    pub(crate) reason: String,
}

/// The schema of a type, in one piece.
pub(crate) fn of<T: JsonSchema>() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().into()
}

/// Whether a value fits a schema. What is null counts as absent.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), Mismatch> {
    at("", schema, value)
}

fn at(path: &str, schema: &Value, value: &Value) -> Result<(), Mismatch> {
    let Value::Object(schema) = schema else {
        return Ok(());
    };
    let wrong = |reason: String| {
        Err(Mismatch {
            path: path.to_owned(),
            reason,
        })
    };
    if let Some(options) = alternatives(schema) {
        if options.iter().any(|option| at(path, option, value).is_ok()) {
            return bounds(schema, value).or_else(wrong);
        }
        // Of several shapes, the one of the value's own kind says best what is wrong with it.
        let meant = options
            .iter()
            .find(|option| value.is_object() && option["type"] == "object");
        if let (Some(option), None) = (meant, write(schema)) {
            return at(path, option, value);
        }
        return wrong(format!("{value} does not fit; write {}", expected(schema)));
    }
    if let Some(constant) = schema.get("const")
        && constant != value
    {
        return wrong(format!("{value} does not fit; write {}", text(constant)));
    }
    if let Some(options) = schema.get("enum").and_then(Value::as_array)
        && !options.contains(value)
    {
        return wrong(format!("{value} does not fit; write {}", expected(schema)));
    }
    if !types(schema).any(|ty| is(value, ty)) {
        return wrong(format!("{value} does not fit; write {}", expected(schema)));
    }
    bounds(schema, value).or_else(wrong)?;
    match value {
        Value::Object(fields) => object(path, schema, fields),
        Value::Array(items) => array(path, schema, items),
        _ => Ok(()),
    }
}

fn object(
    path: &str,
    schema: &Map<String, Value>,
    fields: &Map<String, Value>,
) -> Result<(), Mismatch> {
    let empty = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object);
    let properties = properties.unwrap_or(&empty);
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let path = join(path, name);
        match properties.get(name) {
            Some(schema) => at(&path, schema, value)?,
            None if closed => {
                let known: Vec<_> = properties.keys().map(String::as_str).collect();
                return Err(Mismatch {
                    path,
                    reason: format!("is not a field here; write one of {}", known.join(", ")),
                });
            }
            None => {}
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    let required = required.into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if fields.get(name).is_none_or(Value::is_null) {
            let like = properties
                .get(name)
                .map(|schema| format!("; write {}", expected_of(schema)))
                .unwrap_or_default();
            return Err(Mismatch {
                path: join(path, name),
                reason: format!("is missing{like}"),
            });
        }
    }
    Ok(())
}

fn array(path: &str, schema: &Map<String, Value>, items: &[Value]) -> Result<(), Mismatch> {
    let Some(of_item) = schema.get("items") else {
        return Ok(());
    };
    (0..)
        .zip(items)
        .try_for_each(|(i, item): (usize, _)| at(&format!("{path}[{i}]"), of_item, item))
}

/// What a value may be at least and at most.
fn bounds(schema: &Map<String, Value>, value: &Value) -> Result<(), String> {
    let number = |key| schema.get(key).and_then(Value::as_f64);
    let size = |key| schema.get(key).and_then(Value::as_u64);
    let out = |minimum: Option<String>, maximum: Option<String>, what: &str| {
        let range = match (minimum, maximum) {
            (Some(minimum), Some(maximum)) => format!("{minimum} to {maximum}"),
            (Some(minimum), None) => format!("{minimum} or more"),
            (None, Some(maximum)) => format!("{maximum} or less"),
            (None, None) => "something else".to_owned(),
        };
        Err(format!("{value} is out of range; write {range}{what}"))
    };
    let shown = |key: &str| schema.get(key).map(text);
    match value {
        Value::Number(n) => {
            let n = n.as_f64().unwrap_or(f64::NAN);
            if number("minimum").is_some_and(|minimum| n < minimum)
                || number("maximum").is_some_and(|maximum| n > maximum)
            {
                return out(shown("minimum"), shown("maximum"), "");
            }
        }
        Value::String(string) => {
            let length = string.chars().count() as u64;
            if size("minLength").is_some_and(|minimum| length < minimum)
                || size("maxLength").is_some_and(|maximum| length > maximum)
            {
                return out(shown("minLength"), shown("maxLength"), " characters");
            }
            if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
                && !fits(pattern, string)
            {
                return Err(format!("{value} does not fit; write {}", expected(schema)));
            }
            let duration = |text: &str| text.parse().map(Duration::get).ok();
            let limit = |key| schema.get(key).and_then(Value::as_str).and_then(duration);
            if let Some(duration) = duration(string)
                && (limit("x-weft-minimum").is_some_and(|minimum| duration < minimum)
                    || limit("x-weft-maximum").is_some_and(|maximum| duration > maximum))
            {
                return out(shown("x-weft-minimum"), shown("x-weft-maximum"), "");
            }
        }
        Value::Array(items) => {
            let length = items.len() as u64;
            if size("minItems").is_some_and(|minimum| length < minimum)
                || size("maxItems").is_some_and(|maximum| length > maximum)
            {
                return match shown("maxItems") {
                    _ if items.is_empty() => {
                        Err("is empty; write one at least, or leave it out".to_owned())
                    }
                    maximum => Err(format!(
                        "has {length} entries; write {} at most",
                        maximum.unwrap_or_default()
                    )),
                };
            }
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => {}
    }
    let (minimum, maximum) = (size("x-weft-minimum-bytes"), size("x-weft-maximum-bytes"));
    if (minimum, maximum) != (None, None)
        && let Ok(Bytes(bytes)) = serde_json::from_value(value.clone())
        && (minimum.is_some_and(|minimum| bytes < minimum)
            || maximum.is_some_and(|maximum| bytes > maximum))
    {
        let shown = |bound: Option<u64>| bound.map(|bound| Bytes(bound).to_string());
        return out(shown(minimum), shown(maximum), "");
    }
    Ok(())
}

/// Whether a text fits a pattern of a schema. Patterns are few and compiled once.
fn fits(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<HashMap<String, Option<Regex>>>> =
        LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !compiled.contains_key(pattern) {
        compiled.insert(pattern.to_owned(), Regex::new(pattern).ok());
    }
    matches!(compiled.get(pattern), Some(Some(regex)) if regex.is_match(text))
}

/// The shapes that a value may have, where there are several besides null.
pub(crate) fn alternatives(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    let options = schema.get("anyOf").or_else(|| schema.get("oneOf"))?;
    let options = options.as_array()?.iter();
    Some(options.filter(|option| option["type"] != "null").collect())
}

/// The types that a value may have.
pub(super) fn types(schema: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let listed: Vec<&str> = match schema.get("type") {
        Some(Value::String(ty)) => vec![ty],
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        _ => vec!["any"],
    };
    listed.into_iter()
}

fn is(value: &Value, ty: &str) -> bool {
    match ty {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => true,
    }
}

/// What is to be written, in words.
fn expected_of(schema: &Value) -> String {
    schema
        .as_object()
        .map_or_else(|| "a value".to_owned(), expected)
}

fn expected(schema: &Map<String, Value>) -> String {
    if let Some(write) = write(schema) {
        return write.to_owned();
    }
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        return one_of(options.iter().filter(|option| !option.is_null()).map(text));
    }
    if let Some(constant) = schema.get("const") {
        return text(constant);
    }
    if let Some(options) = alternatives(schema) {
        return one_of(options.into_iter().map(expected_of));
    }
    let range = |unit: &str| match (schema.get("minimum"), schema.get("maximum")) {
        (Some(minimum), Some(maximum)) => {
            format!("{unit}, {} to {}", text(minimum), text(maximum))
        }
        (Some(minimum), None) => format!("{unit}, {} or more", text(minimum)),
        _ => unit.to_owned(),
    };
    match types(schema).find(|ty| *ty != "null") {
        Some("object") => "fields below it".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => range("a whole number"),
        Some("number") => range("a number"),
        Some("string") => "a text, in quotes if it looks like something else".to_owned(),
        _ => "a value".to_owned(),
    }
}

fn write(schema: &Map<String, Value>) -> Option<&str> {
    schema.get("x-weft-write")?.as_str()
}

fn one_of(options: impl Iterator<Item = String>) -> String {
    let options: Vec<_> = options.collect();
    match options.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => options.concat(),
    }
}

/// A value as people write it: a string without quotes, a number without an exponent.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => number.as_f64().unwrap_or_default().to_string(),
        value => value.to_string(),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
