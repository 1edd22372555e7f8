//! Pods, which are workloads.

use super::{
    Annotations, Invalid, MTLS_MODE, MTLS_MODE_PORTS, StandIn, Verdict, annotation_field,
    check_annotation_names, ip, is_tcp, mtls_mode, parse_mode, port, protocol, refused, typed,
};
use crate::world::{MtlsMode, Object, ObjectKey, Protocol, Workload};
use k8s_openapi::{api::core::v1 as core, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, sync::Arc};
use weft_xds_proto::spiffe::SpiffeId;

/// The container whose presence says that a pod is of the mesh.
const PROXY_CONTAINER: &str = "weft-proxy";
/// The share of a pod, under the algorithms that look at weights.
const WEIGHT: &str = "weft.dev/weight";
const MAX_WEIGHT: u16 = 1000;
/// The well-known label of a zone, which Kubernetes 1.35 and later copies to pods from their node.
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";

pub(super) fn convert(key: ObjectKey, value: Value, trust_domain: &str) -> Verdict {
    let pod = match typed::<core::Pod>(value) {
        Ok(pod) => pod,
        Err(invalid) => return refused(invalid),
    };
    let workload = match workload(key, &pod, trust_domain) {
        Ok(workload) => workload,
        Err(invalid) => return refused(invalid),
    };
    let annotations = pod.metadata.annotations.unwrap_or_default();
    let accepted = |workload| Object::Workload(Arc::new(workload));
    let workload = match modes(&annotations) {
        Ok((mtls, port_mtls)) => Workload {
            mtls,
            port_mtls,
            ..workload
        },
        Err(invalid) => {
            let mtls = Some(MtlsMode::Strict);
            return Verdict::Refused {
                invalid,
                instead: Some(StandIn::strict(accepted(Workload { mtls, ..workload }))),
            };
        }
    };
    match weight(&annotations) {
        Ok(weight) => Verdict::Accepted(accepted(Workload { weight, ..workload })),
        Err(invalid) => Verdict::Refused {
            invalid,
            instead: Some(StandIn {
                object: accepted(workload),
                consequence: "until it is mended, its weight is 1",
            }),
        },
    }
}

/// Everything but what annotations say.
fn workload(key: ObjectKey, pod: &core::Pod, trust_domain: &str) -> Result<Workload, Invalid> {
    let spec = pod.spec.as_ref();
    let service_account = spec
        .and_then(|spec| spec.service_account_name.as_deref())
        .filter(|name| !name.is_empty())
        .unwrap_or("default");
    let identity = SpiffeId::new(trust_domain, &key.namespace, service_account)
        .map_err(|error| Invalid::new("spec.serviceAccountName", error.to_string()))?;
    let labels = pod.metadata.labels.as_ref();
    let label = |name: &str| labels?.get(name).map(String::as_str);
    let containers = containers(spec);
    let on_host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
    Ok(Workload {
        name: workload_name(&pod.metadata).unwrap_or_else(|| key.name.clone()),
        identity,
        addresses: addresses(pod.status.as_ref())?,
        // On the network of a host nothing is intercepted: a proxy there takes no calls for its pod.
        meshed: !on_host_network && containers.iter().any(|(_, c)| c.name == PROXY_CONTAINER),
        ports: ports(&containers)?,
        mtls: None,
        port_mtls: BTreeMap::new(),
        zone: label(ZONE).map(Arc::from),
        node: spec
            .and_then(|spec| spec.node_name.as_deref())
            .map(Arc::from),
        on_host_network,
        weight: Workload::DEFAULT_WEIGHT,
        key,
    })
}

/// What telemetry calls the workload that a pod is one of, unless it is one of its own.
pub(crate) fn workload_name(metadata: &ObjectMeta) -> Option<Arc<str>> {
    let label = |name: &str| Some(Arc::from(metadata.labels.as_ref()?.get(name)?.as_str()));
    owner(metadata)
        .or_else(|| label("app.kubernetes.io/name"))
        .or_else(|| label("app"))
}

/// Whether what a pod's annotations say of it can be understood.
pub(crate) fn check_annotations(annotations: &Annotations) -> Result<(), Invalid> {
    modes(annotations)?;
    weight(annotations)?;
    Ok(())
}

