//! From the schema of a type to what Kubernetes takes for one: structural, every value of one type, and what goes
//! beyond JSON Schema as rules (CEL).

use crate::api::schema::{alternatives, text, types};
use serde_json::{Map, Value, json};

/// Keywords that mean the same to Kubernetes.
const KEPT: [&str; 8] = [
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    "required",
];

/// A duration is no longer than its pattern lets it be. Kubernetes counts what a rule may cost by lengths alone.
const DURATION_CHARACTERS: u64 = 28;

/// The same for a size.
const SIZE_CHARACTERS: u64 = 24;

/// The schema as Kubernetes takes it. What is unknown is not forbidden by it: the API server refuses or prunes that
/// by itself.
pub(super) fn structural(schema: &Value) -> Value {
    match schema {
        Value::Object(schema) => Value::Object(object(schema)),
        _ => json!({"x-kubernetes-preserve-unknown-fields": true}),
    }
}

fn object(schema: &Map<String, Value>) -> Map<String, Value> {
    let options = alternatives(schema);
    let mut made = match options.as_deref() {
        // A value or null, which counts as absent.
        Some([Value::Object(only)]) => object(only),
        Some(_) if schema.contains_key("x-kubernetes-int-or-string") => int_or_string(schema),
        Some(options) => one_of(options),
        None => value(schema),
    };
    if let Some(description) = described(schema, options.as_deref()) {
        made.insert("description".to_owned(), description.into());
    }
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        made.insert("default".to_owned(), without_null(default));
    }
    for key in KEPT {
        if let Some(bound) = schema.get(key) {
            made.insert(key.to_owned(), bound.clone());
        }
    }
    for (key, word) in schema.iter().filter(|(key, _)| is_of_kubernetes(key)) {
        made.insert(key.clone(), word.clone());
    }
    let mut rules = duration_rules(schema);
    rules.extend(size_rules(schema));
    rules.extend(fraction_rule(&made));
    if let Some(Value::Array(own)) = made.get_mut("x-kubernetes-validations") {
        rules.append(own);
    }
    if !rules.is_empty() {
        made.insert("x-kubernetes-validations".to_owned(), rules.into());
    }
    made
}

/// A schema of one type.
fn value(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut made = Map::new();
    if let Some(ty) = types(schema).find(|ty| !matches!(*ty, "null" | "any")) {
        made.insert("type".to_owned(), ty.into());
        if ty == "integer" {
            made.insert("format".to_owned(), "int64".into());
        }
    }
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        let options = options.iter().filter(|option| !option.is_null());
        made.insert("enum".to_owned(), options.cloned().collect());
    }
    if let Some(constant) = schema.get("const") {
        made.insert("enum".to_owned(), json!([constant]));
    }
    if let Some(items) = schema.get("items") {
        made.insert("items".to_owned(), structural(items));
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let properties = properties
            .iter()
            .map(|(name, schema)| (name.clone(), structural(schema)));
        made.insert("properties".to_owned(), Value::Object(properties.collect()));
    }
    if is_duration(schema) {
        made.insert("maxLength".to_owned(), DURATION_CHARACTERS.into());
    }
    made
}

