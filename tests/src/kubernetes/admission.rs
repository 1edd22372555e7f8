//! Admission webhooks: which are concerned by a request, and what they make of its object.
//!
//! Called over HTTPS as Kubernetes calls them. Not evaluated: `matchConditions`, and `matchPolicy` (every kind has
//! one version here).

mod call;
mod matching;

use super::{request::Call, state::State, status::Status};
use base64::{Engine, engine::general_purpose::STANDARD};
use call::Webhook;
use serde_json::{Value, json};

/// What is done to the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is taken away.
    Delete,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
        }
    }
}

/// What a webhook is asked about.
struct Question<'a> {
    call: &'a Call,
    operation: Operation,
    old: Option<&'a Value>,
}

impl Question<'_> {
    fn review(&self, uid: &str, object: &Value) -> Value {
        let (resource, target) = (&self.call.resource, &self.call.target);
        let kind =
            json!({ "group": resource.group, "version": resource.version, "kind": resource.kind });
        let of = json!({ "group": resource.group, "version": resource.version, "resource": resource.plural });
        let name = object["metadata"]["name"].as_str().unwrap_or(&target.name);
        let mut request = json!({
            "uid": uid,
            "kind": kind,
            "resource": of,
            "requestKind": kind,
            "requestResource": of,
            "name": name,
            "operation": self.operation.name(),
            "userInfo": self.call.user.info(),
            "object": object,
            "oldObject": self.old,
            "dryRun": self.call.is_dry(),
            "options": null,
        });
        if !target.namespace.is_empty() {
            request["namespace"] = json!(target.namespace);
        }
        if !target.subresource.is_empty() {
            request["subResource"] = json!(target.subresource);
            request["requestSubResource"] = json!(target.subresource);
        }
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request })
    }
}

/// Lets mutating webhooks change an object; returns their warnings.
pub(super) async fn mutate(
    state: &State,
    call: &Call,
    operation: Operation,
    old: Option<&Value>,
    object: &mut Value,
) -> Result<Vec<String>, Status> {
    let webhooks = concerned(
        state,
        call,
        operation,
        old,
        object,
        "mutatingwebhookconfigurations",
    )?;
    let question = Question {
        call,
        operation,
        old,
    };
    let mut warnings = Vec::new();
    let mut last_change = None;
    for (index, webhook) in webhooks.iter().enumerate() {
        if ask(state, webhook, &question, object, &mut warnings).await? {
            last_change = Some(index);
        }
    }
    // Who saw the object before others changed it, and wants to know, is asked once more.
    for (index, webhook) in webhooks.iter().enumerate() {
        let is_outdated = last_change.is_some_and(|last| index < last);
        if is_outdated && webhook.wants_reinvocation() {
            ask(state, webhook, &question, object, &mut warnings).await?;
        }
    }
    Ok(warnings)
}

/// Asks validating webhooks; returns their warnings.
pub(super) async fn validate(
    state: &State,
    call: &Call,
    operation: Operation,
    old: Option<&Value>,
    object: &Value,
) -> Result<Vec<String>, Status> {
    let webhooks = concerned(
        state,
        call,
        operation,
        old,
        object,
        "validatingwebhookconfigurations",
    )?;
    let question = Question {
        call,
        operation,
        old,
    };
    let mut warnings = Vec::new();
    for webhook in &webhooks {
        ask(
            state,
            webhook,
            &question,
            &mut object.clone(),
            &mut warnings,
        )
        .await?;
    }
    Ok(warnings)
}

/// Asks one webhook; returns whether it changed the object.
async fn ask(
    state: &State,
    webhook: &Webhook,
    question: &Question<'_>,
    object: &mut Value,
    warnings: &mut Vec<String>,
) -> Result<bool, Status> {
    let uid = super::write::uid();
    let answer = webhook.call(state, question.review(&uid, object)).await;
    let answer = answer.and_then(|answer| checked(answer, &uid));
    let response = match answer {
        Ok(response) => response,
        Err(_) if webhook.may_fail() => return Ok(false),
        Err(error) => {
            return Err(Status::internal(format!(
                "failed calling webhook \"{}\": {error}",
                webhook.name()
            )));
        }
    };
    for warning in response["warnings"].as_array().into_iter().flatten() {
        warnings.push(warning.as_str().unwrap_or_default().to_owned());
    }
    if response["allowed"] != json!(true) {
        let status = &response["status"];
        let code = status["code"]
            .as_u64()
            .and_then(|code| u16::try_from(code).ok());
        let why = status["message"].as_str().unwrap_or_default();
        return Err(Status::denied(webhook.name(), code.unwrap_or(403), why));
    }
    patch(&response, object).map_err(|error| {
        Status::internal(format!("patch of webhook \"{}\": {error}", webhook.name()))
    })
}

/// The response within a review, when it is one and for this request.
fn checked(review: Value, uid: &str) -> Result<Value, String> {
    if review["kind"] != "AdmissionReview" || review["apiVersion"] != "admission.k8s.io/v1" {
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {}, Kind={}",
            review["apiVersion"], review["kind"]
        ));
    }
    let response = &review["response"];
    if response["uid"] != uid {
        return Err(format!(
            "expected response.uid=\"{uid}\", got {}",
            response["uid"]
        ));
    }
    Ok(response.clone())
}

fn patch(response: &Value, object: &mut Value) -> Result<bool, String> {
    let Some(encoded) = response["patch"].as_str() else {
        return Ok(false);
    };
    if response["patchType"] != "JSONPatch" {
        return Err(format!("unsupported patch type {}", response["patchType"]));
    }
    let bytes = STANDARD
        .decode(encoded)
        .map_err(|error| error.to_string())?;
    let patch: json_patch::Patch =
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let before = object.clone();
    json_patch::patch(object, &patch).map_err(|error| error.to_string())?;
    Ok(*object != before)
}

/// The webhooks that a request concerns, in the order of their configurations' names.
fn concerned(
    state: &State,
    call: &Call,
    operation: Operation,
    old: Option<&Value>,
    object: &Value,
    plural: &str,
) -> Result<Vec<Webhook>, Status> {
    const GROUP: &str = "admissionregistration.k8s.io";
    // Webhooks are not asked about webhooks.
    if call.target.group == GROUP {
        return Ok(Vec::new());
    }
    let data = state.data();
    let namespaces = (String::new(), "namespaces".to_owned());
    let namespace = (String::new(), call.target.namespace.clone());
    let namespace = data.store.get(&namespaces, &namespace);
    let subject = matching::Subject {
        group: &call.target.group,
        version: &call.target.version,
        resource: call.target.resource(),
        operation: operation.name(),
        is_namespaced: call.resource.is_namespaced,
        namespace: if call.resource.kind == "Namespace" {
            Some(object)
        } else {
            namespace.map(|object| &object.value)
        },
        object,
        old,
    };
    let mut webhooks = Vec::new();
    for configuration in data
        .store
        .list(&(GROUP.to_owned(), plural.to_owned()), "", None)
    {
        for webhook in configuration.value["webhooks"]
            .as_array()
            .into_iter()
            .flatten()
        {
            if matching::concerns(webhook, &subject)? {
                webhooks.push(Webhook::new(webhook.clone()));
            }
        }
    }
    Ok(webhooks)
}
