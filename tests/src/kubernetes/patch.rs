//! Patches that are no server-side apply: JSON patch, merge patch, and strategic merge for built-in kinds.

use super::{apply::Lists, resource::Resource, status::Status};
use serde_json::Value;

/// The media types of patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Merge patch, with lists merged by the keys of their items.
    Strategic,
    /// Server-side apply.
    Apply,
}

impl Kind {
    /// Reads a `Content-Type`.
    pub(super) fn of(content_type: &str) -> Result<Self, Status> {
        match content_type.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic),
            "application/apply-patch+yaml" => Ok(Self::Apply),
            other => Err(Status::unsupported_media_type(format!(
                "the body of the request was in an unknown format - {other:?} is no accepted media type of a patch"
            ))),
        }
    }
}

/// What a patch makes of an object. Applies are not made here.
pub(super) fn patched(
    kind: Kind,
    resource: &Resource,
    live: &Value,
    patch: &Value,
) -> Result<Value, Status> {
    let mut object = live.clone();
    match kind {
        Kind::Json => {
            let patch: json_patch::Patch = serde_json::from_value(patch.clone())
                .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
            json_patch::patch(&mut object, &patch).map_err(|error| {
                Status::invalid(
                    &resource.qualified_kind(),
                    live["metadata"]["name"].as_str().unwrap_or_default(),
                    vec![format!(
                        "the server rejected our request due to an error in our request: {error}"
                    )],
                )
            })?;
        }
        Kind::Merge => json_patch::merge(&mut object, patch),
        Kind::Strategic if resource.schema.is_some() => {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        Kind::Strategic => merge(&mut object, patch, Lists::root(None)),
        Kind::Apply => unreachable!("an apply needs the managers of fields"),
    }
    Ok(object)
}

fn merge(object: &mut Value, patch: &Value, lists: Lists<'_>) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            if patch.get("$patch").is_some_and(|how| how == "replace") {
                object.clear();
            }
            for (name, value) in patch.iter().filter(|(name, _)| !name.starts_with('$')) {
                if value.is_null() {
                    object.remove(name);
                } else {
                    let present = object.entry(name).or_insert_with(|| like(value));
                    merge(present, value, lists.field(name));
                }
            }
        }
        (Value::Array(items), Value::Array(patch)) if !lists.is_atomic_list(patch) => {
            for change in patch {
                let key = lists.key(change, 0);
                let at = items.iter().position(|item| lists.key(item, 0) == key);
                match at {
                    Some(at) if change["$patch"] == "delete" => {
                        items.remove(at);
                    }
                    Some(at) => merge(&mut items[at], change, lists.items()),
                    None => items.push(change.clone()),
                }
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}

/// An empty value of the same kind, to be merged into.
fn like(value: &Value) -> Value {
    match value {
        Value::Object(_) => Value::Object(serde_json::Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::resource::Registry;
    use serde_json::json;

    fn patched_pod(kind: Kind, patch: Value) -> Value {
        let registry = Registry::default();
        let live = json!({ "spec": { "nodeName": "n", "containers": [{ "name": "a", "image": "1" }, { "name": "b" }] } });
        let pods = registry.find("", "v1", "pods").unwrap();
        patched(kind, pods, &live, &patch).unwrap()
    }

    #[test]
    fn a_json_patch_goes_by_place() {
        let patch = json!([{ "op": "replace", "path": "/spec/containers/0/image", "value": "2" }]);
        assert_eq!(
            patched_pod(Kind::Json, patch)["spec"]["containers"][0]["image"],
            "2"
        );
    }

    #[test]
    fn a_merge_patch_replaces_lists() {
        let patch = json!({ "spec": { "nodeName": null, "containers": [{ "name": "b" }] } });
        let expected = json!({ "spec": { "containers": [{ "name": "b" }] } });
        assert_eq!(patched_pod(Kind::Merge, patch), expected);
    }

    #[test]
    fn a_strategic_patch_merges_lists_by_their_keys() {
        let patch = json!({ "spec": { "containers": [{ "name": "a", "image": "2" }, { "name": "b", "$patch": "delete" }, { "name": "c" }] } });
        let expected = json!([{ "name": "a", "image": "2" }, { "name": "c" }]);
        assert_eq!(
            patched_pod(Kind::Strategic, patch)["spec"]["containers"],
            expected
        );
    }
}
