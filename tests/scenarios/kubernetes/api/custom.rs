//! Custom resources: their schemas, rules and status.

use anyhow::ensure;
use serde_json::{Value, json};
use std::time::Duration;
use weft_tests::{Suite, kubernetes::session::Session, wait::until};

pub(super) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "kubernetes_api::a_schema_fills_in_prunes_and_refuses",
            &[],
            schema,
        )
        .test("kubernetes_api::status_is_written_apart", &[], status)
        .test(
            "kubernetes_api::conditions_are_applied_by_several",
            &[],
            conditions,
        )
}

/// A kind of this test's own, as the group says; it goes with the value.
struct Kind<'a> {
    session: &'a Session,
    group: String,
}

impl<'a> Kind<'a> {
    fn define(session: &'a Session) -> anyhow::Result<Self> {
        let group = format!("{}.weft.test", session.namespace());
        let definition = json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": { "name": format!("things.{group}") },
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": { "plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList" },
                "versions": [{
                    "name": "v1",
                    "served": true,
                    "storage": true,
                    "subresources": { "status": {} },
                    "schema": { "openAPIV3Schema": schema_of_things() },
                }],
            },
        });
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        session.post(path, &definition)?.created()?;
        let kind = Self { session, group };
        let things = kind.things();
        until("the kind is served", Duration::from_secs(30), || {
            session.get(&things).is_ok_and(|answer| answer.code == 200)
        })?;
        Ok(kind)
    }

    fn things(&self) -> String {
        self.session.group(&format!("{}/v1", self.group), "things")
    }

    fn thing(&self, name: &str, spec: Value) -> Value {
        json!({ "apiVersion": format!("{}/v1", self.group), "kind": "Thing", "metadata": { "name": name }, "spec": spec })
    }
}

impl Drop for Kind<'_> {
    fn drop(&mut self) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things";
        // A definition that stays is the cluster's to show.
        let _ = self.session.delete(&format!("{path}.{}", self.group));
    }
}

fn schema_of_things() -> Value {
    json!({
        "type": "object",
        "required": ["spec"],
        "properties": {
            "spec": {
                "type": "object",
                "x-kubernetes-validations": [{ "rule": "!has(self.low) || self.low <= self.high", "message": "low must not exceed high" }],
                "properties": {
                    "mode": { "type": "string", "enum": ["Strict", "Permissive"], "default": "Permissive" },
                    "low": { "type": "integer", "minimum": 1 },
                    "high": { "type": "integer", "default": 10 },
                    "name": { "type": "string", "pattern": "^[a-z]+$" },
                },
            },
            "status": {
                "type": "object",
                "properties": {
                    "seen": { "type": "integer" },
                    "conditions": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["type"],
                        "items": {
                            "type": "object",
                            "required": ["type", "status"],
                            "properties": { "type": { "type": "string" }, "status": { "type": "string" } },
                        },
                    },
                },
            },
        },
    })
}

fn schema() -> anyhow::Result<()> {
    let session = Session::open()?;
    let kind = Kind::define(&session)?;
    let things = kind.things();
    let answer = session.post(&things, &kind.thing("a", json!({ "tpyo": 1, "low": 2 })))?;
    ensure!(
        answer
            .warnings
            .iter()
            .any(|warning| warning.contains("spec.tpyo")),
        "{answer}"
    );
    let spec = answer.created()?["spec"].clone();
    ensure!(
        spec == json!({ "mode": "Permissive", "low": 2, "high": 10 }),
        "{spec}"
    );

    let strict = format!("{things}?fieldValidation=Strict");
    let message = session
        .post(&strict, &kind.thing("b", json!({ "tpyo": 1 })))?
        .refused(400, "BadRequest")?;
    ensure!(
        message.ends_with("strict decoding error: unknown field \"spec.tpyo\""),
        "{message}"
    );

    for (spec, expected) in [
        (
            json!({ "mode": "Loose" }),
            "spec.mode: Unsupported value: \"Loose\": supported values: \"Strict\", \"Permissive\"",
        ),
        (
            json!({ "low": 0 }),
            "spec.low: Invalid value: 0: spec.low in body should be greater than or equal to 1",
        ),
        (
            json!({ "low": "x" }),
            "spec.low: Invalid value: \"string\": spec.low in body must be of type integer: \"string\"",
        ),
        (
            json!({ "name": "A" }),
            "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+$'",
        ),
        (
            json!({ "low": 11 }),
            "spec: Invalid value: low must not exceed high",
        ),
    ] {
        let answer = session.post(&things, &kind.thing("b", spec))?;
        let message = answer.refused(422, "Invalid")?;
        ensure!(
            message.contains(expected),
            "{message}\ndoes not contain {expected}"
        );
    }
    Ok(())
}

