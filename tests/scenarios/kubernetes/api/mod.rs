//! What Weft relies on of the Kubernetes API.
//!
//! The suite runs against the stand-in (`weft_tests::kubernetes`), and against a real API where `WEFT_TEST_KUBECONFIG`
//! names one: both must pass.

mod admission;
mod apply;
mod custom;
mod read;
mod rights;

use serde_json::{Value, json};
use weft_tests::Suite;

pub(crate) fn add(suite: Suite) -> Suite {
    let suite = read::add(suite);
    let suite = apply::add(suite);
    let suite = custom::add(suite);
    let suite = rights::add(suite);
    admission::add(suite)
}

fn config_map(name: &str, data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data })
}

fn labelled(name: &str, app: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "labels": { "app": app } } })
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
