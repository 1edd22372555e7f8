//! Creates, updates, patches and deletions: what a request makes of an object, up to its place in the store.

mod remove;
mod settle;

pub(super) use remove::remove;
pub(super) use settle::uid;

use super::{
    admission::{self, Operation},
    apply::{self, Lists, Manager},
    defaults,
    patch::{self, Kind},
    read::{self, Form, name_of},
    request::Call,
    state::{self, State},
    status::Status,
    store::{Name, Object},
};
use bytes::Bytes;
use serde_json::{Value, json};
use settle::{check_kind, errors, manage, number, settle, settle_name};
use std::sync::Arc;

/// How often a patch is tried against an object that others change meanwhile, as in Kubernetes.
const TRIES: usize = 5;

/// What a write answers.
#[derive(Debug)]
pub(super) struct Written {
    /// The status of the response.
    pub code: u16,
    /// The body.
    pub body: Bytes,
    /// What the writer should hear of.
    pub warnings: Vec<String>,
}

/// An object that is about to be written.
struct Draft {
    value: Value,
    live: Option<Arc<Object>>,
    /// Whether managers of fields are already settled, as an apply does.
    is_applied: bool,
}

/// A write that found the object changed.
enum Outcome {
    Written(Written),
    Overtaken,
}

/// Creates the object of the body.
pub(super) async fn create(state: &State, call: &Call) -> Result<Written, Status> {
    let mut value = call.json()?;
    check_kind(call, &value)?;
    let name = settle_name(call, &mut value)?;
    let resource = call.resource.qualified();
    {
        let data = state.data();
        let namespace = &call.target.namespace;
        let namespaces = (String::new(), "namespaces".to_owned());
        let is_there = data
            .store
            .get(&namespaces, &(String::new(), namespace.clone()))
            .is_some();
        if !namespace.is_empty() && !is_there {
            return Err(Status::not_found("namespaces", namespace));
        }
        if data.store.get(&call.target.table(), &name).is_some() {
            return Err(Status::already_exists(&resource, &name.1));
        }
    }
    if value["metadata"]["resourceVersion"]
        .as_str()
        .is_some_and(|version| !version.is_empty())
    {
        return Err(Status::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let draft = Draft {
        value,
        live: None,
        is_applied: false,
    };
    match submit(state, call, &name, draft).await? {
        Outcome::Written(written) => Ok(written),
        Outcome::Overtaken => Err(Status::already_exists(&resource, &name.1)),
    }
}

/// Replaces an object, or its status, by the body.
pub(super) async fn update(state: &State, call: &Call) -> Result<Written, Status> {
    let value = call.json()?;
    check_kind(call, &value)?;
    let name = name_of_call(call);
    let live = live(state, call).ok_or_else(|| missing(call))?;
    let qualified = call.resource.qualified();
    if value["metadata"]["name"] != name.1.as_str() {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            value["metadata"]["name"].as_str().unwrap_or_default(),
            name.1
        )));
    }
    match value["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default()
    {
        "" if call.resource.schema.is_some() => {
            let error =
                "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
            return Err(Status::invalid(
                &call.resource.qualified_kind(),
                &name.1,
                vec![error.to_owned()],
            ));
        }
        "" => {}
        version if live.value["metadata"]["resourceVersion"] == version => {}
        _ => return Err(Status::changed_meanwhile(&qualified, &name.1)),
    }
    let uid = value["metadata"]["uid"].as_str().unwrap_or_default();
    if !uid.is_empty() && live.value["metadata"]["uid"] != uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            live.value["metadata"]["uid"].as_str().unwrap_or_default()
        );
        return Err(Status::precondition(&qualified, &name.1, &why));
    }
    let draft = Draft {
        value,
        live: Some(live),
        is_applied: false,
    };
    match submit(state, call, &name, draft).await? {
        Outcome::Written(written) => Ok(written),
        Outcome::Overtaken => Err(Status::changed_meanwhile(&qualified, &name.1)),
    }
}