fn status() -> anyhow::Result<()> {
    let session = Session::open()?;
    let kind = Kind::define(&session)?;
    let things = kind.things();
    let mut object = kind.thing("a", json!({ "low": 1 }));
    object["status"] = json!({ "seen": 1 });
    let created = session.post(&things, &object)?.created()?;
    ensure!(
        created["status"].is_null() && created["metadata"]["generation"] == 1,
        "{created}"
    );

    let path = format!("{things}/a");
    let mut both = created.clone();
    both["status"] = json!({ "seen": 2 });
    both["spec"]["low"] = json!(2);
    let written = session.put(&format!("{path}/status"), &both)?.ok()?;
    ensure!(
        written["spec"]["low"] == 1 && written["status"]["seen"] == 2,
        "{written}"
    );
    ensure!(
        written["metadata"]["generation"] == 1,
        "status is not counted: {written}"
    );

    let mut both = written;
    both["status"]["seen"] = json!(3);
    both["spec"]["low"] = json!(2);
    let written = session.put(&path, &both)?.ok()?;
    ensure!(
        written["spec"]["low"] == 2 && written["status"]["seen"] == 2,
        "{written}"
    );
    ensure!(written["metadata"]["generation"] == 2, "{written}");
    Ok(())
}

fn conditions() -> anyhow::Result<()> {
    let session = Session::open()?;
    let kind = Kind::define(&session)?;
    let things = kind.things();
    session
        .post(&things, &kind.thing("a", json!({})))?
        .created()?;
    let path = format!("{things}/a/status");
    let apply = |manager: &str, conditions: Value| {
        let mut object = kind.thing("a", json!({}));
        if let Some(fields) = object.as_object_mut() {
            fields.remove("spec");
        }
        object["status"] = json!({ "conditions": conditions });
        session.apply(&path, &format!("fieldManager={manager}"), &object)
    };
    apply("one", json!([{ "type": "A", "status": "True" }]))?.ok()?;
    let object = apply("two", json!([{ "type": "B", "status": "True" }]))?.ok()?;
    let both = json!([{ "type": "A", "status": "True" }, { "type": "B", "status": "True" }]);
    ensure!(
        object["status"]["conditions"] == both,
        "{}",
        object["status"]
    );
    let message =
        apply("two", json!([{ "type": "A", "status": "False" }]))?.refused(409, "Conflict")?;
    let expected =
        "conflict with \"one\" with subresource \"status\": .status.conditions[type=\"A\"].status";
    ensure!(
        message.contains(expected),
        "{message}\ndoes not contain {expected}"
    );
    let object = apply("one", json!([]))?.ok()?;
    let rest = json!([{ "type": "B", "status": "True" }]);
    ensure!(
        object["status"]["conditions"] == rest,
        "{}",
        object["status"]
    );
    let missing = session.apply(
        &format!("{things}/none/status"),
        "fieldManager=one",
        &kind.thing("none", json!({})),
    )?;
    missing.refused(404, "NotFound")?;
    Ok(())
}
