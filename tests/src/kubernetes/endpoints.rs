//! Where a service is, for those who have no node's proxy.

use super::store::Store;
use serde_json::Value;
use std::net::SocketAddr;

/// A ready endpoint of a service, found as a node's proxy finds it: in its slices.
pub(super) fn find(
    store: &Store,
    namespace: &str,
    name: &str,
    port: u64,
) -> Result<SocketAddr, String> {
    let services = (String::new(), "services".to_owned());
    let service = store.get(&services, &(namespace.to_owned(), name.to_owned()));
    let service = service.ok_or_else(|| format!("service \"{name}\" not found"))?;
    let ports = service.value["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten();
    let mut ports = ports.filter(|candidate| candidate["port"] == port);
    let found = ports.next();
    let found =
        found.ok_or_else(|| format!("no service port {port} found for service \"{name}\""))?;
    let port_name = found["name"].as_str().unwrap_or_default();
    let slices = ("discovery.k8s.io".to_owned(), "endpointslices".to_owned());
    let mut candidates = Vec::new();
    for slice in store.list(&slices, namespace, None) {
        let slice = &slice.value;
        if slice["metadata"]["labels"]["kubernetes.io/service-name"] != name {
            continue;
        }
        let ports = slice["ports"].as_array().into_iter().flatten();
        let mut ports = ports.filter(|port| port["name"].as_str().unwrap_or_default() == port_name);
        let Some(number) = ports.next().and_then(|port| port["port"].as_u64()) else {
            continue;
        };
        let number = u16::try_from(number).unwrap_or_default();
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let address = endpoint["addresses"][0]
                .as_str()
                .and_then(|ip| ip.parse().ok());
            if endpoint["conditions"]["ready"] != Value::Bool(false)
                && let Some(ip) = address
            {
                candidates.push(SocketAddr::new(ip, number));
            }
        }
    }
    if candidates.is_empty() {
        return Err(format!("no endpoints available for service \"{name}\""));
    }
    Ok(candidates[fastrand::usize(..candidates.len())])
}
