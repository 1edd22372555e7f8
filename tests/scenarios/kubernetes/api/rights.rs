//! Tokens and rights.

use super::text;
use anyhow::ensure;
use serde_json::{Value, json};
use std::time::Duration;
use weft_tests::{Suite, kubernetes::session::Session, wait::until};

/// An audience of nobody's but the test's.
const AUDIENCE: &str = "weft-suite";

pub(super) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "kubernetes_api::a_token_tells_its_pod_and_is_for_its_audience",
            &[],
            review,
        )
        .test("kubernetes_api::rights_are_what_roles_grant", &[], rights)
        .test("kubernetes_api::a_right_can_be_for_one_name", &[], named)
        .test(
            "kubernetes_api::nobody_gets_in_with_a_wrong_token",
            &[],
            wrong,
        )
}

fn account(session: &Session, name: &str) -> anyhow::Result<()> {
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
    session
        .post(&session.core("serviceaccounts"), &account)?
        .created()?;
    Ok(())
}

fn reviewed(session: &Session, token: &str, audience: &str) -> anyhow::Result<Value> {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": [audience] },
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    Ok(session.post(path, &review)?.created()?["status"].clone())
}

fn review() -> anyhow::Result<()> {
    let session = Session::open()?;
    account(&session, "app")?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "app-0" },
        "spec": { "serviceAccountName": "app", "containers": [{ "name": "app", "image": "app" }] },
    });
    let pods = session.core("pods");
    let pod = session.post(&pods, &pod)?.created()?;
    let uid = text(&pod, "/metadata/uid");
    let token = session.token("app", AUDIENCE, Some(("app-0", uid)))?;

    let status = reviewed(&session, &token, AUDIENCE)?;
    ensure!(status["authenticated"] == true, "{status}");
    ensure!(status["audiences"] == json!([AUDIENCE]), "{status}");
    let user = &status["user"];
    let name = format!("system:serviceaccount:{}:app", session.namespace());
    ensure!(user["username"] == name.as_str(), "{user}");
    let extra = |key: &str| &user["extra"][format!("authentication.kubernetes.io/{key}")];
    ensure!(*extra("pod-name") == json!(["app-0"]), "{user}");
    ensure!(*extra("pod-uid") == json!([uid]), "{user}");

    for (token, audience) in [(token.as_str(), "another"), ("nonsense", AUDIENCE)] {
        let status = reviewed(&session, token, audience)?;
        ensure!(status["authenticated"] != true, "{status}");
        ensure!(!text(&status, "/error").is_empty(), "{status}");
    }
    let path = format!("{pods}/app-0?gracePeriodSeconds=0");
    session.delete(&path)?.ok()?;
    until(
        "the token of a pod that is gone is good for nothing",
        Duration::from_secs(30),
        || reviewed(&session, &token, AUDIENCE).is_ok_and(|status| status["authenticated"] != true),
    )
}

/// Grants an account of the namespace some rules there.
fn grant(session: &Session, account: &str, rules: Value) -> anyhow::Result<()> {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let role = json!({ "apiVersion": RBAC, "kind": "Role", "metadata": { "name": account }, "rules": rules });
    session
        .post(&session.group(RBAC, "roles"), &role)?
        .created()?;
    let binding = json!({
        "apiVersion": RBAC,
        "kind": "RoleBinding",
        "metadata": { "name": account },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account },
        "subjects": [{ "kind": "ServiceAccount", "name": account, "namespace": session.namespace() }],
    });
    session
        .post(&session.group(RBAC, "rolebindings"), &binding)?
        .created()?;
    Ok(())
}

fn rights() -> anyhow::Result<()> {
    let session = Session::open()?;
    account(&session, "reader")?;
    let token = session.token("reader", "", None)?;
    let path = session.core("configmaps");
    let list = || session.send_as(&token, "GET", &path, &Value::Null);
    let user = format!("system:serviceaccount:{}:reader", session.namespace());
    let message = list()?.refused(403, "Forbidden")?;
    let expected = format!(
        "configmaps is forbidden: User \"{user}\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"{}\"",
        session.namespace()
    );
    ensure!(message == expected, "{message}");

    let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list", "create", "patch"] }]);
    grant(&session, "reader", rules)?;
    until("the right is granted", Duration::from_secs(30), || {
        list().is_ok_and(|answer| answer.code == 200)
    })?;
    let object = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } });
    session.send_as(&token, "POST", &path, &object)?.created()?;
    let one = format!("{path}/a");
    let message = session
        .send_as(&token, "GET", &one, &Value::Null)?
        .refused(403, "Forbidden")?;
    ensure!(
        message.starts_with("configmaps \"a\" is forbidden: "),
        "{message}"
    );
    session
        .send_as(&token, "DELETE", &one, &Value::Null)?
        .refused(403, "Forbidden")?;
    let nodes = session.send_as(&token, "GET", "/api/v1/nodes", &Value::Null)?;
    let message = nodes.refused(403, "Forbidden")?;
    ensure!(message.ends_with("at the cluster scope"), "{message}");
    Ok(())
}

fn named() -> anyhow::Result<()> {
    let session = Session::open()?;
    account(&session, "writer")?;
    let token = session.token("writer", "", None)?;
    let rules = json!([{ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"], "verbs": ["get", "list"] }]);
    grant(&session, "writer", rules)?;
    let path = session.core("configmaps");
    let get = |path: &str| session.send_as(&token, "GET", path, &Value::Null);
    until("the right is granted", Duration::from_secs(30), || {
        get(&format!("{path}/mine")).is_ok_and(|answer| answer.code == 404)
    })?;
    get(&format!("{path}/other"))?.refused(403, "Forbidden")?;
    get(&path)?.refused(403, "Forbidden")?;
    get(&format!("{path}?fieldSelector=metadata.name%3Dmine"))?.ok()?;
    Ok(())
}

fn wrong() -> anyhow::Result<()> {
    let session = Session::open()?;
    let path = session.core("configmaps");
    session
        .send_as("nonsense", "GET", &path, &Value::Null)?
        .refused(401, "Unauthorized")?;
    account(&session, "app")?;
    let token = session.token("app", AUDIENCE, None)?;
    session
        .send_as(&token, "GET", &path, &Value::Null)?
        .refused(401, "Unauthorized")?;
    Ok(())
}
