//! Kubernetes objects of a test mesh.

use crate::mesh::NAMESPACE;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Annotations of an object.
pub type Annotations = BTreeMap<String, String>;

/// A pod with a sidecar, its service account named like it.
pub fn pod(name: &str, addresses: &[IpAddr], annotations: &Annotations) -> Value {
    let addresses: Vec<_> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": { "app": name },
            "annotations": annotations,
        },
        "spec": {
            "serviceAccountName": name,
            "containers": [{ "name": "app" }, { "name": "weft-proxy" }],
        },
        "status": {
            "phase": "Running",
            "podIP": addresses[0]["ip"],
            "podIPs": addresses,
        },
    })
}

/// A service with one port and both IP versions.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    number: u8,
    port: u16,
    port_name: Option<String>,
    endpoints: Vec<SocketAddr>,
}

impl Service {
    pub(crate) fn new(name: &str, number: u8) -> Self {
        Self {
            name: name.to_owned(),
            number,
            port: 80,
            port_name: None,
            endpoints: Vec::new(),
        }
    }

    /// Sets the port of the service. Default 80.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Names the port, by which its protocol is declared: `http`, `grpc`, `tcp`...
    pub fn protocol(mut self, port_name: &str) -> Self {
        self.port_name = Some(port_name.to_owned());
        self
    }

    /// Replaces the endpoints.
    pub fn endpoints(mut self, endpoints: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.endpoints = endpoints.into_iter().collect();
        self
    }

    /// Its addresses with its port, IPv4 first.
    pub fn addresses(&self) -> [SocketAddr; 2] {
        let ipv4 = Ipv4Addr::new(10, 96, 0, self.number);
        let ipv6 = Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, u16::from(self.number));
        [
            SocketAddr::new(ipv4.into(), self.port),
            SocketAddr::new(ipv6.into(), self.port),
        ]
    }

    /// Its authority: `name.demo.svc.cluster.local:80`.
    pub fn authority(&self) -> String {
        format!("{}.{NAMESPACE}.svc.cluster.local:{}", self.name, self.port)
    }

    /// The objects: the service and a slice of endpoints per IP version and target port.
    pub fn objects(&self) -> Vec<Value> {
        let [ipv4, ipv6] = self.addresses().map(|address| address.ip());
        let mut port = json!({ "port": self.port, "protocol": "TCP" });
        if let Some(name) = &self.port_name {
            port["name"] = json!(name);
        }
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name, "namespace": NAMESPACE },
            "spec": {
                "clusterIP": ipv4,
                "clusterIPs": [ipv4, ipv6],
                "ipFamilies": ["IPv4", "IPv6"],
                "ports": [port],
            },
        });
        let mut slices: BTreeMap<(bool, u16), Vec<IpAddr>> = BTreeMap::new();
        for endpoint in &self.endpoints {
            let slice = slices.entry((endpoint.is_ipv6(), endpoint.port()));
            slice.or_default().push(endpoint.ip());
        }
        let slices = slices.into_iter().map(|((is_ipv6, target), addresses)| {
            let family = if is_ipv6 { "IPv6" } else { "IPv4" };
            let endpoints: Vec<_> = addresses
                .iter()
                .map(|ip| json!({ "addresses": [ip], "conditions": { "ready": true } }))
                .collect();
            json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{}-{target}", self.name, family.to_lowercase()),
                    "namespace": NAMESPACE,
                    "labels": { "kubernetes.io/service-name": self.name },
                },
                "addressType": family,
                "ports": [{ "name": self.port_name.clone().unwrap_or_default(), "port": target, "protocol": "TCP" }],
                "endpoints": endpoints,
            })
        });
        std::iter::once(service).chain(slices).collect()
    }
}

/// One of many services that fill a world: a service with one port and a slice with two endpoints that nobody serves.
pub fn other_service(number: usize) -> Vec<Value> {
    let name = format!("other-{number}");
    let address = other_service_address(number);
    let [high, low] = u16::try_from(number)
        .expect("there are fewer other services than addresses")
        .to_be_bytes();
    let endpoints = [1, 2].map(|pod| {
        json!({ "addresses": [Ipv4Addr::new(10, 100 + pod, high, low)], "conditions": { "ready": false } })
    });
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": {
                "clusterIP": address.ip(),
                "clusterIPs": [address.ip()],
                "ports": [{ "name": "http", "port": address.port(), "protocol": "TCP" }],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-slice"),
                "namespace": NAMESPACE,
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
            "endpoints": endpoints,
        }),
    ]
}

/// The address of one of many services.
pub fn other_service_address(number: usize) -> SocketAddr {
    let [high, low] = u16::try_from(number)
        .expect("there are fewer other services than addresses")
        .to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(10, 97, high, low), 80))
}
