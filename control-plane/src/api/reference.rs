//! The reference of `TrafficPolicy`, made of its schema: `docs/policy/traffic-policy.md`.
//!
//! `WEFT_UPDATE=1 cargo test -p weft-control-plane --lib` writes it anew.

use super::{
    TrafficPolicySpec,
    schema::{self, alternatives, text, types},
};
use serde_json::{Map, Value};
use std::{fmt::Write, fs, path::Path};

const HEAD: &str = "\
# TrafficPolicy (`weft.dev/v1alpha1`)

<!-- Generated from control-plane/src/api/traffic_policy.rs: make generate -->

Every field of a TrafficPolicy. How policies find what they are for, and which of several is in force:
[README.md](README.md). A section that is left out is left to less specific policies; a section that is written, if only
as `{}`, has the defaults below for what it leaves out. A field that is not listed here is refused.

A duration is up to four numbers of up to five digits with the units `h`, `m`, `s` and `ms` (GEP-2257): `1m30s`. A size is a
number of bytes, or a number with `Ki`, `Mi` or `Gi`: `64Ki`.
";

/// A field of an object.
struct Field<'a> {
    name: &'a str,
    required: bool,
    /// The field's own words: description, default, example.
    outer: &'a Map<String, Value>,
    /// What it may be; the same, or the only alternative to null.
    inner: &'a Map<String, Value>,
}

fn reference() -> String {
    let mut markdown = HEAD.to_owned();
    let schema = TrafficPolicySpec::schema().as_object().unwrap();
    section("spec", schema, schema, &mut markdown);
    markdown
}

/// An object and those below it, each in a section.
fn section(
    path: &str,
    outer: &Map<String, Value>,
    schema: &Map<String, Value>,
    markdown: &mut String,
) {
    write!(markdown, "\n## {path}\n\n{}\n\n", description(outer)).unwrap();
    markdown.push_str("| field | meaning | type | default | range | example | becomes (xDS) |\n");
    markdown.push_str("|---|---|---|---|---|---|---|\n");
    for field in fields(schema) {
        let cells = [
            format!("`{}`", field.name),
            field.meaning(),
            field.kind(path),
            field.default(),
            field.range(),
            field.example(),
            keyword(field.outer, "x-weft-becomes")
                .map(|becomes| becomes.replace('|', "\\|"))
                .unwrap_or_default(),
        ];
        writeln!(markdown, "| {} |", cells.join(" | ")).unwrap();
    }
    for field in fields(schema) {
        if let Some(below) = field.object() {
            section(
                &format!("{path}.{}", field.path()),
                field.outer,
                below,
                markdown,
            );
        }
    }
}

fn fields<'a>(schema: &'a Map<String, Value>) -> Vec<Field<'a>> {
    let required = |name: &str| {
        let listed = schema.get("required").and_then(Value::as_array);
        listed.is_some_and(|listed| listed.iter().any(|item| item == name))
    };
    let properties = schema["properties"].as_object().unwrap();
    let field = |(name, schema): (&'a String, &'a Value)| {
        let outer = schema.as_object().unwrap();
        Field {
            name,
            required: required(name),
            outer,
            inner: of_value(outer),
        }
    };
    let mut fields: Vec<_> = properties.iter().map(field).collect();
    // What must be written comes first; the rest is in alphabetical order.
    fields.sort_by_key(|field| !field.required);
    fields
}

/// What a value may be, other than null.
fn of_value(schema: &Map<String, Value>) -> &Map<String, Value> {
    match alternatives(schema).as_deref() {
        Some([only]) => of_value(only.as_object().unwrap()),
        _ => schema,
    }
}

