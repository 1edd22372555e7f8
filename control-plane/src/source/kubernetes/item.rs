//! An object as the API tells it, less what nobody here reads.

use super::kind::Watched;
use crate::world::ObjectKey;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Map, Value};
use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

/// An object. Who wrote which of its fields is skipped while it is read: of many objects that is the larger half.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item(Map<String, Value>);

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    #[serde(default)]
    pub(super) metadata: PageMeta,
    /// Null where there are none.
    #[serde(default)]
    pub(super) items: Option<Vec<Item>>,
}

/// What a page says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMeta {
    pub(super) resource_version: Option<String>,
    /// Where the next page begins, if there is one.
    pub(super) r#continue: Option<String>,
}

impl Item {
    /// Its name, if it has one.
    pub(super) fn key(&self) -> Option<ObjectKey> {
        let namespace = self.metadata("namespace").unwrap_or_default();
        Some(ObjectKey::new(namespace, self.metadata("name")?))
    }

    /// The version of the kind as of this object.
    pub(super) fn version(&self) -> Option<&str> {
        self.metadata("resourceVersion")
    }

    /// Tells an object from one of the same name that was there before.
    pub(super) fn incarnation(&self) -> u64 {
        let uid = self.metadata("uid").unwrap_or_default();
        xxh3_64(uid.as_bytes())
    }

    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let metadata = self.0.get("metadata")?;
        metadata.get("labels")?.get(name)?.as_str()
    }

    /// The object, of a kind: those of a list do not say which.
    pub(super) fn into_value(mut self, watched: Watched) -> Value {
        let own = [
            ("apiVersion", watched.api_version()),
            ("kind", watched.name()),
        ];
        for (field, value) in own {
            self.0.insert(field.to_owned(), value.into());
        }
        Value::Object(self.0)
    }

    fn metadata(&self, field: &str) -> Option<&str> {
        let text = self.0.get("metadata")?.get(field)?.as_str()?;
        Some(text).filter(|text| !text.is_empty())
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Part::Object.deserialize(deserializer).map(Self)
    }
}

/// Which mapping of an object is read.
#[derive(Clone, Copy)]
enum Part {
    Object,
    Metadata,
}

impl<'de> DeserializeSeed<'de> for Part {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Part {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Object => "an object",
            Self::Metadata => "metadata",
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = match (self, name.as_str()) {
                (Self::Object, "metadata") => Value::Object(map.next_value_seed(Self::Metadata)?),
                (Self::Metadata, "managedFields") => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                _ => map.next_value()?,
            };
            fields.insert(name, value);
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::WatchEvent;
    use serde_json::json;

    #[test]
    fn an_object_is_read_without_who_wrote_its_fields_and_told_with_its_kind() {
        let page: Page = serde_json::from_value(json!({
            "metadata": {"resourceVersion": "7", "continue": "next"},
            "items": [{
                "metadata": {
                    "name": "a", "namespace": "demo", "uid": "1", "resourceVersion": "5",
                    "labels": {"zone": "east"},
                    "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
                },
                "spec": {"managedFields": 1},
            }],
        }))
        .unwrap();
        assert_eq!(page.metadata.r#continue.as_deref(), Some("next"));
        let [item] = page.items.unwrap().try_into().unwrap();
        assert_eq!(item.key(), Some(ObjectKey::new("demo", "a")));
        assert_eq!(
            (item.version(), item.label("zone")),
            (Some("5"), Some("east"))
        );
        assert_eq!(
            item.into_value(Watched::Pod),
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "a", "namespace": "demo", "uid": "1", "resourceVersion": "5", "labels": {"zone": "east"}},
                "spec": {"managedFields": 1},
            })
        );
    }

    #[test]
    fn a_list_of_nothing_may_say_null() {
        let page: Page = serde_json::from_str(r#"{"metadata":{},"items":null}"#).unwrap();
        assert!(page.items.is_none());
    }

    #[test]
    fn an_event_of_a_watch_holds_an_object() {
        let line = r#"{"type":"DELETED","object":{"kind":"Pod","metadata":{"name":"a"}}}"#;
        let Ok(WatchEvent::Deleted(item)) = serde_json::from_str::<WatchEvent<Item>>(line) else {
            panic!("it was not read");
        };
        assert_eq!(item.key(), Some(ObjectKey::of_cluster("a")));
    }
}