/// Changes an object, or its status, as the body says; an apply may create it.
pub(super) async fn patch(state: &State, call: &Call) -> Result<Written, Status> {
    let kind = Kind::of(&call.content_type)?;
    let name = name_of_call(call);
    for _ in 0..TRIES {
        let draft = match kind {
            Kind::Apply => applied(state, call)?,
            kind => {
                let live = live(state, call).ok_or_else(|| missing(call))?;
                let value = patch::patched(kind, &call.resource, &live.value, &call.json()?)?;
                if value["metadata"]["resourceVersion"] != live.value["metadata"]["resourceVersion"]
                {
                    return Err(Status::changed_meanwhile(
                        &call.resource.qualified(),
                        &name.1,
                    ));
                }
                Draft {
                    value,
                    live: Some(live),
                    is_applied: false,
                }
            }
        };
        if let Outcome::Written(written) = submit(state, call, &name, draft).await? {
            return Ok(written);
        }
    }
    Err(Status::changed_meanwhile(
        &call.resource.qualified(),
        &name.1,
    ))
}

/// Whether a server-side apply would create its object, which takes a right of its own.
pub(super) fn creates(state: &State, call: &Call) -> bool {
    Kind::of(&call.content_type).is_ok_and(|kind| kind == Kind::Apply)
        && live(state, call).is_none()
}

/// Deletes an object, and what goes with it.
pub(super) async fn delete(state: &State, call: &Call) -> Result<Bytes, Status> {
    let name = name_of_call(call);
    let live = live(state, call).ok_or_else(|| missing(call))?;
    let options: Value = serde_json::from_slice(&call.body).unwrap_or_default();
    for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = options["preconditions"][field].as_str();
        let found = live.value["metadata"][field].as_str().unwrap_or_default();
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}"
            );
            return Err(Status::precondition(
                &call.resource.qualified(),
                &name.1,
                &why,
            ));
        }
    }
    let mut nothing = Value::Null;
    admission::mutate(
        state,
        call,
        Operation::Delete,
        Some(&live.value),
        &mut nothing,
    )
    .await?;
    admission::validate(state, call, Operation::Delete, Some(&live.value), &nothing).await?;
    if !call.is_dry() {
        remove(state, &call.resource, &name);
    }
    let answer = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": name.1,
            "group": call.resource.group,
            "kind": call.resource.plural,
            "uid": live.value["metadata"]["uid"],
        },
    });
    Ok(Bytes::from(answer.to_string()))
}

/// Deletes every selected object.
pub(super) fn delete_all(state: &State, call: &Call) -> Result<Bytes, Status> {
    let listed = read::list(state, call)?;
    let selection = read::Selection::of(&call.query, &call.resource)?;
    let names: Vec<Name> = {
        let (data, table) = (state.data(), call.target.table());
        let objects = data.store.list(&table, &call.target.namespace, None);
        let selected = objects.filter(|object| selection.has(&object.value));
        selected.map(|object| name_of(&object.value)).collect()
    };
    for name in names {
        remove(state, &call.resource, &name);
    }
    Ok(listed)
}