impl<'a> Field<'a> {
    /// The object that it is, or a list of.
    fn object(&self) -> Option<&'a Map<String, Value>> {
        if self.inner.contains_key("properties") {
            return Some(self.inner);
        }
        let items = self.inner.get("items")?.as_object()?;
        items.contains_key("properties").then_some(items)
    }

    fn path(&self) -> String {
        let list = if self.is_list() { "[]" } else { "" };
        format!("{}{list}", self.name)
    }

    fn is_list(&self) -> bool {
        types(self.inner).any(|ty| ty == "array")
    }

    fn meaning(&self) -> String {
        let mut meaning = description(self.outer);
        let options = choices(self.inner);
        let described = options.iter().any(|(_, meaning)| !meaning.is_empty());
        if described {
            let options = options
                .iter()
                .map(|(name, meaning)| format!("`{name}`: {}", meaning.trim_end_matches('.')));
            write!(meaning, "<br>{}", options.collect::<Vec<_>>().join("<br>")).unwrap();
        }
        meaning
    }

    fn kind(&self, path: &str) -> String {
        if self.object().is_some() {
            let anchor: String = format!("{path}.{}", self.path())
                .to_lowercase()
                .chars()
                .filter(|c| c.is_ascii_alphanumeric())
                .collect();
            let what = if self.is_list() {
                "list of objects"
            } else {
                "object"
            };
            return format!("[{what}](#{anchor})");
        }
        let of = |schema: &Map<String, Value>| {
            let write = keyword(schema, "x-weft-write").unwrap_or_default();
            match types(schema).find(|ty| *ty != "null") {
                _ if write.contains("units h, m, s") => "duration",
                _ if write.contains("bytes") => "size",
                Some("any") if !choices(schema).is_empty() => "string",
                Some("any") => "string or other",
                Some("integer") => "integer",
                Some("number") => "number",
                Some("boolean") => "boolean",
                _ => "string",
            }
            .to_owned()
        };
        match self.inner.get("items").and_then(Value::as_object) {
            Some(items) => format!("list of {}", of(items)),
            None => of(self.inner),
        }
    }

    fn default(&self) -> String {
        if let Some(words) = keyword(self.outer, "x-weft-default") {
            return words.to_owned();
        }
        match self.outer.get("default") {
            _ if self.required => "required".to_owned(),
            None | Some(Value::Null) => "none".to_owned(),
            // What is in it has defaults of its own.
            Some(Value::Object(_)) => "as below".to_owned(),
            Some(Value::Array(items)) if items.is_empty() => "none".to_owned(),
            Some(default) => format!("`{}`", flow(default)),
        }
    }

    fn range(&self) -> String {
        // Bounds of a size stand with the field, beside its alternatives.
        let own = range(self.outer);
        match own.is_empty() {
            true => range(self.inner),
            false => own,
        }
    }

    fn example(&self) -> String {
        let examples = self.outer.get("examples").and_then(Value::as_array);
        let examples = examples.into_iter().flatten();
        let examples: Vec<_> = examples
            .map(|example| format!("`{}`", flow(example)))
            .collect();
        examples.join(", ")
    }
}

fn range(schema: &Map<String, Value>) -> String {
    let bounds = |minimum: &str, maximum: &str, unit: &str| {
        let bound = |key| schema.get(key).map(text);
        Some(match (bound(minimum), bound(maximum)) {
            (Some(minimum), Some(maximum)) => format!("{minimum} to {maximum}{unit}"),
            (Some(minimum), None) => format!("{minimum} or more{unit}"),
            (None, Some(maximum)) => format!("up to {maximum}{unit}"),
            (None, None) => return None,
        })
    };
    let options = choices(schema);
    if !options.is_empty() {
        let options = options.iter().map(|(name, _)| format!("`{name}`"));
        return options.collect::<Vec<_>>().join(", ");
    }
    if let Some(items) = schema.get("items").and_then(Value::as_object) {
        let entries = bounds("minItems", "maxItems", " entries");
        let of_item = Some(range(items)).filter(|of_item| !of_item.is_empty());
        return [entries, of_item]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("; ");
    }
    let sizes = bounds("x-weft-minimum-bytes", "x-weft-maximum-bytes", " bytes");
    let write = keyword(schema, "x-weft-write").unwrap_or_default();
    let words = match write.contains("such as") {
        _ if write.contains("units h, m, s") => "0s or more",
        true => "",
        false => write,
    };
    bounds("minimum", "maximum", "")
        .or_else(|| bounds("x-weft-minimum", "x-weft-maximum", ""))
        .or(sizes)
        .or_else(|| (!words.is_empty()).then(|| words.to_owned()))
        .or_else(|| bounds("minLength", "maxLength", " characters"))
        .unwrap_or_default()
}

