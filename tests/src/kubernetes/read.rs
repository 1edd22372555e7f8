//! Gets and lists.

use super::{
    request::{Call, Query},
    resource::Resource,
    selector::{Fields, Labels},
    state::State,
    status::Status,
    store::{Name, Object, Store},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use std::sync::Arc;

/// In what form objects go out.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// As they are, in a version.
    Whole(String),
    /// Their metadata alone.
    Metadata,
}

impl Form {
    /// What an `Accept` asks for.
    pub(super) fn of(call: &Call) -> Self {
        if call.accept.contains("as=PartialObjectMetadata") {
            Self::Metadata
        } else {
            Self::Whole(call.resource.api_version())
        }
    }

    /// An object on its own.
    pub(super) fn encode(&self, object: &Object) -> Bytes {
        match self {
            Self::Whole(version) if object.value["apiVersion"] == *version => {
                object.encoded().clone()
            }
            Self::Whole(version) => {
                let mut value = object.value.clone();
                value["apiVersion"] = json!(version);
                Bytes::from(value.to_string())
            }
            Self::Metadata => {
                let metadata = &object.value["metadata"];
                let partial = json!({ "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata });
                Bytes::from(partial.to_string())
            }
        }
    }

    /// An object within a list: those of Kubernetes' own kinds do not say there what they are.
    fn encode_item(&self, object: &Object, resource: &Resource) -> Bytes {
        match self {
            Self::Whole(_) if resource.schema.is_none() => object.encoded_item().clone(),
            form => form.encode(object),
        }
    }

    fn list_of(&self, resource: &Resource) -> (String, String) {
        match self {
            Self::Whole(version) => (version.clone(), resource.list_kind.clone()),
            Self::Metadata => (
                "meta.k8s.io/v1".to_owned(),
                "PartialObjectMetadataList".to_owned(),
            ),
        }
    }
}

/// What is selected of a resource.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    labels: Labels,
    fields: Fields,
}

impl Selection {
    /// Reads the selectors of a query.
    pub(super) fn of(query: &Query, resource: &Resource) -> Result<Self, Status> {
        Ok(Self {
            labels: Labels::parse(query.get("labelSelector"))?,
            fields: Fields::parse(query.get("fieldSelector"), &resource.kind)?,
        })
    }

    /// Whether an object is selected.
    pub(super) fn has(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }

    fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }
}

/// One object.
pub(super) fn get(state: &State, call: &Call) -> Result<Bytes, Status> {
    let data = state.data();
    let name = (call.target.namespace.clone(), call.target.name.clone());
    let object = data.store.get(&call.target.table(), &name);
    let object = object.ok_or_else(|| Status::not_found(&call.resource.qualified(), &name.1))?;
    Ok(Form::of(call).encode(object))
}

/// A page of objects.
pub(super) fn list(state: &State, call: &Call) -> Result<Bytes, Status> {
    let selection = Selection::of(&call.query, &call.resource)?;
    let (page, revision) = {
        let data = state.data();
        let start = Start::of(&data.store, call)?;
        (
            Page::of(&data.store, call, &start, &selection),
            start.revision,
        )
    };
    let form = Form::of(call);
    let (version, kind) = form.list_of(&call.resource);
    let mut metadata = json!({ "resourceVersion": revision.to_string() });
    if let Some(after) = page.after {
        metadata["continue"] = json!(continuation(revision, &after));
        if selection.is_everything() {
            metadata["remainingItemCount"] = json!(page.remaining);
        }
    }
    let mut body = BytesMut::new();
    let head = json!({ "apiVersion": version, "kind": kind, "metadata": metadata }).to_string();
    body.put_slice(head.strip_suffix('}').unwrap_or(&head).as_bytes());
    body.put_slice(b",\"items\":[");
    for (index, object) in page.objects.iter().enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put(form.encode_item(object, &call.resource));
    }
    body.put_slice(b"]}");
    Ok(body.freeze())
}

/// Where a list begins.
struct Start {
    revision: u64,
    after: Option<Name>,
}

