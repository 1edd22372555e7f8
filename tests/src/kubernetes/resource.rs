//! Which kinds of objects there are, by the names that paths, discovery and rights use.

use super::{schema::Schema, status::Status};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// One resource in one version.
#[derive(Debug, Clone)]
pub struct Resource {
    /// The API group; empty for the core.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The name in paths: `pods`.
    pub plural: String,
    /// The name of one: `pod`.
    pub singular: String,
    /// The kind of an object: `Pod`.
    pub kind: String,
    /// The kind of a list: `PodList`.
    pub list_kind: String,
    /// What people call it for short: `po`.
    pub short_names: Vec<String>,
    /// What it is listed with: `all`.
    pub categories: Vec<String>,
    /// Whether objects lie in namespaces.
    pub is_namespaced: bool,
    /// Whether `status` is written apart from the rest.
    pub has_status: bool,
    /// Whether changes of the rest are numbered.
    pub has_generation: bool,
    /// Whether objects are kept, and not only answered.
    pub is_stored: bool,
    /// What objects may look like, of a resource that a CustomResourceDefinition describes.
    pub schema: Option<Arc<Schema>>,
}

impl Resource {
    /// `v1`, or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods`, or `deployments.apps`.
    pub fn qualified(&self) -> String {
        qualified(&self.plural, &self.group)
    }

    /// `Pod`, or `Deployment.apps`.
    pub fn qualified_kind(&self) -> String {
        qualified(&self.kind, &self.group)
    }

    /// The entries of discovery: the resource and its subresources.
    pub fn discovery(&self) -> Vec<Value> {
        let verbs: &[&str] = if self.is_stored {
            &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ]
        } else {
            &["create"]
        };
        let mut entries = vec![json!({
            "name": self.plural,
            "singularName": self.singular,
            "namespaced": self.is_namespaced,
            "kind": self.kind,
            "verbs": verbs,
            "shortNames": self.short_names,
            "categories": self.categories,
        })];
        if self.has_status {
            entries.push(json!({
                "name": format!("{}/status", self.plural),
                "singularName": "",
                "namespaced": self.is_namespaced,
                "kind": self.kind,
                "verbs": ["get", "patch", "update"],
            }));
        }
        entries
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// The resources that are served.
#[derive(Debug, Clone)]
pub struct Registry(BTreeMap<(String, String, String), Arc<Resource>>);

impl Default for Registry {
    fn default() -> Self {
        let mut registry = Self(BTreeMap::new());
        for built_in in BUILT_IN {
            registry.add(built_in.resource());
        }
        registry
    }
}

impl Registry {
    /// Serves a resource, in place of what was served by that name.
    pub fn add(&mut self, resource: Resource) {
        let key = (
            resource.group.clone(),
            resource.version.clone(),
            resource.plural.clone(),
        );
        self.0.insert(key, Arc::new(resource));
    }

    /// Serves every version of a CustomResourceDefinition, in place of what was served for it before.
    pub fn define(&mut self, definition: &Value) -> Result<(), Status> {
        let resources = custom_resources(definition)?;
        self.undefine(definition);
        for resource in resources {
            self.add(resource);
        }
        Ok(())
    }

    /// No longer serves what a CustomResourceDefinition describes.
    pub fn undefine(&mut self, definition: &Value) {
        let group = text(&definition["spec"]["group"]);
        let plural = text(&definition["spec"]["names"]["plural"]);
        self.0
            .retain(|(of, _, name), _| *of != group || *name != plural);
    }

    /// The resource of a path.
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.0
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The resource of an object, by its `apiVersion` and `kind`.
    pub fn of(&self, object: &Value) -> Option<&Arc<Resource>> {
        let (version, kind) = (object["apiVersion"].as_str()?, object["kind"].as_str()?);
        self.0
            .values()
            .find(|resource| resource.kind == kind && resource.api_version() == version)
    }

    /// The resources of a group in a version.
    pub fn of_version(&self, group: &str, version: &str) -> Vec<&Arc<Resource>> {
        let resources = self.0.values();
        resources
            .filter(|resource| resource.group == group && resource.version == version)
            .collect()
    }