/// With the field that each stands in.
fn containers(spec: Option<&core::PodSpec>) -> Vec<(String, &core::Container)> {
    let Some(spec) = spec else { return Vec::new() };
    let named = |list: &'static str| move |(i, c)| (format!("spec.{list}[{i}]"), c);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    (0..)
        .zip(&spec.containers)
        .map(named("containers"))
        .chain((0..).zip(init).map(named("initContainers")))
        .collect()
}

fn ports(containers: &[(String, &core::Container)]) -> Result<BTreeMap<u16, Protocol>, Invalid> {
    let mut ports = BTreeMap::new();
    for (path, container) in containers {
        if container.name == PROXY_CONTAINER {
            continue;
        }
        for (i, item) in container.ports.iter().flatten().enumerate() {
            let field = |name: &str| format!("{path}.ports[{i}].{name}");
            let number = port(field("containerPort"), item.container_port)?;
            if is_tcp(field("protocol"), item.protocol.as_deref())? {
                let name = item.name.as_deref().unwrap_or_default();
                ports.insert(number, protocol::declared(None, name));
            }
        }
    }
    Ok(ports)
}

/// None for a pod that ended: its addresses may be another's already.
fn addresses(status: Option<&core::PodStatus>) -> Result<Vec<IpAddr>, Invalid> {
    let Some(status) = status else {
        return Ok(Vec::new());
    };
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Ok(Vec::new());
    }
    let listed = status.pod_ips.as_deref().unwrap_or_default();
    if listed.is_empty() {
        let single = status.pod_ip.as_deref().filter(|text| !text.is_empty());
        return single
            .map(|text| ip("status.podIP", text))
            .into_iter()
            .collect();
    }
    (0..)
        .zip(listed)
        .map(|(i, item): (usize, _)| ip(format!("status.podIPs[{i}].ip"), &item.ip))
        .collect()
}

/// The name of what controls the pod. Names that a controller made up for each rollout or run lose what
/// makes them so, as they become label values.
fn owner(metadata: &ObjectMeta) -> Option<Arc<str>> {
    let owner = metadata
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))?;
    let name = owner.name.as_str();
    let name = match owner.kind.as_str() {
        // `user-5d8f6c7b9` of Deployment `user`.
        "ReplicaSet" => name.rsplit_once('-').map_or(name, |(stem, _)| stem),
        // `backup-29012345` of CronJob `backup`: the minute it was due.
        "Job" => match name.rsplit_once('-') {
            Some((stem, minute))
                if minute.len() >= 8 && minute.bytes().all(|c| c.is_ascii_digit()) =>
            {
                stem
            }
            _ => name,
        },
        // Static pods are of their node.
        "Node" => return None,
        _ => name,
    };
    Some(name.into())
}

fn modes(
    annotations: &Annotations,
) -> Result<(Option<MtlsMode>, BTreeMap<u16, MtlsMode>), Invalid> {
    check_annotation_names(annotations, &[MTLS_MODE, MTLS_MODE_PORTS])?;
    let mut ports = BTreeMap::new();
    let text = annotations.get(MTLS_MODE_PORTS).map(String::as_str);
    for item in text.unwrap_or_default().split(',').map(str::trim) {
        if item.is_empty() {
            continue;
        }
        let invalid = |reason: String| Invalid::new(annotation_field(MTLS_MODE_PORTS), reason);
        let malformed = || invalid(format!("{item:?} is not <port>=<mode>; write 8080=Strict"));
        let (number, mode) = item.split_once('=').ok_or_else(malformed)?;
        let number: u16 = number.trim().parse().map_err(|_| malformed())?;
        if number == 0 {
            return Err(malformed());
        }
        if ports
            .insert(number, parse_mode(mode).map_err(invalid)?)
            .is_some()
        {
            return Err(invalid(format!("port {number} is listed twice")));
        }
    }
    Ok((mtls_mode(annotations)?, ports))
}

fn weight(annotations: &Annotations) -> Result<NonZeroU16, Invalid> {
    let Some(text) = annotations.get(WEIGHT) else {
        return Ok(Workload::DEFAULT_WEIGHT);
    };
    let weight = text.trim().parse().ok();
    weight
        .filter(|weight: &NonZeroU16| weight.get() <= MAX_WEIGHT)
        .ok_or_else(|| {
            let reason = format!("{text:?} is not a weight; write \"1\" to \"{MAX_WEIGHT}\"");
            Invalid::new(annotation_field(WEIGHT), reason)
        })
}
