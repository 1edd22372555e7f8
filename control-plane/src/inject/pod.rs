//! What the injector reads of a pod: a few fields, whatever else there is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde::Deserialize;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

use super::{INJECTED, Invalid, PROXY};
use crate::source::convert;

/// A pod, or the template of one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pod {
    metadata: Option<Metadata>,
    spec: Option<Spec>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

/// The fields of `spec` that decide anything.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) host_network: Option<bool>,
    pub(super) dns_policy: Option<String>,
    pub(super) node_selector: Option<BTreeMap<String, String>>,
    pub(super) os: Option<Named>,
    pub(super) security_context: Option<SecurityContext>,
    pub(super) termination_grace_period_seconds: Option<u64>,
    pub(super) image_pull_secrets: Option<Vec<Named>>,
    pub(super) volumes: Option<Vec<Named>>,
    init_containers: Option<Vec<Container>>,
    containers: Option<Vec<Container>>,
}

/// Something of which only the name counts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct SecurityContext {
    pub(super) run_as_user: Option<i64>,
}

/// A container of either list.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) ports: Option<Vec<Port>>,
    pub(super) security_context: Option<SecurityContext>,
    pub(super) env: Option<Vec<Variable>>,
    pub(super) liveness_probe: Option<Value>,
    pub(super) readiness_probe: Option<Value>,
    pub(super) startup_probe: Option<Value>,
    pub(super) lifecycle: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Port {
    pub(super) name: Option<String>,
    pub(super) container_port: u16,
    pub(super) protocol: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

/// The two lists of containers, by the names of their fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Init,
    Application,
}

impl List {
    /// The field of `spec`.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Application => "containers",
        }
    }
}

/// Where a container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) list: List,
    pub(super) index: usize,
}

impl At {
    /// As people write it: `spec.containers[0]`.
    pub(super) fn field(self) -> String {
        format!("spec.{}[{}]", self.list.field(), self.index)
    }

    /// As JSON pointers write it: `/spec/containers/0`.
    pub(super) fn pointer(self) -> String {
        format!("/spec/{}/{}", self.list.field(), self.index)
    }
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

impl Pod {
    /// Reads a pod, of which every field may be missing but the containers.
    pub(super) fn read(pod: &Value) -> Result<Self, Invalid> {
        let read: Self = serde_path_to_error::deserialize(pod)
            .map_err(|error| Invalid::new(error.path().to_string(), error.inner().to_string()))?;
        if read.spec.is_none() || read.in_list(List::Application).is_empty() {
            return Err(Invalid::new("spec.containers", "a pod has containers"));
        }
        Ok(read)
    }

    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        let labels = self.metadata.as_ref().and_then(|m| m.labels.as_ref());
        labels.unwrap_or(&EMPTY)
    }

    pub(super) fn annotations(&self) -> &BTreeMap<String, String> {
        let annotations = self.metadata.as_ref().and_then(|m| m.annotations.as_ref());
        annotations.unwrap_or(&EMPTY)
    }

    /// The workload that it is one of, as far as it says.
    pub(super) fn workload(&self) -> Option<Arc<str>> {
        convert::workload_name(&ObjectMeta {
            labels: Some(self.labels().clone()),
            owner_references: self.metadata.as_ref()?.owner_references.clone(),
            ..ObjectMeta::default()
        })
    }

    pub(super) fn spec(&self) -> &Spec {
        static NONE: Spec = Spec {
            host_network: None,
            dns_policy: None,
            node_selector: None,
            os: None,
            security_context: None,
            termination_grace_period_seconds: None,
            image_pull_secrets: None,
            volumes: None,
            init_containers: None,
            containers: None,
        };
        self.spec.as_ref().unwrap_or(&NONE)
    }

    /// Every container, init containers first, with its place.
    pub(super) fn containers(&self) -> impl Iterator<Item = (At, &Container)> {
        [List::Init, List::Application]
            .into_iter()
            .flat_map(move |list| {
                let containers = self.in_list(list).iter().enumerate();
                containers.map(move |(index, container)| (At { list, index }, container))
            })
    }

    fn in_list(&self, list: List) -> &[Container] {
        let containers = match list {
            List::Init => &self.spec().init_containers,
            List::Application => &self.spec().containers,
        };
        containers.as_deref().unwrap_or_default()
    }

    /// The name of the first container of the application.
    pub(super) fn first_container(&self) -> &str {
        let first = self.in_list(List::Application).first();
        first.map_or("", |container| &container.name)
    }

    /// The proxy and its place, if there is one.
    pub(super) fn proxy(&self) -> Option<(At, &Container)> {
        self.containers().find(|(_, c)| c.name == PROXY)
    }

    /// Whether the injector was here before.
    pub(super) fn is_injected(&self) -> bool {
        self.annotations().contains_key(INJECTED) && self.proxy().is_some()
    }
}
