//! What a list is to its managers: one value, a set, or a map by some keys of its items.

use serde_json::{Map, Value};

/// The place of a value within an object, as far as lists and maps there are concerned.
///
/// Of custom resources the schema tells; of built-in kinds a table of field names, as far as they are used.
#[derive(Debug, Clone, Copy)]
pub struct Lists<'a> {
    schema: Option<&'a Value>,
    field: &'a str,
    parent: &'a str,
}

/// The kinds of lists.
enum Kind<'a> {
    Atomic,
    Set,
    Map(Vec<&'a str>),
}

impl<'a> Lists<'a> {
    /// The place of a whole object.
    pub fn root(schema: Option<&'a Value>) -> Self {
        Self {
            schema,
            field: "",
            parent: "",
        }
    }

    /// The place of a field.
    pub fn field(self, name: &'a str) -> Self {
        let schema = self.schema.and_then(|schema| {
            let property = &schema["properties"][name];
            if !property.is_null() {
                return Some(property);
            }
            let additional = &schema["additionalProperties"];
            // Metadata is the same for every kind, whatever schema there is.
            (!(self.field.is_empty() && name == "metadata")).then_some(additional)
        });
        Self {
            schema: schema.filter(|_| !(self.field.is_empty() && name == "metadata")),
            field: name,
            parent: self.field,
        }
    }

    /// The place of the items of a list.
    pub fn items(self) -> Self {
        Self {
            schema: self.schema.map(|schema| &schema["items"]),
            ..self
        }
    }

    /// Whether a map is one value.
    pub fn is_atomic_map(self) -> bool {
        match self.schema {
            Some(schema) => {
                let has_fields = schema["properties"].is_object()
                    || schema["additionalProperties"].is_object()
                    || schema["x-kubernetes-preserve-unknown-fields"] == Value::Bool(true)
                    || self.field.is_empty();
                schema["x-kubernetes-map-type"] == "atomic" || !has_fields
            }
            None => matches!(
                self.field,
                "selector"
                    | "namespaceSelector"
                    | "objectSelector"
                    | "labelSelector"
                    | "nodeSelector"
            ),
        }
    }

    /// Whether a list is one value.
    pub fn is_atomic_list(self, items: &[Value]) -> bool {
        matches!(self.kind(items.first()), Kind::Atomic)
    }

    /// How managers name an item: `k:{"name":"a"}`, `v:"a"`, or `i:0` where keys are missing.
    pub fn key(self, item: &Value, index: usize) -> String {
        match self.kind(Some(item)) {
            Kind::Atomic => format!("i:{index}"),
            Kind::Set => format!("v:{item}"),
            Kind::Map(keys) => {
                let keys = keys.into_iter().filter_map(|key| {
                    let absent = (key == "protocol").then(|| Value::from("TCP"));
                    let value = item.get(key).cloned().or(absent)?;
                    Some((key.to_owned(), value))
                });
                format!("k:{}", Value::Object(keys.collect::<Map<_, _>>()))
            }
        }
    }

    fn kind(self, item: Option<&Value>) -> Kind<'a> {
        let Some(schema) = self.schema else {
            return self.built_in(item);
        };
        match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Kind::Set,
            Some("map") => {
                let keys = schema["x-kubernetes-list-map-keys"].as_array();
                let keys = keys.into_iter().flatten().filter_map(Value::as_str);
                Kind::Map(keys.collect())
            }
            _ => Kind::Atomic,
        }
    }

    fn built_in(self, item: Option<&Value>) -> Kind<'a> {
        let has = |key: &str| item.is_some_and(|item| item.get(key).is_some());
        match self.field {
            "finalizers" => Kind::Set,
            "ownerReferences" => Kind::Map(vec!["uid"]),
            "conditions" if !has("ready") => Kind::Map(vec!["type"]),
            "addresses" if self.parent == "status" => Kind::Map(vec!["type"]),
            "volumeMounts" => Kind::Map(vec!["mountPath"]),
            "hostAliases" | "podIPs" | "hostIPs" => Kind::Map(vec!["ip"]),
            "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets"
            | "webhooks" | "secrets" => Kind::Map(vec!["name"]),
            "ports" if has("containerPort") => Kind::Map(vec!["containerPort", "protocol"]),
            // The ports of an EndpointSlice are one value, and lie at its root.
            "ports" if self.parent == "spec" && has("port") => Kind::Map(vec!["port", "protocol"]),
            _ => Kind::Atomic,
        }
    }
}
