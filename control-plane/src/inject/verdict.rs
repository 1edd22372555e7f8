//! Whether a pod gets a sidecar: who is left alone, and what cannot work.

use std::fmt;
use weft_xds_proto::names;

use super::{INIT, INJECT, PROXY, Place, Settings, VOLUME, pod::Pod};
use crate::source::convert;

/// Why a pod is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Left {
    /// It says that it wants no sidecar.
    OptedOut,
    /// It is on the network of its host.
    HostNetwork,
    /// It is in a namespace of Kubernetes itself.
    SystemNamespace,
    /// It is for Windows.
    Windows,
    /// It mirrors a static pod, which is what runs.
    Mirror,
    /// It has all that it needs.
    Injected,
}

/// A pod that cannot get a sidecar as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field, `spec.containers[0].ports[1].containerPort`.
    pub field: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// Where Kubernetes itself lives: what runs there must not wait for the mesh, which waits for it.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];

/// Set by the kubelet on the picture that it gives of a static pod.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The node label that says which operating system a pod is for.
const OS: &str = "kubernetes.io/os";

/// The ports of the proxy, in every pod.
const PORTS: [(u16, &str); 5] = [
    (names::ADMIN_PORT, "admin"),
    (names::OUTBOUND_PORT, "outbound"),
    (names::INBOUND_PORT, "inbound"),
    (names::METRICS_PORT, "metrics"),
    (names::HEALTH_PORT, "health"),
];

impl Left {
    /// One word, for metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::OptedOut => "opted_out",
            Self::HostNetwork => "host_network",
            Self::SystemNamespace => "system_namespace",
            Self::Windows => "windows",
            Self::Mirror => "mirror",
            Self::Injected => "injected",
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OptedOut => "weft.dev/inject says that it wants no sidecar",
            Self::HostNetwork => {
                "hostNetwork: it shares the network of its node, whose connections are not its own"
            }
            Self::SystemNamespace => "its namespace is one of Kubernetes itself",
            Self::Windows => "it is for Windows, which has no such interception",
            Self::Mirror => "it mirrors a static pod: nothing that is changed here runs",
            Self::Injected => "it has its sidecar already",
        })
    }
}