/// Bounds of the one kind do not concern the other.
fn int_or_string(schema: &Map<String, Value>) -> Map<String, Value> {
    let mut made = Map::new();
    for option in alternatives(schema).into_iter().flatten() {
        let bounds = option.as_object().into_iter().flatten();
        let bounds = bounds.filter(|(key, _)| KEPT.contains(&key.as_str()));
        made.extend(bounds.map(|(key, bound)| (key.clone(), bound.clone())));
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    made.insert("anyOf".to_owned(), either);
    made.insert("maxLength".to_owned(), SIZE_CHARACTERS.into());
    made
}

/// One of several constants, or of constants and objects with a field that names what they are.
fn one_of(options: &[&Value]) -> Map<String, Value> {
    let mut made = Map::new();
    let mut constants = Vec::new();
    let mut properties = Map::new();
    for option in options {
        match (option.get("const"), option["enum"].as_array()) {
            (Some(constant), _) => constants.push(constant.clone()),
            (None, Some(several)) => constants.extend(several.iter().cloned()),
            (None, None) => {
                let fields = option["properties"].as_object().into_iter().flatten();
                properties.extend(fields.map(|(name, field)| (name.clone(), structural(field))));
            }
        }
    }
    if properties.is_empty() {
        made.insert("type".to_owned(), "string".into());
        made.insert("enum".to_owned(), constants.into());
        return made;
    }
    // Of no one type, for which Kubernetes has no word: a bound for each kind of value it may be.
    let names: Vec<_> = constants.iter().map(text).collect();
    made.insert(
        "x-kubernetes-preserve-unknown-fields".to_owned(),
        true.into(),
    );
    made.insert(
        "pattern".to_owned(),
        format!("^({})$", names.join("|")).into(),
    );
    let tags: Vec<_> = properties
        .keys()
        .map(|tag| json!({"required": [tag]}))
        .collect();
    made.insert("anyOf".to_owned(), tags.into());
    made.insert("maxProperties".to_owned(), 1.into());
    made
}

/// The description, with what the constants mean.
fn described(schema: &Map<String, Value>, options: Option<&[&Value]>) -> Option<String> {
    let own = schema.get("description").and_then(Value::as_str)?;
    let mut lines = vec![own.to_owned()];
    let mut options = options.unwrap_or_default().to_vec();
    if let [Value::Object(only)] = options.as_slice() {
        options = alternatives(only).unwrap_or_default();
    }
    for option in options {
        if let (Some(constant), Some(meaning)) =
            (option.get("const"), option["description"].as_str())
        {
            lines.push(format!("{}: {meaning}", text(constant)));
        }
    }
    Some(lines.join("\n"))
}

/// A default without the fields that it leaves out.
fn without_null(default: &Value) -> Value {
    match default {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            let fields = fields.map(|(name, value)| (name.clone(), without_null(value)));
            Value::Object(fields.collect())
        }
        value => value.clone(),
    }
}

/// What bounds of durations mean, which are strings.
fn duration_rules(schema: &Map<String, Value>) -> Vec<Value> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_str);
    let rule = |comparison: &str, bound: &str, words: &str| {
        json!({
            "rule": format!("duration(self) {comparison} duration('{bound}')"),
            "message": format!("is out of range; write {bound} or {words}"),
        })
    };
    let minimum = bound("x-weft-minimum").map(|bound| rule(">=", bound, "more"));
    let maximum = bound("x-weft-maximum").map(|bound| rule("<=", bound, "less"));
    minimum.into_iter().chain(maximum).collect()
}

/// The same of sizes, which are numbers or strings.
fn size_rules(schema: &Map<String, Value>) -> Vec<Value> {
    let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
    let rule = |comparison: &str, bound: u64, words: &str| {
        json!({
            "rule": format!("(type(self) == int ? int(self) : quantity(string(self)).asInteger()) {comparison} {bound}"),
            "message": format!("is out of range; write {bound} or {words}"),
        })
    };
    let minimum = bound("x-weft-minimum-bytes").map(|bound| rule(">=", bound, "more"));
    let maximum = bound("x-weft-maximum-bytes").map(|bound| rule("<=", bound, "less"));
    minimum.into_iter().chain(maximum).collect()
}

/// Of a whole number, the API server compares with the whole part of a bound only: 0 is no less than 0.001 to it.
fn fraction_rule(made: &Map<String, Value>) -> Option<Value> {
    let minimum = made.get("minimum")?;
    let has_fraction = minimum.as_f64()?.fract() != 0.0;
    has_fraction.then(|| {
        let bound = text(minimum);
        json!({
            "rule": format!("self >= {bound}"),
            "message": format!("is out of range; write {bound} or more"),
        })
    })
}

fn is_duration(schema: &Map<String, Value>) -> bool {
    let write = schema.get("x-weft-write").and_then(Value::as_str);
    write.is_some_and(|write| write.contains("units h, m, s"))
}

fn is_of_kubernetes(key: &str) -> bool {
    key.starts_with("x-kubernetes-")
}
