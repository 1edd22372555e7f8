//! Whole manifests: every pod and every template of one gets its sidecar, the rest stays as it is.

use serde_json::Value;
use std::{fmt, path::Path};

use super::{Invalid, Left, Outcome, Place, Settings, inject};
use crate::source::files;

/// What became of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// The manifest with sidecars. A document without one reads as it was written.
    pub text: String,
    /// What became of every object that has pods, in their order.
    pub objects: Vec<Object>,
}

/// What became of one object that has pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// `Deployment demo/user`.
    pub name: String,
    /// Why it was left alone. `None` for one that has a sidecar now.
    pub left: Option<Left>,
}

/// Why a manifest cannot get its sidecars. None of it is of use then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// A document is no YAML.
    #[error("document {number}: {reason}")]
    Unreadable {
        /// Its number, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// An object has something that keeps the proxy from working.
    #[error("document {number}, {object}: {invalid}")]
    Invalid {
        /// The number of its document, from 1.
        number: usize,
        /// `Deployment demo/user`.
        object: String,
        /// What.
        invalid: Invalid,
    },
    /// The result cannot be written.
    #[error("document {number}: the result cannot be written as YAML: {reason}")]
    Unwritable {
        /// Its number, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
}

/// The namespace of an object that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// Whether a cluster of that version, major and minor, has native sidecars. Kubernetes 1.29 does unless told
/// otherwise; a node that does not takes the sidecar for an init container, and waits for its end for ever.
pub fn has_native_sidecars(version: (u32, u32)) -> bool {
    version >= (1, 29)
}

/// Gives the pods of a manifest their sidecars: YAML of any number of documents, or JSON. `native_sidecars`
/// says whether the cluster that it is for has them.
pub fn inject_all(
    manifest: &str,
    native_sidecars: bool,
    settings: &Settings,
) -> Result<Injected, ManifestError> {
    let mut texts = Vec::new();
    let mut objects = Vec::new();
    for document in files::documents(Path::new("manifest.yaml"), manifest) {
        let number = document.number;
        let mut value = document
            .read()
            .map_err(|reason| ManifestError::Unreadable { number, reason })?;
        let seen = objects.len();
        let mut step = Step {
            native_sidecars,
            settings,
            objects: &mut objects,
        };
        step.take(&mut value)
            .map_err(|(object, invalid)| ManifestError::Invalid {
                number,
                object,
                invalid,
            })?;
        let changed = objects[seen..].iter().any(|object| object.left.is_none());
        texts.push(if changed {
            let written = serde_saphyr::to_string(&value);
            written.map_err(|error| ManifestError::Unwritable {
                number,
                reason: error.to_string(),
            })?
        } else {
            document.text().trim_matches('\n').to_owned() + "\n"
        });
    }
    Ok(Injected {
        text: texts.join("---\n"),
        objects,
    })
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            None => write!(f, "{}: injected", self.name),
            Some(left) => write!(f, "{}: left alone: {left}", self.name),
        }
    }
}

/// The walk through one document.
struct Step<'a> {
    native_sidecars: bool,
    settings: &'a Settings,
    objects: &'a mut Vec<Object>,
}

impl Step<'_> {
    fn take(&mut self, object: &mut Value) -> Result<(), (String, Invalid)> {
        let kind = text(object, "/kind").to_owned();
        if kind == "List" || kind.ends_with("List") {
            let items = object.get_mut("items").and_then(Value::as_array_mut);
            return items.into_iter().flatten().try_for_each(|o| self.take(o));
        }
        let api_version = text(object, "/apiVersion");
        let Some(path) = template_of(api_version, &kind) else {
            return Ok(());
        };
        let name = text(object, "/metadata/name").to_owned();
        let namespace = match text(object, "/metadata/namespace") {
            "" => DEFAULT_NAMESPACE.to_owned(),
            namespace => namespace.to_owned(),
        };
        let display = format!("{kind} {namespace}/{name}");
        let place = Place {
            namespace: &namespace,
            workload: (!path.is_empty() && !name.is_empty()).then_some(&*name),
            native_sidecars: self.native_sidecars,
        };
        let Some(pod) = object.pointer_mut(path) else {
            let field = path.trim_start_matches('/').replace('/', ".");
            let missing = Invalid::new(field, "is missing; it is the template of the pods");
            return Err((display, missing));
        };
        let left = match inject(pod, &place, self.settings) {
            Ok(Outcome::Patched(patched)) => {
                *pod = patched;
                None
            }
            Ok(Outcome::Left(left)) => Some(left),
            Err(invalid) => return Err((display, within(path, invalid))),
        };
        self.objects.push(Object {
            name: display,
            left,
        });
        Ok(())
    }
}