impl Start {
    fn of(store: &Store, call: &Call) -> Result<Self, Status> {
        let current = store.revision();
        let token = call.query.get("continue");
        if !token.is_empty() {
            let (revision, after) = continued(token)?;
            if revision < store.floor() {
                return Err(Status::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results.",
                ));
            }
            return Ok(Self {
                revision,
                after: Some(after),
            });
        }
        let asked = match call.query.get("resourceVersion") {
            "" | "0" => {
                return Ok(Self {
                    revision: current,
                    after: None,
                });
            }
            asked => revision(asked)?,
        };
        if asked > current {
            return Err(too_large(asked, current));
        }
        if call.query.get("resourceVersionMatch") != "Exact" {
            return Ok(Self {
                revision: current,
                after: None,
            });
        }
        if asked < store.floor() {
            return Err(too_old(asked, store.floor()));
        }
        Ok(Self {
            revision: asked,
            after: None,
        })
    }
}

/// The objects of a page, and what comes behind it.
struct Page {
    objects: Vec<Arc<Object>>,
    after: Option<Name>,
    remaining: usize,
}

impl Page {
    fn of(store: &Store, call: &Call, start: &Start, selection: &Selection) -> Self {
        let (table, namespace) = (call.target.table(), &call.target.namespace);
        let limit = call.query.number("limit").filter(|limit| *limit > 0);
        let limit = limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let mut page = Self {
            objects: Vec::new(),
            after: None,
            remaining: 0,
        };
        let mut add = |object: &Arc<Object>| {
            if !selection.has(&object.value) {
                return;
            }
            if page.objects.len() < limit {
                page.objects.push(Arc::clone(object));
            } else {
                page.remaining += 1;
            }
        };
        if start.revision == store.revision() {
            store
                .list(&table, namespace, start.after.as_ref())
                .for_each(&mut add);
        } else {
            let past = store.list_at(&table, namespace, start.revision);
            let is_due = |name: &Name| start.after.as_ref().is_none_or(|after| name > after);
            past.iter()
                .filter(|(name, _)| is_due(name))
                .for_each(|(_, object)| add(object));
        }
        if page.remaining > 0 {
            page.after = page.objects.last().map(|object| name_of(&object.value));
        }
        page
    }
}

/// The namespace and the name of an object.
pub(super) fn name_of(object: &Value) -> Name {
    let text = |field: &str| {
        object["metadata"][field]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    (text("namespace"), text("name"))
}

/// Reads a `resourceVersion`.
pub(super) fn revision(text: &str) -> Result<u64, Status> {
    text.parse().map_err(|_| {
        Status::bad_request(format!("invalid resource version \"{text}\": not a number"))
    })
}

/// The revision is no longer known.
pub(super) fn too_old(asked: u64, floor: u64) -> Status {
    Status::expired(format!("too old resource version: {asked} ({floor})"))
}

/// The revision is yet to come.
pub(super) fn too_large(asked: u64, current: u64) -> Status {
    Status {
        code: 504,
        reason: "Timeout",
        message: format!("Too large resource version: {asked}, current: {current}"),
        details: json!({ "causes": [{ "reason": "ResourceVersionTooLarge", "message": "Too large resource version" }], "retryAfterSeconds": 1 }),
    }
}

fn continuation(revision: u64, (namespace, name): &Name) -> String {
    URL_SAFE_NO_PAD.encode(json!({ "rv": revision, "start": [namespace, name] }).to_string())
}

fn continued(token: &str) -> Result<(u64, Name), Status> {
    let decoded = URL_SAFE_NO_PAD.decode(token).ok();
    let value: Option<Value> = decoded.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let value = value.unwrap_or_default();
    let text = |index: usize| value["start"][index].as_str().map(str::to_owned);
    match (value["rv"].as_u64(), text(0), text(1)) {
        (Some(revision), Some(namespace), Some(name)) => Ok((revision, (namespace, name))),
        _ => Err(Status::bad_request("continue key is not valid")),
    }
}
