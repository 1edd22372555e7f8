//! Writes that must not undo each other: server-side apply, and resource versions.

use super::{config_map, text};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weft_tests::{Suite, kubernetes::session::Session};

pub(super) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "kubernetes_api::an_apply_conflicts_with_the_manager_of_a_field",
            &[],
            conflict,
        )
        .test(
            "kubernetes_api::an_apply_removes_what_it_no_longer_names",
            &[],
            removal,
        )
        .test(
            "kubernetes_api::an_apply_that_changes_nothing_writes_nothing",
            &[],
            nothing,
        )
        .test(
            "kubernetes_api::an_update_of_an_old_version_is_refused",
            &[],
            lease,
        )
        .test(
            "kubernetes_api::patches_of_every_kind_change_an_object",
            &[],
            patches,
        )
        .test(
            "kubernetes_api::a_deletion_can_insist_on_its_object",
            &[],
            preconditions,
        )
}

fn conflict() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = format!("{}/a", session.core("configmaps"));
    let one = config_map("a", json!({ "x": "1", "y": "1" }));
    session.apply(&path, "fieldManager=one", &one)?.created()?;
    let two = config_map("a", json!({ "x": "2" }));
    let refused = session.apply(&path, "fieldManager=two", &two)?;
    let causes = refused.body["details"]["causes"].clone();
    let message = refused.refused(409, "Conflict")?;
    ensure!(
        message == "Apply failed with 1 conflict: conflict with \"one\": .data.x",
        "{message}"
    );
    ensure!(causes[0]["reason"] == "FieldManagerConflict", "{causes}");
    ensure!(causes[0]["field"] == ".data.x", "{causes}");
    let forced = session
        .apply(&path, "fieldManager=two&force=true", &two)?
        .ok()?;
    ensure!(
        forced["data"] == json!({ "x": "2", "y": "1" }),
        "{}",
        forced["data"]
    );
    ensure!(
        fields_of(&forced, "one") == json!({ "f:data": { "f:y": {} } }),
        "{forced}"
    );
    ensure!(
        fields_of(&forced, "two") == json!({ "f:data": { "f:x": {} } }),
        "{forced}"
    );
    let nameless = session.apply(&path, "force=true", &two)?;
    nameless.refused(422, "Invalid")?;
    Ok(())
}

fn fields_of(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten();
    let mut entries = entries.filter(|entry| entry["manager"] == manager);
    entries
        .next()
        .map(|entry| entry["fieldsV1"].clone())
        .unwrap_or_default()
}

fn removal() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = format!("{}/a", session.core("configmaps"));
    let apply = |manager: &str, data: Value| {
        session.apply(
            &path,
            &format!("fieldManager={manager}"),
            &config_map("a", data),
        )
    };
    apply("one", json!({ "x": "1", "shared": "1" }))?.created()?;
    apply("two", json!({ "shared": "1" }))?.ok()?;
    session
        .merge(
            &format!("{path}?fieldManager=edit"),
            &json!({ "data": { "z": "1" } }),
        )?
        .ok()?;
    let object = apply("one", json!({ "y": "1" }))?.ok()?;
    let expected = json!({ "shared": "1", "y": "1", "z": "1" });
    ensure!(object["data"] == expected, "{}", object["data"]);
    let message = apply("one", json!({ "z": "2" }))?.refused(409, "Conflict")?;
    ensure!(
        message.contains("conflict with \"edit\" using v1: .data.z"),
        "{message}"
    );
    Ok(())
}

fn nothing() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = format!("{}/a", session.core("configmaps"));
    let object = config_map("a", json!({ "x": "1" }));
    let first = session
        .apply(&path, "fieldManager=one", &object)?
        .created()?;
    let second = session.apply(&path, "fieldManager=one", &object)?.ok()?;
    let version = "/metadata/resourceVersion";
    ensure!(text(&first, version) == text(&second, version), "{second}");
    let third = session.put(&path, &second)?.ok()?;
    ensure!(text(&first, version) == text(&third, version), "{third}");
    Ok(())
}

fn lease() -> anyhow::Result<()> {
    let session = Session::open()?;
    let collection = session.group("coordination.k8s.io/v1", "leases");
    let path = format!("{collection}/leader");
    let spec = |holder: &str| {
        json!({
            "holderIdentity": holder,
            "leaseDurationSeconds": 15,
            "renewTime": "2026-01-01T00:00:00.000000Z",
        })
    };
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "leader" }, "spec": spec("a") });
    let mine = session.post(&collection, &lease)?.created()?;
    let mut renewed = mine.clone();
    renewed["spec"] = spec("b");
    let theirs = session.put(&path, &renewed)?.ok()?;
    ensure!(theirs["spec"]["holderIdentity"] == "b", "{theirs}");
    let mut late = mine;
    late["spec"] = spec("c");
    let message = session.put(&path, &late)?.refused(409, "Conflict")?;
    ensure!(
        message.contains("the object has been modified"),
        "{message}"
    );
    ensure!(
        session.get(&path)?.ok()?["spec"]["holderIdentity"] == "b",
        "b holds it"
    );
    Ok(())
}

fn patches() -> anyhow::Result<()> {
    let session = Session::open()?;
    let collection = session.group("apps/v1", "deployments");
    let path = format!("{collection}/a");
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "a" },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "a" } },
            "template": {
                "metadata": { "labels": { "app": "a" } },
                "spec": { "containers": [{ "name": "one", "image": "1" }, { "name": "two", "image": "1" }] },
            },
        },
    });
    let created = session.post(&collection, &deployment)?.created()?;
    ensure!(created["metadata"]["generation"] == 1, "{created}");
    let strategic = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "two", "image": "2" }] } } } });
    let patched = session
        .send(
            "PATCH",
            &path,
            "application/strategic-merge-patch+json",
            &strategic,
        )?
        .ok()?;
    let containers = patched["spec"]["template"]["spec"]["containers"].as_array();
    ensure!(containers.context("containers")?.len() == 2, "{patched}");
    ensure!(patched["metadata"]["generation"] == 2, "{patched}");
    let json_patch = json!([{ "op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "3" }]);
    let patched = session
        .send("PATCH", &path, "application/json-patch+json", &json_patch)?
        .ok()?;
    let image = "/spec/template/spec/containers/0/image";
    ensure!(text(&patched, image) == "3", "{patched}");
    let label = json!({ "metadata": { "labels": { "x": "y" } } });
    let patched = session.merge(&path, &label)?.ok()?;
    ensure!(
        patched["metadata"]["generation"] == 3,
        "labels are not of the specification"
    );
    session
        .send("PATCH", &path, "application/json", &label)?
        .refused(415, "UnsupportedMediaType")?;
    let stale = json!({ "metadata": { "resourceVersion": "1", "labels": { "x": "z" } } });
    session.merge(&path, &stale)?.refused(409, "Conflict")?;
    Ok(())
}

fn preconditions() -> anyhow::Result<()> {
    let session = Session::open()?;
    let collection = session.core("configmaps");
    let object = session
        .post(&collection, &config_map("a", json!({})))?
        .created()?;
    let path = format!("{collection}/a");
    let insist = |uid: &str| {
        let options =
            json!({ "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "uid": uid } });
        session.send("DELETE", &path, "application/json", &options)
    };
    insist("another")?.refused(409, "Conflict")?;
    let answer = insist(text(&object, "/metadata/uid"))?.ok()?;
    ensure!(answer["status"] == "Success", "{answer}");
    session.get(&path)?.refused(404, "NotFound")?;
    Ok(())
}