/// Where an object has the template of its pods, as a JSON pointer.
fn template_of(api_version: &str, kind: &str) -> Option<&'static str> {
    match (api_version, kind) {
        ("v1", "Pod") => Some(""),
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch/v1", "Job")
        | ("v1", "ReplicationController") => Some("/spec/template"),
        ("batch/v1", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// The field as seen from the whole object.
fn within(path: &str, invalid: Invalid) -> Invalid {
    let path = path.trim_start_matches('/').replace('/', ".");
    match path.as_str() {
        "" => invalid,
        path => Invalid::new(format!("{path}.{}", invalid.field), invalid.reason),
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    let value = object.pointer(pointer).and_then(Value::as_str);
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn injected(manifest: &str) -> Injected {
        inject_all(manifest, true, &Settings::default()).unwrap()
    }

    fn refused(manifest: &str) -> String {
        let error = inject_all(manifest, true, &Settings::default()).unwrap_err();
        error.to_string()
    }

    fn has_sidecar(text: &str) -> bool {
        text.contains("name: weft-proxy")
    }

    #[test]
    fn every_kind_with_pods_gets_sidecars() {
        let spec = "spec: {containers: [{name: app}]}";
        for (head, object) in [
            ("apiVersion: v1\nkind: Pod", spec.to_owned()),
            (
                "apiVersion: apps/v1\nkind: Deployment",
                format!("spec: {{template: {{{spec}}}}}"),
            ),
            (
                "apiVersion: apps/v1\nkind: StatefulSet",
                format!("spec: {{template: {{{spec}}}}}"),
            ),
            (
                "apiVersion: apps/v1\nkind: DaemonSet",
                format!("spec: {{template: {{{spec}}}}}"),
            ),
            (
                "apiVersion: apps/v1\nkind: ReplicaSet",
                format!("spec: {{template: {{{spec}}}}}"),
            ),
            (
                "apiVersion: batch/v1\nkind: Job",
                format!("spec: {{template: {{{spec}}}}}"),
            ),
            (
                "apiVersion: batch/v1\nkind: CronJob",
                format!("spec: {{jobTemplate: {{spec: {{template: {{{spec}}}}}}}}}"),
            ),
        ] {
            let manifest = format!("{head}\nmetadata: {{name: user, namespace: demo}}\n{object}\n");
            let done = injected(&manifest);
            assert!(has_sidecar(&done.text), "{}", done.text);
            let of_workload = done.text.contains("name: WEFT_WORKLOAD\n");
            assert_eq!(of_workload, !head.ends_with("Pod"), "{}", done.text);
            let again = injected(&done.text);
            assert_eq!(again.text, done.text);
            assert_eq!(again.objects[0].left, Some(Left::Injected));
        }
    }

    #[test]
    fn what_has_no_pods_reads_as_it_was_written() {
        let manifest =
            "# A service.\napiVersion: v1\nkind: Service\nspec: {ports: [ {port: 80} ]}\n";
        let done = injected(manifest);
        assert_eq!(done.text, manifest);
        assert_eq!(done.objects, []);
    }

    #[test]
    fn documents_and_lists_are_walked_through() {
        let done = injected(
            "kind: ConfigMap\n---\napiVersion: v1\nkind: List\nitems:\n\
             - {kind: Service, apiVersion: v1}\n\
             - {kind: Pod, apiVersion: v1, metadata: {name: a}, spec: {containers: [{name: app}]}}\n\
             - {kind: Pod, apiVersion: v1, metadata: {name: b}, spec: {hostNetwork: true, containers: [{name: app}]}}\n",
        );
        let told: Vec<_> = done.objects.iter().map(Object::to_string).collect();
        assert_eq!(told[0], "Pod default/a: injected");
        assert!(
            told[1].starts_with("Pod default/b: left alone: hostNetwork"),
            "{told:?}"
        );
        assert!(
            done.text.starts_with("kind: ConfigMap\n---\n"),
            "{}",
            done.text
        );
        assert_eq!(done.text.matches("name: weft-proxy").count(), 1);
    }

    #[test]
    fn texts_that_look_like_something_else_survive() {
        let done = injected(
            "{apiVersion: v1, kind: Pod, metadata: {annotations: {a: 'true', b: '1', c: \"x\\n y\\n\", d: ''}}, \
             spec: {containers: [{name: app, args: ['~', 'null', '- x', '#', '1e3', ' x']}]}}",
        );
        let pod: Value = serde_saphyr::from_str(&done.text).unwrap();
        assert_eq!(
            pod.pointer("/metadata/annotations/c"),
            Some(&"x\n y\n".into())
        );
        assert_eq!(
            pod.pointer("/spec/containers/0/args"),
            Some(&serde_json::json!(["~", "null", "- x", "#", "1e3", " x"]))
        );
    }

    #[test]
    fn a_mistake_names_document_object_and_field() {
        let pod = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: user}, spec: {template: \
                   {spec: {containers: [{name: app, ports: [{containerPort: 15001}]}]}}}}";
        let message = refused(&format!("kind: Service\n---\n{pod}\n"));
        assert!(
            message.starts_with(
                "document 2, Deployment default/user: \
                 spec.template.spec.containers[0].ports[0].containerPort: 15001"
            ),
            "{message}"
        );
        assert!(refused("a: [").starts_with("document 1: "));
        let message = refused("{apiVersion: batch/v1, kind: Job, metadata: {name: x}}");
        assert!(
            message.contains("Job default/x: spec.template: is missing"),
            "{message}"
        );
    }
}
