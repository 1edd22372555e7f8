//! Admission webhooks.

use super::{config_map, text};
use anyhow::ensure;
use serde_json::{Value, json};
use std::time::Duration;
use weft_tests::{
    Suite,
    kubernetes::{
        session::Session,
        webhook::{Webhook, denied, patched},
    },
    wait::until,
};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

pub(super) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "kubernetes_api::a_webhook_changes_what_is_made_where_it_is_selected",
            &[],
            mutates,
        )
        .test(
            "kubernetes_api::a_webhook_refuses_with_its_words",
            &[],
            refuses,
        )
        .test(
            "kubernetes_api::a_webhook_that_fails_decides_by_its_policy",
            &[],
            fails,
        )
}

/// A webhook configuration for the namespace of a test; it goes with the value.
struct Configuration<'a> {
    session: &'a Session,
}

impl<'a> Configuration<'a> {
    fn new(session: &'a Session, client: &Value, policy: &str) -> anyhow::Result<Self> {
        let name = session.namespace();
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": { "name": name },
            "webhooks": [{
                "name": "suite.weft.test",
                "clientConfig": client,
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": policy,
                "timeoutSeconds": 5,
                "rules": [{ "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"] }],
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": name } },
                "objectSelector": { "matchLabels": { "app": "asked" } },
            }],
        });
        session.post(CONFIGURATIONS, &configuration)?.created()?;
        Ok(Self { session })
    }

    /// Creates objects until the configuration, of which a real API learns by a watch, has an effect.
    fn answer_of(&self, is_due: impl Fn(u16, &Value) -> bool) -> anyhow::Result<(u16, Value)> {
        let path = self.session.core("configmaps");
        let mut last = (0, Value::Null);
        let mut number = 0;
        until("the webhook is in force", Duration::from_secs(30), || {
            number += 1;
            let object = asked(&format!("a{number}"));
            if let Ok(answer) = self.session.post(&path, &object) {
                last = (answer.code, answer.body);
            }
            is_due(last.0, &last.1)
        })?;
        Ok(last)
    }
}

impl Drop for Configuration<'_> {
    fn drop(&mut self) {
        let path = format!("{CONFIGURATIONS}/{}", self.session.namespace());
        // A configuration that stays is the cluster's to show.
        let _ = self.session.delete(&path);
    }
}

fn asked(name: &str) -> Value {
    let mut object = config_map(name, json!({}));
    object["metadata"]["labels"] = json!({ "app": "asked" });
    object
}

fn mutates() -> anyhow::Result<()> {
    let session = Session::open()?;
    let webhook = Webhook::start(|request| {
        let subject = format!(
            "{} {} {}",
            text(request, "/operation"),
            text(request, "/resource/resource"),
            text(request, "/kind/kind"),
        );
        patched(&json!([{ "op": "add", "path": "/data", "value": { "seen": subject } }]))
    })?;
    let configuration = Configuration::new(&session, &webhook.client_config(), "Fail")?;
    let is_changed = |code: u16, object: &Value| code == 201 && object["data"].is_object();
    let (_, object) = configuration.answer_of(is_changed)?;
    ensure!(
        object["data"]["seen"] == "CREATE configmaps ConfigMap",
        "{object}"
    );
    let path = session.core("configmaps");
    let other = session
        .post(&path, &config_map("other", json!({ "x": "1" })))?
        .created()?;
    ensure!(other["data"] == json!({ "x": "1" }), "{other}");
    let dry = session
        .post(&format!("{path}?dryRun=All"), &asked("dry"))?
        .created()?;
    ensure!(dry["data"]["seen"].is_string(), "{dry}");
    session
        .get(&format!("{path}/dry"))?
        .refused(404, "NotFound")?;
    Ok(())
}

fn refuses() -> anyhow::Result<()> {
    let session = Session::open()?;
    let webhook = Webhook::start(|_| denied("not on a Monday"))?;
    let configuration = Configuration::new(&session, &webhook.client_config(), "Fail")?;
    let (_, status) = configuration.answer_of(|code, _| code == 403)?;
    ensure!(
        status["message"]
            == "admission webhook \"suite.weft.test\" denied the request: not on a Monday",
        "{status}"
    );
    Ok(())
}

fn fails() -> anyhow::Result<()> {
    let session = Session::open()?;
    let webhook = Webhook::start(|_| denied("never asked"))?;
    let other = Webhook::start(|_| denied("never asked"))?;
    // What the server presents is not what the configuration trusts.
    let mut client = webhook.client_config();
    client["caBundle"] = other.client_config()["caBundle"].clone();
    let configuration = Configuration::new(&session, &client, "Fail")?;
    let (_, status) = configuration.answer_of(|code, _| code == 500)?;
    let message = text(&status, "/message");
    let expected = "Internal error occurred: failed calling webhook \"suite.weft.test\": failed to call webhook: Post ";
    ensure!(message.starts_with(expected), "{message}");
    drop(configuration);

    let configuration = Configuration::new(&session, &client, "Ignore")?;
    let (_, object) = configuration.answer_of(|code, _| code == 201)?;
    ensure!(object["kind"] == "ConfigMap", "{object}");
    Ok(())
}