impl Invalid {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl From<convert::Invalid> for Invalid {
    fn from(invalid: convert::Invalid) -> Self {
        Self::new(invalid.field, invalid.reason)
    }
}

/// Why the pod is left alone whatever else it says. `None` for one that is to have its sidecar.
pub(super) fn left_alone(pod: &Pod, place: &Place<'_>) -> Result<Option<Left>, Invalid> {
    if !wanted(pod)? {
        return Ok(Some(Left::OptedOut));
    }
    let spec = pod.spec();
    let os = spec.os.as_ref().and_then(|os| os.name.as_deref());
    let selected = spec.node_selector.as_ref().and_then(|s| s.get(OS));
    let windows = [os, selected.map(String::as_str)].contains(&Some("windows"));
    Ok(if SYSTEM_NAMESPACES.contains(&place.namespace) {
        Some(Left::SystemNamespace)
    } else if pod.annotations().contains_key(MIRROR) {
        Some(Left::Mirror)
    } else if spec.host_network == Some(true) {
        Some(Left::HostNetwork)
    } else if windows {
        Some(Left::Windows)
    } else {
        None
    })
}

/// What label and annotation say together. Nothing said is yes: who asks has been told so by the namespace.
fn wanted(pod: &Pod) -> Result<bool, Invalid> {
    let said = |of: &str, text: Option<&String>| match text.map(|text| text.trim()) {
        None => Ok(None),
        Some("true" | "enabled") => Ok(Some(true)),
        Some("false" | "disabled") => Ok(Some(false)),
        Some(other) => Err(Invalid::new(
            format!("metadata.{of}[\"{INJECT}\"]"),
            format!("{other:?} is neither \"true\" nor \"false\""),
        )),
    };
    let label = said("labels", pod.labels().get(INJECT))?;
    let annotation = said("annotations", pod.annotations().get(INJECT))?;
    match (label, annotation) {
        (Some(label), Some(annotation)) if label != annotation => Err(Invalid::new(
            format!("metadata.annotations[\"{INJECT}\"]"),
            "the label of the same name says otherwise; remove one of them",
        )),
        (label, annotation) => Ok(label.or(annotation).unwrap_or(true)),
    }
}

/// Finds what would keep the proxy, or the application beside it, from working.
pub(super) fn check(pod: &Pod, settings: &Settings) -> Result<(), Invalid> {
    convert::check_annotations(pod.annotations())?;
    if !pod.is_injected() {
        names_are_free(pod)?;
    }
    ports_are_free(pod)?;
    user_is_free(pod)?;
    control_plane_can_be_found(pod, settings)
}

fn names_are_free(pod: &Pod) -> Result<(), Invalid> {
    let advice = format!(
        "the injector's own has this name; choose another, or opt out with the label {INJECT}: \"false\""
    );
    for (at, container) in pod.containers() {
        if [PROXY, INIT].contains(&container.name.as_str()) {
            return Err(Invalid::new(format!("{}.name", at.field()), advice));
        }
    }
    for (index, volume) in pod.spec().volumes.iter().flatten().enumerate() {
        if volume.name.as_deref() == Some(VOLUME) {
            return Err(Invalid::new(format!("spec.volumes[{index}].name"), advice));
        }
    }
    Ok(())
}

fn ports_are_free(pod: &Pod) -> Result<(), Invalid> {
    for (at, container) in pod.containers() {
        if container.name == PROXY {
            continue;
        }
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let tcp = port.protocol.as_deref().is_none_or(|p| p == "TCP");
            let own = PORTS.iter().find(|(own, _)| *own == port.container_port);
            if let Some((number, purpose)) = own.filter(|_| tcp) {
                return Err(Invalid::new(
                    format!("{}.ports[{index}].containerPort", at.field()),
                    format!("{number} is the {purpose} port of the proxy; choose another"),
                ));
            }
        }
    }
    Ok(())
}

/// Interception tells the proxy's connections by their user: another process of that user would pass it.
fn user_is_free(pod: &Pod) -> Result<(), Invalid> {
    let own = i64::from(names::PROXY_UID);
    let taken = |field: String| {
        let reason = format!("{own} is the user of the proxy, whose connections bypass the mesh");
        Err(Invalid::new(field, format!("{reason}; choose another")))
    };
    let inherited = pod.spec().security_context.as_ref();
    let inherited = inherited.and_then(|context| context.run_as_user);
    for (at, container) in pod.containers() {
        let context = container.security_context.as_ref();
        let user = context.and_then(|context| context.run_as_user);
        if container.name == PROXY {
            continue;
        }
        if user == Some(own) {
            return taken(format!("{}.securityContext.runAsUser", at.field()));
        }
        if user.is_none() && inherited == Some(own) {
            return taken("spec.securityContext.runAsUser".to_owned());
        }
    }
    Ok(())
}

/// With the DNS of its node, a pod knows no service by name.
fn control_plane_can_be_found(pod: &Pod, settings: &Settings) -> Result<(), Invalid> {
    let host = settings.xds_address.rsplit_once(':').map(|(host, _)| host);
    let host = host.unwrap_or_default();
    let literal = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    let in_cluster = host.ends_with(".svc") || host.contains(".svc.");
    if literal.is_ok() || !in_cluster || pod.spec().dns_policy.as_deref() != Some("Default") {
        return Ok(());
    }
    Err(Invalid::new(
        "spec.dnsPolicy",
        format!(
            "Default is the DNS of the node, which does not know {host}; use ClusterFirst, or opt out with \
             the label {INJECT}: \"false\""
        ),
    ))
}
