//! Whether values are of the types and within the bounds of a schema; the errors are worded as Kubernetes words them.

use super::field;
use regex::Regex;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Appends what is wrong with a value and everything within it.
pub(super) fn value(value: &Value, schema: &Value, path: &str, errors: &mut Vec<String>) {
    if value.is_null() && schema["nullable"] == Value::Bool(true) {
        return;
    }
    if !is_of_type(value, schema) {
        let of = expected_type(schema);
        errors.push(format!(
            "{}: Invalid value: \"{}\": {path} in body must be of type {of}: \"{}\"",
            or_root(path),
            type_of(value),
            type_of(value)
        ));
        return;
    }
    allowed(value, schema, path, errors);
    match value {
        Value::String(text) => string(text, schema, path, errors),
        Value::Number(number) => bounds(number.as_f64().unwrap_or(f64::NAN), schema, path, errors),
        Value::Array(items) => array(items, schema, path, errors),
        Value::Object(fields) => object(fields, schema, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
    junctions(value, schema, path, errors);
}

fn or_root(path: &str) -> &str {
    if path.is_empty() { "<nil>" } else { path }
}

fn expected_type(schema: &Value) -> &str {
    if schema["x-kubernetes-int-or-string"] == Value::Bool(true) {
        "integer,string"
    } else {
        schema["type"].as_str().unwrap_or("object")
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of_type(value: &Value, schema: &Value) -> bool {
    if schema["x-kubernetes-int-or-string"] == Value::Bool(true) {
        return value.is_i64() || value.is_u64() || value.is_string();
    }
    match schema["type"].as_str() {
        None => true,
        Some("number") => value.is_number(),
        Some("integer") => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        Some(name) => type_of(value) == name,
    }
}

fn allowed(value: &Value, schema: &Value, path: &str, errors: &mut Vec<String>) {
    let Some(choices) = schema["enum"].as_array() else {
        return;
    };
    if !choices.contains(value) {
        let choices: Vec<String> = choices.iter().map(Value::to_string).collect();
        errors.push(format!(
            "{path}: Unsupported value: {value}: supported values: {}",
            choices.join(", ")
        ));
    }
}

fn string(text: &str, schema: &Value, path: &str, errors: &mut Vec<String>) {
    let length = text.chars().count() as u64;
    let quoted = Value::from(text);
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        errors.push(format!(
            "{path}: Invalid value: {quoted}: {path} in body should be at least {least} chars long"
        ));
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        errors.push(format!(
            "{path}: Too long: may not be more than {most} bytes"
        ));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        // A pattern that this engine cannot read is one that it cannot hold anything against.
        let is_broken = Regex::new(pattern).is_ok_and(|pattern| !pattern.is_match(text));
        if is_broken {
            errors.push(format!(
                "{path}: Invalid value: {quoted}: {path} in body should match '{pattern}'"
            ));
        }
    }
}

fn bounds(number: f64, schema: &Value, path: &str, errors: &mut Vec<String>) {
    let is_exclusive = |bound: &str| schema[bound] == Value::Bool(true);
    if let Some(least) = schema["minimum"].as_f64() {
        if is_exclusive("exclusiveMinimum") && number <= least {
            errors.push(format!(
                "{path}: Invalid value: {number}: {path} in body should be greater than {least}"
            ));
        } else if number < least {
            errors.push(format!(
                "{path}: Invalid value: {number}: {path} in body should be greater than or equal to {least}"
            ));
        }
    }
    if let Some(most) = schema["maximum"].as_f64() {
        if is_exclusive("exclusiveMaximum") && number >= most {
            errors.push(format!(
                "{path}: Invalid value: {number}: {path} in body should be less than {most}"
            ));
        } else if number > most {
            errors.push(format!(
                "{path}: Invalid value: {number}: {path} in body should be less than or equal to {most}"
            ));
        }
    }
    if let Some(step) = schema["multipleOf"].as_f64()
        && (number / step).fract() != 0.0
    {
        errors.push(format!(
            "{path}: Invalid value: {number}: {path} in body should be a multiple of {step}"
        ));
    }
}

fn array(items: &[Value], schema: &Value, path: &str, errors: &mut Vec<String>) {
    let count = items.len() as u64;
    if let Some(least) = schema["minItems"].as_u64().filter(|least| count < *least) {
        errors.push(format!(
            "{path}: Invalid value: {count}: {path} in body should have at least {least} items"
        ));
    }
    if let Some(most) = schema["maxItems"].as_u64().filter(|most| count > *most) {
        errors.push(format!(
            "{path}: Too many: {count}: must have at most {most} items"
        ));
    }
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        if let Some(key) = identity(item, schema)
            && !seen.insert(key.to_string())
        {
            errors.push(format!("{path}: Duplicate value: {key}"));
        }
        value(item, &schema["items"], &path, errors);
    }
}

/// What must be unlike that of any other item of the list.
fn identity(item: &Value, schema: &Value) -> Option<Value> {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
            let keys = keys.iter().filter_map(Value::as_str);
            let key: Map<String, Value> = keys
                .filter_map(|key| Some((key.to_owned(), item.get(key)?.clone())))
                .collect();
            Some(Value::Object(key))
        }
        _ => (schema["uniqueItems"] == Value::Bool(true)).then(|| item.clone()),
    }
}

fn object(fields: &Map<String, Value>, schema: &Value, path: &str, errors: &mut Vec<String>) {
    let count = fields.len() as u64;
    if let Some(least) = schema["minProperties"].as_u64().filter(|n| count < *n) {
        errors.push(format!(
            "{path}: Invalid value: {count}: {path} in body should have at least {least} properties"
        ));
    }
    if let Some(most) = schema["maxProperties"].as_u64().filter(|n| count > *n) {
        errors.push(format!(
            "{path}: Too many: {count}: must have at most {most} items"
        ));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        let name = name.as_str().unwrap_or_default();
        if !fields.contains_key(name) {
            errors.push(format!("{}: Required value", field(path, name)));
        }
    }
    for (name, value) in fields {
        let property = &schema["properties"][name];
        let of = if property.is_null() {
            &schema["additionalProperties"]
        } else {
            property
        };
        if of.is_object() && !(path.is_empty() && name == "metadata") {
            self::value(value, of, &field(path, name), errors);
        }
    }
}

fn junctions(value: &Value, schema: &Value, path: &str, errors: &mut Vec<String>) {
    let is_valid = |schema: &Value| {
        let mut errors = Vec::new();
        self::value(value, schema, path, &mut errors);
        errors.is_empty()
    };
    for schema in schema["allOf"].as_array().into_iter().flatten() {
        self::value(value, schema, path, errors);
    }
    if let Some(any) = schema["anyOf"].as_array()
        && !any.iter().any(is_valid)
    {
        errors.push(format!(
            "{}: Invalid value: \"\": {path} in body must validate at least one schema (anyOf)",
            or_root(path)
        ));
    }
    if let Some(one) = schema["oneOf"].as_array()
        && one.iter().filter(|schema| is_valid(schema)).count() != 1
    {
        errors.push(format!(
            "{}: Invalid value: \"\": {path} in body must validate one and only one schema (oneOf)",
            or_root(path)
        ));
    }
    if schema["not"].is_object() && is_valid(&schema["not"]) {
        errors.push(format!(
            "{}: Invalid value: \"\": {path} in body must not validate the schema (not)",
            or_root(path)
        ));
    }
}
