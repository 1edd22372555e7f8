use super::*;
use crate::api::schema;
use std::{fs, path::Path};

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[test]
fn the_committed_definitions_are_what_the_types_say() {
    let directory = repository("charts/weft/crd-bases");
    for (name, definition) in definitions() {
        let path = directory.join(format!("{name}.yaml"));
        let fresh = document(&definition).unwrap();
        if std::env::var_os("WEFT_UPDATE").is_some() {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &fresh).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == fresh,
            "charts/weft/crd-bases/{name}.yaml differs from what the types say; run: make generate"
        );
        let read: Value = serde_saphyr::from_str(&committed).unwrap();
        assert_eq!(read, definition);
    }
}

#[test]
fn every_example_fits_its_definition() {
    let mut checked = 0;
    for entry in fs::read_dir(repository("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        for document in fs::read_to_string(&path).unwrap().split("---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            let definitions = definitions().into_iter().map(|(_, definition)| definition);
            let mut of_kind = definitions
                .filter(|definition| definition["spec"]["names"]["kind"] == object["kind"]);
            if let Some(definition) = of_kind.next() {
                let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
                let fits = schema::check(schema, &object);
                assert_eq!(fits, Ok(()), "{}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 15, "only {checked} objects of Weft's own kinds");
}

/// Every schema below one, with its path.
fn below(path: &str, schema: &Value, all: &mut Vec<(String, Value)>) {
    all.push((path.to_owned(), schema.clone()));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        below(&format!("{path}.{name}"), field, all);
    }
    if let Some(items) = schema.get("items") {
        below(&format!("{path}[]"), items, all);
    }
}

fn schemas() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (name, definition) in definitions() {
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        below(&name, schema, &mut all);
    }
    all
}

/// The keywords of which an API server takes a structural schema, as far as they are used.
const KEYWORDS: [&str; 23] = [
    "anyOf",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maximum",
    "maxItems",
    "maxLength",
    "maxProperties",
    "minimum",
    "minItems",
    "minLength",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
    "nullable",
];

#[test]
fn every_schema_is_structural() {
    for (path, schema) in schemas() {
        let schema = schema.as_object().unwrap();
        let foreign = schema.keys().find(|key| !KEYWORDS.contains(&key.as_str()));
        assert_eq!(foreign, None, "{path}");
        let typed = [
            "type",
            "x-kubernetes-int-or-string",
            "x-kubernetes-preserve-unknown-fields",
        ];
        assert!(
            typed.iter().any(|key| schema.contains_key(*key)),
            "{path} is of no type"
        );
    }
}

#[test]
fn every_default_fits() {
    for (path, schema) in schemas() {
        if let Some(default) = schema.get("default") {
            assert_eq!(schema::check(&schema, default), Ok(()), "{path}");
        }
    }
}

#[test]
fn every_rule_says_what_to_do() {
    let mut rules = 0;
    for (path, schema) in schemas() {
        let listed = schema["x-kubernetes-validations"].as_array();
        for rule in listed.into_iter().flatten() {
            let message = rule["message"].as_str().unwrap_or_default();
            let way_out = ["write ", "remove ", "leave it out", "rename ", "let "];
            assert!(
                way_out.iter().any(|words| message.contains(words)) || message.contains("RFC 1123"),
                "{path}: {message}"
            );
            rules += 1;
        }
        // What a rule may cost is counted by the longest text it may be about.
        if listed.is_some() && schema["type"] == "string" {
            assert!(schema.get("maxLength").is_some(), "{path} has no bound");
        }
    }
    assert!(rules > 40, "only {rules} rules");
}