/// What a server-side apply makes of its object.
fn applied(state: &State, call: &Call) -> Result<Draft, Status> {
    let mut config = call.yaml()?;
    let name = name_of_call(call);
    check_kind(call, &config)?;
    if call.query.get("fieldManager").is_empty() {
        let error = "fieldManager: Required value: is required for apply patch";
        return Err(Status::invalid(
            "PatchOptions.meta.k8s.io",
            "",
            vec![error.to_owned()],
        ));
    }
    if config["metadata"]["managedFields"]
        .as_array()
        .is_some_and(|fields| !fields.is_empty())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let live = live(state, call);
    let is_status = !call.target.subresource.is_empty();
    if live.is_none() && is_status {
        return Err(missing(call));
    }
    let version = config["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let current = live
        .as_ref()
        .map(|live| &live.value["metadata"]["resourceVersion"]);
    if !version.is_empty() && current.is_none_or(|current| current != version) {
        return Err(Status::changed_meanwhile(
            &call.resource.qualified(),
            &name.1,
        ));
    }
    config["metadata"]["name"] = json!(name.1);
    if call.resource.is_namespaced {
        config["metadata"]["namespace"] = json!(name.0);
    }
    if is_status {
        let metadata = &config["metadata"];
        config = json!({
            "apiVersion": config["apiVersion"],
            "kind": config["kind"],
            "metadata": { "name": metadata["name"], "namespace": metadata["namespace"] },
            "status": config["status"],
        });
    } else if call.resource.has_status
        && let Some(fields) = config.as_object_mut()
    {
        fields.remove("status");
    }
    let manager = Manager {
        name: call.manager().to_owned(),
        operation: "Apply",
        subresource: call.target.subresource.clone(),
    };
    let schema = call.resource.schema.as_ref().map(|schema| schema.root());
    let value = apply::apply(
        live.as_ref().map(|live| &live.value),
        &config,
        &manager,
        call.query.is("force"),
        &json!(state::now()),
        Lists::root(schema),
    );
    let value = value.map_err(|conflicts| Status::owned_by_others(&conflicts))?;
    Ok(Draft {
        value,
        live,
        is_applied: true,
    })
}

/// Brings a draft through defaults, admission and validation into the store.
async fn submit(state: &State, call: &Call, name: &Name, draft: Draft) -> Result<Outcome, Status> {
    let Draft {
        mut value,
        live,
        is_applied,
    } = draft;
    let resource = &call.resource;
    let old = live.as_ref().map(|live| &live.value);
    let mut warnings = tidy(call, &mut value)?;
    settle(call, name, &mut value, old);
    if old.is_none() || call.target.subresource.is_empty() {
        defaults::fill(resource, &mut value, old, &mut state.data().addresses);
    }
    let operation = if old.is_some() {
        Operation::Update
    } else {
        Operation::Create
    };
    warnings.extend(admission::mutate(state, call, operation, old, &mut value).await?);
    tidy(call, &mut value)?;
    settle(call, name, &mut value, old);
    if let Some(errors) = errors(resource, &value, old) {
        return Err(Status::invalid(&resource.qualified_kind(), &name.1, errors));
    }
    warnings.extend(admission::validate(state, call, operation, old, &value).await?);
    manage(call, &mut value, old, is_applied);
    if old.is_none()
        && let Some(status) = defaults::first_status(resource, &value)
    {
        value["status"] = status;
    }
    number(resource, &mut value, old);

    let code = if old.is_some() { 200 } else { 201 };
    let form = Form::of(call);
    let unchanged = live.as_ref().filter(|live| live.value == value);
    if let Some(live) = unchanged {
        return Ok(Outcome::Written(Written {
            code,
            body: form.encode(live),
            warnings,
        }));
    }
    if call.is_dry() {
        return Ok(Outcome::Written(Written {
            code,
            body: Bytes::from(value.to_string()),
            warnings,
        }));
    }
    let mut data = state.data();
    let table = call.target.table();
    let current = data.store.get(&table, name).map(|object| object.revision);
    if current != live.as_ref().map(|live| live.revision) {
        return Ok(Outcome::Overtaken);
    }
    if resource.kind == "CustomResourceDefinition" {
        data.registry.define(&value)?;
    }
    let object = data.store.put(&table, name.clone(), value);
    Ok(Outcome::Written(Written {
        code,
        body: form.encode(&object),
        warnings,
    }))
}

/// Removes unknown fields of custom resources, or refuses them, as the writer wants; fills in their defaults.
fn tidy(call: &Call, value: &mut Value) -> Result<Vec<String>, Status> {
    let Some(schema) = &call.resource.schema else {
        return Ok(Vec::new());
    };
    let unknown = schema.prune(value);
    schema.default(value);
    let unknown = unknown
        .iter()
        .map(|field| format!("unknown field \"{field}\""));
    let unknown: Vec<String> = unknown.collect();
    match call.query.get("fieldValidation") {
        "Strict" if !unknown.is_empty() => Err(Status::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: {}",
            call.resource.kind,
            call.resource.version,
            call.resource.kind,
            unknown.join(", ")
        ))),
        "Ignore" => Ok(Vec::new()),
        _ => Ok(unknown),
    }
}

fn live(state: &State, call: &Call) -> Option<Arc<Object>> {
    let data = state.data();
    let object = data.store.get(&call.target.table(), &name_of_call(call));
    object.cloned()
}

fn name_of_call(call: &Call) -> Name {
    (call.target.namespace.clone(), call.target.name.clone())
}

fn missing(call: &Call) -> Status {
    Status::not_found(&call.resource.qualified(), &call.target.name)
}
