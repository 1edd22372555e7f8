//! What a cluster has to know of Weft's own kinds: their CustomResourceDefinitions, made of the types here.
//!
//! `weft-control-plane crds` prints them, and `charts/weft/crd-bases` holds them: `make generate` writes those anew.

mod structural;

use super::{
    MeshConfigSpec, TrafficPolicySpec, schema,
    status::{MeshConfigStatus, PolicyStatus},
};
use serde_json::{Value, json};
use structural::structural;

/// The group of Weft's own kinds.
const GROUP: &str = "weft.dev";

/// Their version.
const VERSION: &str = "v1alpha1";

/// The definitions of Weft's own kinds, by the names of the definitions.
pub fn definitions() -> Vec<(String, Value)> {
    [traffic_policy(), mesh_config()]
        .map(|kind| (kind.definition_name(), kind.definition()))
        .into()
}

/// The definitions as YAML, each a document.
pub fn yaml() -> Result<String, serde_saphyr::ser::Error> {
    let documents = definitions()
        .into_iter()
        .map(|(_, definition)| document(&definition));
    Ok(documents.collect::<Result<Vec<_>, _>>()?.join("---\n"))
}

fn document(definition: &Value) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(definition)
}

/// A kind as a cluster has to know it.
struct Definition {
    kind: &'static str,
    plural: &'static str,
    short: &'static str,
    scope: &'static str,
    description: String,
    spec: Value,
    /// Whether an object is nothing without one.
    spec_required: bool,
    status: Value,
    /// What holds for an object as a whole.
    rules: Value,
    columns: Value,
}

fn traffic_policy() -> Definition {
    let condition = |ty: &str| format!(".status.ancestors[*].conditions[?(@.type==\"{ty}\")]");
    Definition {
        kind: "TrafficPolicy",
        plural: "trafficpolicies",
        short: "wtp",
        scope: "Namespaced",
        description: description(TrafficPolicySpec::schema()),
        spec: structural(TrafficPolicySpec::schema()),
        spec_required: true,
        status: structural(&schema::of::<PolicyStatus>()),
        rules: json!([]),
        columns: json!([
            column("Targets", "string", ".spec.targetRefs[*].name"),
            column("Accepted", "string", &(condition("Accepted") + ".status")),
            column(
                "Programmed",
                "string",
                &(condition("Programmed") + ".message")
            ),
            column("Age", "date", ".metadata.creationTimestamp"),
        ]),
    }
}

fn mesh_config() -> Definition {
    let condition = |ty: &str| format!(".status.conditions[?(@.type==\"{ty}\")]");
    let spec = schema::of::<MeshConfigSpec>();
    Definition {
        kind: "MeshConfig",
        plural: "meshconfigs",
        short: "wmesh",
        scope: "Cluster",
        description: description(&spec),
        spec: structural(&spec),
        spec_required: false,
        status: structural(&schema::of::<MeshConfigStatus>()),
        rules: json!([{
            "rule": "self.metadata.name == 'default'",
            "message": "the one MeshConfig is named default; rename this",
        }]),
        columns: json!([
            column("mTLS", "string", ".spec.mtls.mode"),
            column("Accepted", "string", &(condition("Accepted") + ".status")),
            column(
                "Programmed",
                "string",
                &(condition("Programmed") + ".message")
            ),
            column("Age", "date", ".metadata.creationTimestamp"),
        ]),
    }
}

impl Definition {
    fn definition_name(&self) -> String {
        format!("{}.{GROUP}", self.plural)
    }

    fn definition(&self) -> Value {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": self.definition_name()},
            "spec": {
                "group": GROUP,
                "names": {
                    "kind": self.kind,
                    "listKind": format!("{}List", self.kind),
                    "plural": self.plural,
                    "singular": self.kind.to_lowercase(),
                    "shortNames": [self.short],
                    "categories": ["weft"],
                },
                "scope": self.scope,
                "versions": [{
                    "name": VERSION,
                    "served": true,
                    "storage": true,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": self.columns,
                    "schema": {"openAPIV3Schema": self.schema()},
                }],
            },
        })
    }

    fn schema(&self) -> Value {
        let mut schema = json!({
            "description": self.description,
            "type": "object",
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": self.spec,
                "status": self.status,
            },
        });
        if self.spec_required {
            schema["required"] = json!(["spec"]);
        }
        if self.rules != json!([]) {
            schema["x-kubernetes-validations"] = self.rules.clone();
        }
        schema
    }
}

fn column(name: &str, ty: &str, path: &str) -> Value {
    json!({"name": name, "type": ty, "jsonPath": path})
}

fn description(schema: &Value) -> String {
    schema["description"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests;
