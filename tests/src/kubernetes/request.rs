//! What a request asks for: the forms of paths and queries.

use super::{resource::Resource, status::Status, store::Table};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

/// A path below a group and version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// The API group; empty for the core.
    pub group: String,
    /// Its version.
    pub version: String,
    /// The resource.
    pub plural: String,
    /// The namespace; empty for none or all.
    pub namespace: String,
    /// The name; empty for all.
    pub name: String,
    /// `status` and the like; empty for the object itself.
    pub subresource: String,
}

impl Target {
    /// Reads a path such as `/apis/apps/v1/namespaces/a/deployments/b/status`, unless it is another's.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => "",
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let parts: Vec<&str> = parts.collect();
        let (namespace, rest) = match parts.as_slice() {
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => ("", parts.as_slice()),
            ["namespaces", namespace, rest @ ..] => (*namespace, rest),
            rest => ("", rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (plural, "", ""),
            [plural, name] => (plural, *name, ""),
            [plural, name, subresource] => (plural, *name, *subresource),
            _ => return None,
        };
        Some(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: (*plural).to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            subresource: subresource.to_owned(),
        })
    }

    /// Where its objects are kept.
    pub(super) fn table(&self) -> Table {
        (self.group.clone(), self.plural.clone())
    }

    /// The resource as rights name it: `pods/status`.
    pub(super) fn resource(&self) -> String {
        if self.subresource.is_empty() {
            self.plural.clone()
        } else {
            format!("{}/{}", self.plural, self.subresource)
        }
    }
}

/// The part of a URL behind its question mark.
#[derive(Debug, Clone, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a query.
    pub(super) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// A parameter, empty when it is absent.
    pub(super) fn get(&self, name: &str) -> &str {
        let mut pairs = self.0.iter();
        let pair = pairs.find(|(of, _)| of == name);
        pair.map_or("", |(_, value)| value.as_str())
    }

    /// Whether a parameter is set to true.
    pub(super) fn is(&self, name: &str) -> bool {
        matches!(self.get(name), "true" | "1")
    }

    /// A number, if the parameter is one.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).parse().ok()
    }
}

fn decode(text: &str) -> String {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || {
                    char::from(bytes.next().unwrap_or(b'0'))
                        .to_digit(16)
                        .unwrap_or(0)
                };
                let (high, low) = (digit(), digit());
                u8::try_from(high * 16 + low).unwrap_or(b'?')
            }
            other => other,
        });
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A request for objects whose caller is known and may do that.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Who calls.
    pub user: super::authentication::User,
    /// For what.
    pub target: Target,
    /// The resource of it.
    pub resource: Arc<Resource>,
    /// How.
    pub query: Query,
    /// What the body is.
    pub content_type: String,
    /// What form the answer is to have.
    pub accept: String,
    /// The program that calls, which is the manager of fields where none is named.
    pub user_agent: String,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, Status> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Status::bad_request(format!("couldn't decode the body: {error}")))
    }

    /// The body of a server-side apply: YAML, of which JSON is a part.
    pub(super) fn yaml(&self) -> Result<Value, Status> {
        if let Ok(value) = serde_json::from_slice(&self.body) {
            return Ok(value);
        }
        let text = String::from_utf8_lossy(&self.body);
        serde_saphyr::from_str(&text)
            .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))
    }

    /// Who manages the fields that this request writes.
    pub(super) fn manager(&self) -> &str {
        match self.query.get("fieldManager") {
            "" => self.user_agent.split('/').next().unwrap_or("unknown"),
            manager => manager,
        }
    }

    /// Whether nothing is to be kept.
    pub(super) fn is_dry(&self) -> bool {
        self.query.get("dryRun") == "All"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(path: &str) -> [String; 6] {
        let target = Target::parse(path).unwrap();
        [
            target.group,
            target.version,
            target.namespace,
            target.plural,
            target.name,
            target.subresource,
        ]
    }

    #[test]
    fn paths_name_objects_of_namespaces_and_of_the_cluster() {
        assert_eq!(parsed("/api/v1/nodes"), ["", "v1", "", "nodes", "", ""]);
        assert_eq!(
            parsed("/api/v1/namespaces/a"),
            ["", "v1", "", "namespaces", "a", ""]
        );
        assert_eq!(
            parsed("/api/v1/namespaces/a/status"),
            ["", "v1", "", "namespaces", "a", "status"]
        );
        assert_eq!(
            parsed("/api/v1/namespaces/a/pods"),
            ["", "v1", "a", "pods", "", ""]
        );
        assert_eq!(
            parsed("/apis/apps/v1/namespaces/a/deployments/b/status"),
            ["apps", "v1", "a", "deployments", "b", "status"]
        );
        assert_eq!(Target::parse("/version"), None);
        assert_eq!(Target::parse("/apis/apps/v1"), None);
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("watch=1&labelSelector=app%3Dweb%2Cx+in+(a)&limit=5");
        assert_eq!(query.get("labelSelector"), "app=web,x in (a)");
        assert!(query.is("watch"));
        assert_eq!(query.number("limit"), Some(5));
        assert_eq!(query.get("absent"), "");
    }
}
