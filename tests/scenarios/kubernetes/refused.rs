//! Bad objects: refused by the schema of their kind where that can say it, else told of in their status.

use super::install::{Installed, NAMESPACE, NEEDS, PATIENCE};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use weft_tests::{Suite, wait::until};

pub(super) fn add(suite: Suite) -> Suite {
    suite.test(
        "kubernetes::bad_objects_are_refused_or_told_of_and_harm_nobody",
        NEEDS,
        bad,
    )
}

/// A policy for the service `echo`, with further fields.
fn policy(name: &str, target: &str, fields: &Value) -> Value {
    let mut policy = json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": { "targetRefs": [{ "kind": "Service", "name": target }] },
    });
    for (field, value) in fields.as_object().into_iter().flatten() {
        policy["spec"][field] = value.clone();
    }
    policy
}

fn bad() -> anyhow::Result<()> {
    let installed = Installed::start()?;
    installed.wait()?;
    let path = format!("/apis/weft.dev/v1alpha1/namespaces/{NAMESPACE}/trafficpolicies");
    for (fields, named) in [
        (
            json!({ "loadBalancer": { "algorithm": "Best" } }),
            "spec.loadBalancer.algorithm",
        ),
        (json!({ "retry": { "attempts": 0 } }), "spec.retry.attempts"),
        (
            json!({ "retry": { "attempts": "three" } }),
            "spec.retry.attempts",
        ),
        (
            json!({ "timeout": { "request": "soon" } }),
            "spec.timeout.request",
        ),
        (
            json!({ "rateLimit": { "requests": 0 } }),
            "spec.rateLimit.requests",
        ),
        (json!({ "targetRefs": [] }), "spec.targetRefs"),
    ] {
        let object = policy("refused", "echo", &fields);
        let answer = installed
            .cluster
            .api
            .request("POST", &path, "application/json", &object);
        let refusal = answer
            .err()
            .with_context(|| format!("{fields} was taken"))?;
        ensure!(
            refusal.code == 422 && refusal.message.contains(named),
            "{fields} was refused with {refusal}"
        );
    }
    let unknown = policy("refused", "echo", &json!({ "retires": {} }));
    let strict = format!("{path}?fieldValidation=Strict");
    let answer = installed
        .cluster
        .api
        .request("POST", &strict, "application/json", &unknown);
    let refusal = answer.err().context("an unknown field was taken")?;
    ensure!(refusal.message.contains("spec.retires"), "{refusal}");

    installed.cluster.api.create(&policy(
        "astray",
        "nobody",
        &json!({ "retry": { "attempts": 2 } }),
    ))?;
    let mut status = Value::Null;
    until("the policy is told that nobody is meant", PATIENCE, || {
        let object =
            installed
                .cluster
                .api
                .get("weft.dev/v1alpha1", "TrafficPolicy", NAMESPACE, "astray");
        status = object.unwrap_or_default()["status"].clone();
        let ancestors = status["ancestors"].as_array().into_iter().flatten();
        let mut conditions =
            ancestors.flat_map(|of| of["conditions"].as_array().into_iter().flatten());
        conditions.any(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["status"] == "False" && message.contains("nobody")
        })
    })
    .with_context(|| format!("{status}\n{}", installed.control_plane.log("control-plane")))?;
    installed.wait()?;
    Ok(())
}
