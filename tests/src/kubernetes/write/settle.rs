//! What a writer does not decide: identity, numbers, and the part of an object that another path is for.

use crate::kubernetes::{
    apply::{self, Lists, Managed, Manager},
    request::Call,
    resource::Resource,
    state,
    status::Status,
    store::Name,
};
use serde_json::{Value, json};

/// Keeps what the request may not write: of the metadata, and status or spec.
pub(super) fn settle(call: &Call, name: &Name, value: &mut Value, old: Option<&Value>) {
    value["apiVersion"] = json!(call.resource.api_version());
    value["kind"] = json!(call.resource.kind);
    if call.target.subresource == "status"
        && let Some(old) = old
    {
        let mut kept = old.clone();
        take(&mut kept, "status", value);
        kept["metadata"]["managedFields"] = value["metadata"]["managedFields"].clone();
        *value = kept;
    } else if call.resource.has_status {
        let from = old.cloned().unwrap_or_default();
        take(value, "status", &from);
    }
    let metadata = &mut value["metadata"];
    metadata["name"] = json!(name.1);
    if call.resource.is_namespaced {
        metadata["namespace"] = json!(name.0);
    }
    match old {
        Some(old) => {
            for field in ["uid", "creationTimestamp", "generation", "resourceVersion"] {
                take(metadata, field, &old["metadata"]);
            }
        }
        None => {
            if !metadata["uid"].is_string() {
                metadata["uid"] = json!(uid());
            }
            metadata["creationTimestamp"] = json!(state::now());
        }
    }
}

/// Sets a field as it is in another object, absent included.
fn take(object: &mut Value, field: &str, from: &Value) {
    match from.get(field) {
        Some(value) => object[field] = value.clone(),
        None => {
            if let Some(fields) = object.as_object_mut() {
                fields.remove(field);
            }
        }
    }
}

pub(super) fn errors(
    resource: &Resource,
    value: &Value,
    old: Option<&Value>,
) -> Option<Vec<String>> {
    let mut errors = Vec::new();
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if resource.group != "rbac.authorization.k8s.io" && !is_subdomain(name) {
        errors.push(format!(
            "metadata.name: Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character"
        ));
    }
    if let Some(schema) = &resource.schema {
        errors.extend(schema.errors(value, old));
    }
    (!errors.is_empty()).then_some(errors)
}

fn is_subdomain(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Notes who manages what.
pub(super) fn manage(call: &Call, value: &mut Value, old: Option<&Value>, is_applied: bool) {
    if is_applied {
        return;
    }
    // Emptying the list is how a writer has nobody manage anything.
    let is_reset = old.is_some() && value["metadata"]["managedFields"] == json!([]);
    if is_reset {
        Managed::default().write(value);
        return;
    }
    let manager = Manager {
        name: call.manager().to_owned(),
        operation: "Update",
        subresource: call.target.subresource.clone(),
    };
    let schema = call.resource.schema.as_ref().map(|schema| schema.root());
    let managed = apply::track(
        old,
        value,
        &manager,
        &json!(state::now()),
        Lists::root(schema),
    );
    managed.write(value);
}

/// Counts changes of all but metadata and status.
pub(super) fn number(resource: &Resource, value: &mut Value, old: Option<&Value>) {
    if !resource.has_generation {
        return;
    }
    let generation = match old {
        None => 1,
        Some(old) => {
            let before = old["metadata"]["generation"].as_u64().unwrap_or(0);
            let is_changed = essence(old) != essence(value);
            before + u64::from(is_changed)
        }
    };
    value["metadata"]["generation"] = json!(generation);
}

fn essence(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status" | "apiVersion"))
        .collect()
}

/// The body must be of the kind that the path is about.
pub(super) fn check_kind(call: &Call, value: &Value) -> Result<(), Status> {
    let version = call.resource.api_version();
    for (field, wanted) in [("kind", &call.resource.kind), ("apiVersion", &version)] {
        let found = &value[field];
        // A typed client may leave out what the path says.
        if !found.is_null() && found != wanted.as_str() {
            return Err(Status::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): {field} is {found}, not {wanted}",
                call.resource.kind
            )));
        }
    }
    Ok(())
}

pub(super) fn settle_name(call: &Call, value: &mut Value) -> Result<Name, Status> {
    let metadata = &mut value["metadata"];
    if metadata["name"].as_str().is_none_or(str::is_empty) {
        let Some(prefix) = metadata["generateName"]
            .as_str()
            .filter(|prefix| !prefix.is_empty())
        else {
            let error = "metadata.name: Required value: name or generateName is required";
            return Err(Status::invalid(
                &call.resource.qualified_kind(),
                "",
                vec![error.to_owned()],
            ));
        };
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let suffix =
            std::iter::repeat_with(|| char::from(LETTERS[fastrand::usize(..LETTERS.len())]));
        let name: String = prefix.chars().chain(suffix.take(5)).collect();
        metadata["name"] = json!(name);
    }
    let namespace = metadata["namespace"].as_str().unwrap_or_default();
    if !namespace.is_empty() && namespace != call.target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    let name = metadata["name"].as_str().unwrap_or_default().to_owned();
    Ok((call.target.namespace.clone(), name))
}

/// A random UUID.
pub(crate) fn uid() -> String {
    let bits = fastrand::u128(..);
    let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}