/// The values of an enumeration, with what they mean.
fn choices(schema: &Map<String, Value>) -> Vec<(String, String)> {
    if keyword(schema, "x-weft-write").is_some() {
        return Vec::new();
    }
    let mut choices = Vec::new();
    if let Some(options) = schema.get("enum").and_then(Value::as_array) {
        let options = options.iter().filter(|option| !option.is_null());
        choices.extend(options.map(|option| (text(option), String::new())));
    }
    for option in alternatives(schema).into_iter().flatten() {
        let option = option.as_object().unwrap();
        if let Some(constant) = option.get("const") {
            choices.push((text(constant), description(option)));
        } else {
            choices.extend(self::choices(option));
        }
    }
    choices
}

fn description(schema: &Map<String, Value>) -> String {
    keyword(schema, "description")
        .unwrap_or_default()
        .replace('\n', " ")
        .replace('|', "\\|")
}

fn keyword<'a>(schema: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    schema.get(key)?.as_str()
}

/// YAML on one line.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<_> = items.iter().map(flow).collect();
            format!("[{}]", items.join(", "))
        }
        // Only in quotes it is a string.
        Value::String(string) if string.parse::<f64>().is_ok() => format!("\"{string}\""),
        value => text(value),
    }
}

/// Every field that is not an object, with its path.
fn leaves(path: &str, schema: &'static Map<String, Value>) -> Vec<(String, Field<'static>)> {
    let of_field = |field: Field<'static>| {
        let path = format!("{path}.{}", field.path());
        match field.object() {
            Some(below) => leaves(&path, below),
            None => vec![(path, field)],
        }
    };
    fields(schema).into_iter().flat_map(of_field).collect()
}

#[test]
fn the_reference_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy/traffic-policy.md");
    let fresh = reference();
    if std::env::var_os("WEFT_UPDATE").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "docs/policy/traffic-policy.md differs from what the types say; run: make generate"
    );
}

#[test]
fn every_field_has_a_meaning_an_example_that_fits_and_says_what_it_becomes() {
    let spec = TrafficPolicySpec::schema().as_object().unwrap();
    for (path, field) in leaves("spec", spec) {
        assert!(
            !description(field.outer).is_empty(),
            "{path} has no meaning"
        );
        let examples = field.outer.get("examples").and_then(Value::as_array);
        let examples = examples.unwrap_or_else(|| panic!("{path} has no example"));
        for example in examples {
            let schema = Value::Object(field.outer.clone());
            assert_eq!(schema::check(&schema, example), Ok(()), "{path}");
        }
        // Targets become resources, and a port is part of the name of a cluster.
        let becomes = path.contains("targetRefs") || path.contains("backendRef.");
        assert!(
            becomes || field.outer.contains_key("x-weft-becomes"),
            "{path} does not say what it becomes"
        );
    }
}

#[test]
fn every_default_fits() {
    let spec = TrafficPolicySpec::schema().as_object().unwrap();
    for (path, field) in leaves("spec", spec) {
        if let Some(default) = field
            .outer
            .get("default")
            .filter(|default| !default.is_null())
        {
            let schema = Value::Object(field.outer.clone());
            assert_eq!(schema::check(&schema, default), Ok(()), "{path}");
        }
    }
}