    /// Groups with their versions, the core apart.
    pub fn groups(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (group, version, _) in self.0.keys().filter(|(group, ..)| !group.is_empty()) {
            let versions = groups.entry(group).or_default();
            if !versions.contains(&version.as_str()) {
                versions.push(version);
            }
        }
        groups
    }
}

/// What a CustomResourceDefinition describes, or why it does not.
fn custom_resources(definition: &Value) -> Result<Vec<Resource>, Status> {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let invalid = |message: String| {
        let name = text(&definition["metadata"]["name"]);
        Status::invalid(
            "CustomResourceDefinition.apiextensions.k8s.io",
            &name,
            vec![message],
        )
    };
    for (field, value) in [
        ("spec.group", &spec["group"]),
        ("spec.names.plural", &names["plural"]),
        ("spec.names.kind", &names["kind"]),
    ] {
        if value.as_str().is_none_or(str::is_empty) {
            return Err(invalid(format!("{field}: Required value")));
        }
    }
    let (group, plural, kind) = (
        text(&spec["group"]),
        text(&names["plural"]),
        text(&names["kind"]),
    );
    if definition["metadata"]["name"] != json!(format!("{plural}.{group}")) {
        return Err(invalid(format!(
            "metadata.name: Invalid value: {}: must be spec.names.plural+\".\"+spec.group",
            definition["metadata"]["name"]
        )));
    }
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    let served = versions
        .iter()
        .filter(|version| version["served"] == json!(true));
    served
        .map(|version| {
            let schema = Schema::new(version["schema"]["openAPIV3Schema"].clone())
                .map_err(|message| invalid(format!("spec.versions[0].schema: {message}")))?;
            Ok(Resource {
                group: group.clone(),
                version: text(&version["name"]),
                plural: plural.clone(),
                singular: names["singular"]
                    .as_str()
                    .map_or_else(|| kind.to_lowercase(), str::to_owned),
                list_kind: names["listKind"]
                    .as_str()
                    .map_or_else(|| format!("{kind}List"), str::to_owned),
                kind: kind.clone(),
                short_names: texts(&names["shortNames"]),
                categories: texts(&names["categories"]),
                is_namespaced: spec["scope"] == json!("Namespaced"),
                has_status: version["subresources"]["status"].is_object(),
                has_generation: true,
                is_stored: true,
                schema: Some(Arc::new(schema)),
            })
        })
        .collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    let values = value.as_array().into_iter().flatten();
    values.map(text).collect()
}

/// A resource that Kubernetes itself has.
struct BuiltIn {
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    is: Traits,
}

/// What tells built-in resources apart.
#[derive(Clone, Copy)]
struct Traits(u8);

const NAMESPACED: u8 = 1;
const STATUS: u8 = 2;
const GENERATION: u8 = 4;
const ANSWERED: u8 = 8;

impl BuiltIn {
    fn resource(&self) -> Resource {
        Resource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            plural: self.plural.to_owned(),
            singular: self.kind.to_lowercase(),
            kind: self.kind.to_owned(),
            list_kind: format!("{}List", self.kind),
            short_names: self.short.iter().map(ToString::to_string).collect(),
            categories: Vec::new(),
            is_namespaced: self.is.0 & NAMESPACED != 0,
            has_status: self.is.0 & STATUS != 0,
            has_generation: self.is.0 & GENERATION != 0,
            is_stored: self.is.0 & ANSWERED == 0,
            schema: None,
        }
    }
}

const fn built_in(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    short: &'static [&'static str],
    is: u8,
) -> BuiltIn {
    BuiltIn {
        group,
        version: "v1",
        plural,
        kind,
        short,
        is: Traits(is),
    }
}

const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

const BUILT_IN: &[BuiltIn] = &[
    built_in("", "namespaces", "Namespace", &["ns"], STATUS),
    built_in("", "nodes", "Node", &["no"], STATUS),
    built_in("", "services", "Service", &["svc"], NAMESPACED | STATUS),
    built_in("", "pods", "Pod", &["po"], NAMESPACED | STATUS | GENERATION),
    built_in("", "secrets", "Secret", &[], NAMESPACED),
    built_in("", "configmaps", "ConfigMap", &["cm"], NAMESPACED),
    built_in("", "serviceaccounts", "ServiceAccount", &["sa"], NAMESPACED),
    built_in("", "events", "Event", &["ev"], NAMESPACED),
    built_in(
        "apps",
        "deployments",
        "Deployment",
        &["deploy"],
        NAMESPACED | STATUS | GENERATION,
    ),
    built_in(
        "apps",
        "replicasets",
        "ReplicaSet",
        &["rs"],
        NAMESPACED | STATUS | GENERATION,
    ),
    built_in(
        "apps",
        "statefulsets",
        "StatefulSet",
        &["sts"],
        NAMESPACED | STATUS | GENERATION,
    ),
    built_in(
        "apps",
        "daemonsets",
        "DaemonSet",
        &["ds"],
        NAMESPACED | STATUS | GENERATION,
    ),
    built_in(
        "batch",
        "jobs",
        "Job",
        &[],
        NAMESPACED | STATUS | GENERATION,
    ),
    built_in(
        "discovery.k8s.io",
        "endpointslices",
        "EndpointSlice",
        &[],
        NAMESPACED | GENERATION,
    ),
    built_in("coordination.k8s.io", "leases", "Lease", &[], NAMESPACED),
    built_in("events.k8s.io", "events", "Event", &["ev"], NAMESPACED),
    built_in(
        "policy",
        "poddisruptionbudgets",
        "PodDisruptionBudget",
        &["pdb"],
        NAMESPACED | STATUS | GENERATION,
    ),
    BuiltIn {
        version: "v2",
        ..built_in(
            "autoscaling",
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            &["hpa"],
            NAMESPACED | STATUS,
        )
    },
    built_in(
        "networking.k8s.io",
        "networkpolicies",
        "NetworkPolicy",
        &["netpol"],
        NAMESPACED | GENERATION,
    ),
    built_in(
        ADMISSION,
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        &[],
        GENERATION,
    ),
    built_in(
        ADMISSION,
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        &[],
        GENERATION,
    ),
    built_in(RBAC, "roles", "Role", &[], NAMESPACED),
    built_in(RBAC, "rolebindings", "RoleBinding", &[], NAMESPACED),
    built_in(RBAC, "clusterroles", "ClusterRole", &[], 0),
    built_in(RBAC, "clusterrolebindings", "ClusterRoleBinding", &[], 0),
    built_in(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        &["crd", "crds"],
        STATUS | GENERATION,
    ),
    built_in(
        "authentication.k8s.io",
        "tokenreviews",
        "TokenReview",
        &[],
        ANSWERED,
    ),
    built_in(
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        &[],
        ANSWERED,
    ),
    built_in(
        AUTHORIZATION,
        "subjectaccessreviews",
        "SubjectAccessReview",
        &[],
        ANSWERED,
    ),
];
