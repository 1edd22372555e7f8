//! Services.

use super::{Invalid, Verdict, check_name, ip, is_tcp, port, protocol, refused, typed, verdict};
use crate::world::{IpFamily, Object, ObjectKey, Service, ServicePort};
use k8s_openapi::api::core::v1 as core;
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

pub(super) fn convert(key: ObjectKey, value: Value) -> Verdict {
    let spec = match typed::<core::Service>(value) {
        Ok(service) => service.spec.unwrap_or_default(),
        Err(invalid) => return refused(invalid),
    };
    if spec.type_.as_deref() != Some("ExternalName") {
        return verdict(service(key, spec));
    }
    // Without a port there is nothing that a proxy could be told to serve: callers go there by themselves.
    match external(key, &spec) {
        Ok(service) if service.ports.is_empty() => Verdict::Unused,
        external => verdict(external.map(|service| Object::Service(Arc::new(service)))),
    }
}

fn service(key: ObjectKey, spec: core::ServiceSpec) -> Result<Object, Invalid> {
    let addresses = addresses(&spec)?;
    let primary_family = match spec.ip_families.unwrap_or_default().first() {
        Some(family) => Some(ip_family("spec.ipFamilies[0]", family)?),
        None => addresses.first().copied().map(IpFamily::of),
    };
    Ok(Object::Service(Arc::new(Service {
        key,
        addresses,
        primary_family,
        ports: ports(&spec.ports.unwrap_or_default())?,
        external_name: None,
        // `PreferSameNode` is no less: the node is in the zone.
        prefers_zone: spec
            .traffic_distribution
            .is_some_and(|distribution| distribution.starts_with("Prefer")),
    })))
}

/// Another name for a host outside of the mesh, whose addresses DNS knows.
fn external(key: ObjectKey, spec: &core::ServiceSpec) -> Result<Service, Invalid> {
    let name = spec.external_name.as_deref().unwrap_or_default();
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    check_name("spec.externalName", &name, true)?;
    if name.parse::<IpAddr>().is_ok() {
        let reason = format!("{name:?} is an address; write a name that DNS knows");
        return Err(Invalid::new("spec.externalName", reason));
    }
    Ok(Service {
        key,
        addresses: Vec::new(),
        primary_family: None,
        ports: ports(spec.ports.as_deref().unwrap_or_default())?,
        external_name: Some(name.into()),
        prefers_zone: false,
    })
}

fn addresses(spec: &core::ServiceSpec) -> Result<Vec<IpAddr>, Invalid> {
    let listed = spec.cluster_ips.as_deref().unwrap_or_default();
    let fields: Vec<(String, &str)> = if listed.is_empty() {
        let single = spec.cluster_ip.as_deref();
        single
            .map(|text| ("spec.clusterIP".to_owned(), text))
            .into_iter()
            .collect()
    } else {
        (0..)
            .zip(listed)
            .map(|(i, text)| (format!("spec.clusterIPs[{i}]"), text.as_str()))
            .collect()
    };
    fields
        .into_iter()
        .filter(|(_, text)| !matches!(*text, "" | "None"))
        .map(|(field, text)| ip(field, text))
        .collect()
}

fn ip_family(field: &str, text: &str) -> Result<IpFamily, Invalid> {
    match text {
        "IPv4" => Ok(IpFamily::V4),
        "IPv6" => Ok(IpFamily::V6),
        other => {
            let reason = format!("{other:?} is not a family; write IPv4 or IPv6");
            Err(Invalid::new(field, reason))
        }
    }
}

fn ports(listed: &[core::ServicePort]) -> Result<Vec<ServicePort>, Invalid> {
    let mut ports: Vec<ServicePort> = Vec::new();
    for (i, item) in listed.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{i}].{name}");
        let number = port(field("port"), item.port)?;
        let name = item.name.as_deref().unwrap_or_default();
        if !name.is_empty() {
            check_name(&field("name"), name, false)?;
        } else if listed.len() > 1 {
            // Endpoint slices name the port they serve: without names nobody knows which is which.
            let reason = "is missing; the ports of a service that has several need names";
            return Err(Invalid::new(field("name"), reason));
        }
        if listed[..i]
            .iter()
            .any(|other| other.name.as_deref().unwrap_or_default() == name)
        {
            let reason = format!("{name:?} is the name of another port, too");
            return Err(Invalid::new(field("name"), reason));
        }
        if !is_tcp(field("protocol"), item.protocol.as_deref())? {
            continue;
        }
        if ports.iter().any(|other| other.port == number) {
            let reason = format!("{number} is the number of another port, too");
            return Err(Invalid::new(field("port"), reason));
        }
        ports.push(ServicePort {
            port: number,
            name: name.into(),
            protocol: protocol::declared(item.app_protocol.as_deref(), name),
        });
    }
    ports.sort_by_key(|port| port.port);
    Ok(ports)
}
