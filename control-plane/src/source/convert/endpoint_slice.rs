//! Endpoint slices.

use super::{Invalid, Verdict, check_name, ip, is_tcp, port, refused, typed, verdict};
use crate::world::{EndpointSlice, IpFamily, Object, ObjectKey, SliceEndpoint, SlicePort};
use k8s_openapi::api::discovery::v1 as discovery;
use serde_json::Value;
use std::sync::Arc;

/// Ties a slice to its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

pub(super) fn convert(key: ObjectKey, value: Value) -> Verdict {
    match typed::<discovery::EndpointSlice>(value) {
        Ok(object) => verdict(slice(key, &object)),
        Err(invalid) => refused(invalid),
    }
}

fn slice(key: ObjectKey, object: &discovery::EndpointSlice) -> Result<Object, Invalid> {
    let labels = object.metadata.labels.as_ref();
    let label = format!("metadata.labels[\"{SERVICE_NAME}\"]");
    let service = labels
        .and_then(|labels| labels.get(SERVICE_NAME))
        .ok_or_else(|| Invalid::new(&label, "is missing; it names the service of the slice"))?;
    check_name(&label, service, false)?;
    let family = match object.address_type.as_str() {
        "IPv4" => IpFamily::V4,
        "IPv6" => IpFamily::V6,
        other => {
            let reason = format!("{other:?} is not supported; write IPv4 or IPv6");
            return Err(Invalid::new("addressType", reason));
        }
    };
    let endpoints = object
        .endpoints
        .iter()
        .enumerate()
        .map(|(i, item)| endpoint(&key, family, &format!("endpoints[{i}]"), item))
        .collect::<Result<_, _>>()?;
    Ok(Object::EndpointSlice(Arc::new(EndpointSlice {
        service: service.as_str().into(),
        ports: ports(object.ports.as_deref().unwrap_or_default())?,
        endpoints,
        key,
    })))
}

fn ports(listed: &[discovery::EndpointPort]) -> Result<Vec<SlicePort>, Invalid> {
    let mut ports = Vec::new();
    for (i, item) in listed.iter().enumerate() {
        let field = |name: &str| format!("ports[{i}].{name}");
        let tcp = is_tcp(field("protocol"), item.protocol.as_deref())?;
        // No number stands for "all ports", which no port of a service can be served by.
        let Some(number) = item.port else { continue };
        let number = port(field("port"), number)?;
        if tcp {
            ports.push(SlicePort {
                name: item.name.as_deref().unwrap_or_default().into(),
                port: number,
            });
        }
    }
    Ok(ports)
}

fn endpoint(
    slice: &ObjectKey,
    family: IpFamily,
    field: &str,
    item: &discovery::Endpoint,
) -> Result<SliceEndpoint, Invalid> {
    let mut addresses = Vec::new();
    for (i, text) in item.addresses.iter().enumerate() {
        let field = format!("{field}.addresses[{i}]");
        let address = ip(&field, text)?;
        if IpFamily::of(address) != family {
            let reason = format!("{text:?} is not of the slice's addressType");
            return Err(Invalid::new(field, reason));
        }
        addresses.push(address);
    }
    // The API lets several stand for one endpoint, and lets consumers take the first.
    let Some(address) = addresses.first().copied() else {
        return Err(Invalid::new(
            format!("{field}.addresses"),
            "is empty; an endpoint has an address",
        ));
    };
    // The API says how absence reads: ready, and not terminating.
    let conditions = item.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
    let target = item.target_ref.as_ref();
    let workload = target
        .filter(|target| target.kind.as_deref() == Some("Pod"))
        .and_then(|target| {
            let namespace = target.namespace.as_deref();
            Some(ObjectKey::new(
                namespace.unwrap_or(&slice.namespace),
                target.name.as_deref()?,
            ))
        });
    let zone = item.zone.as_deref().filter(|zone| !zone.is_empty());
    Ok(SliceEndpoint {
        address,
        ready: ready && !terminating,
        workload,
        zone: zone.map(Arc::from),
        serves: serves(item, zone).map(Arc::from),
    })
}

/// The zone of `hints.forZones`: its own where that is among them, as a proxy knows one zone per endpoint.
fn serves<'a>(item: &'a discovery::Endpoint, own: Option<&str>) -> Option<&'a str> {
    let hinted = item.hints.as_ref()?.for_zones.as_deref()?;
    let mut names = hinted.iter().map(|zone| zone.name.as_str());
    names
        .clone()
        .find(|name| Some(*name) == own)
        .or_else(|| names.next())
}
