//! Every field of the schema, at its bounds and beyond them.

use crate::{
    api::{TrafficPolicySpec, schema},
    source::convert::{Verdict, object},
};
use serde_json::{Map, Value, json};

/// A policy that says one thing.
struct Case {
    path: String,
    spec: Value,
    fits: bool,
}

#[test]
fn every_field_is_read_within_its_bounds_and_refused_by_name_beyond_them() {
    let mut beyond = 0;
    for Case { path, spec, fits } in cases("spec", TrafficPolicySpec::schema()) {
        if fits {
            assert_eq!(
                schema::check(TrafficPolicySpec::schema(), &spec),
                Ok(()),
                "{path}: {spec}"
            );
            let read = serde_json::from_value::<TrafficPolicySpec>(spec.clone());
            assert!(read.is_ok(), "{path}: {spec}: {read:?}");
            continue;
        }
        beyond += 1;
        let policy = json!({
            "apiVersion": "weft.dev/v1alpha1",
            "kind": "TrafficPolicy",
            "metadata": {"name": "p", "namespace": "demo"},
            "spec": spec,
        });
        match object(policy, "cluster.local").verdict {
            Verdict::Refused { invalid, .. } => assert_eq!(invalid.field, path, "{spec}"),
            other => panic!("{path}: {spec}: {other:?}"),
        }
    }
    assert!(beyond > 60, "only {beyond} fields have bounds");
}

/// Objects that have what they must, and one field at or beyond a bound.
fn cases(path: &str, schema: &Value) -> Vec<Case> {
    let schema = of_value(schema);
    if let Some(items) = schema.get("items") {
        let listed = |case: Case| Case {
            spec: json!([case.spec]),
            ..case
        };
        return cases(&format!("{path}[0]"), items)
            .into_iter()
            .map(listed)
            .collect();
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
        return values(path, schema);
    };
    let required = required(schema);
    let in_object = |(name, field): (&String, &Value)| {
        let mut fields = cases(&format!("{path}.{name}"), field);
        for case in &mut fields {
            let mut object = required.clone();
            object.insert(name.clone(), case.spec.take());
            case.spec = Value::Object(object);
        }
        fields
    };
    properties.iter().flat_map(in_object).collect()
}

/// Its required fields, by their examples.
fn required(schema: &Map<String, Value>) -> Map<String, Value> {
    let names = schema.get("required").and_then(Value::as_array);
    let names = names.into_iter().flatten().filter_map(Value::as_str);
    let properties = &schema["properties"];
    names
        .map(|name| (name.to_owned(), example(&properties[name])))
        .collect()
}

fn example(schema: &Value) -> Value {
    if let Some(example) = schema["examples"].get(0) {
        return example.clone();
    }
    let schema = of_value(schema);
    match schema.get("items") {
        Some(items) => json!([example(items)]),
        None => Value::Object(required(schema)),
    }
}

fn values(path: &str, schema: &Map<String, Value>) -> Vec<Case> {
    let case = |spec: Value, fits| Case {
        path: path.to_owned(),
        spec,
        fits,
    };
    let mut cases = Vec::new();
    for (bound, step) in [("minimum", -1), ("maximum", 1)] {
        if let Some(whole) = schema.get(bound).and_then(Value::as_i64) {
            cases.push(case(json!(whole), true));
            cases.push(case(json!(whole + step), false));
        }
    }
    if let Some(minimum) = schema.get("x-weft-minimum") {
        cases.push(case(minimum.clone(), true));
        cases.push(case(json!("0s"), false));
    }
    if let Some(maximum) = schema.get("x-weft-maximum") {
        cases.push(case(maximum.clone(), true));
        cases.push(case(json!("99999h"), false));
    }
    if schema.get("type") == Some(&json!("string")) {
        cases.push(case(json!(5), false));
    }
    if schema.get("type") == Some(&json!("boolean")) {
        cases.push(case(json!("yes"), false));
    }
    cases
}

/// What a value may be, other than null.
fn of_value(schema: &Value) -> &Map<String, Value> {
    let schema = schema.as_object().unwrap();
    match schema::alternatives(schema).as_deref() {
        Some([only]) => of_value(only),
        _ => schema,
    }
}
