//! What Kubernetes fills in for its own kinds, as far as it is used; and what its controllers would.

use super::resource::Resource;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Addresses of services that are not taken.
#[derive(Debug)]
pub(super) struct Addresses {
    last: u16,
}

impl Default for Addresses {
    /// The first addresses are left to those that a test gives out by itself.
    fn default() -> Self {
        Self { last: 0x0fff }
    }
}

impl Addresses {
    fn next(&mut self) -> (Ipv4Addr, Ipv6Addr) {
        self.last = self.last.wrapping_add(1);
        let [high, low] = self.last.to_be_bytes();
        (
            Ipv4Addr::new(10, 96, high, low),
            Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, self.last),
        )
    }
}

/// Fills in an object that is being written. `old` is what it was before an update.
pub(super) fn fill(
    resource: &Resource,
    object: &mut Value,
    old: Option<&Value>,
    addresses: &mut Addresses,
) {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
        }
        ("", "Service") => service(object, old, addresses),
        ("", "Pod") => pod(object),
        ("", "Secret") => secret(object),
        ("admissionregistration.k8s.io", _) => webhooks(object),
        _ => {}
    }
}

/// What every cluster has, as far as it is used.
pub(super) fn first_objects() -> Vec<Value> {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let namespaces = ["default", "kube-system", "kube-public"].map(|name| {
        json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": { "name": name },
            "status": { "phase": "Active" },
        })
    });
    let role = |name: &str, rules: Value| json!({ "apiVersion": RBAC, "kind": "ClusterRole", "metadata": { "name": name }, "rules": rules });
    let everything = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    let reviews = json!([
        { "apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"] },
        { "apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"] },
    ]);
    let roles = [
        role("cluster-admin", everything),
        role("system:auth-delegator", reviews),
    ];
    namespaces.into_iter().chain(roles).collect()
}

/// The status that an object has from the first.
pub(super) fn first_status(resource: &Resource, object: &Value) -> Option<Value> {
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Namespace") => Some(json!({ "phase": "Active" })),
        ("", "Service") => Some(json!({ "loadBalancer": {} })),
        ("", "Pod") => Some(json!({ "phase": "Pending", "qosClass": "BestEffort" })),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => Some(json!({
            "acceptedNames": object["spec"]["names"],
            "storedVersions": [object["spec"]["versions"][0]["name"]],
            "conditions": [
                { "type": "NamesAccepted", "status": "True", "reason": "NoConflicts", "message": "no conflicts found", "lastTransitionTime": object["metadata"]["creationTimestamp"] },
                { "type": "Established", "status": "True", "reason": "InitialNamesAccepted", "message": "the initial names have been accepted", "lastTransitionTime": object["metadata"]["creationTimestamp"] },
            ],
        })),
        _ => None,
    }
}

fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if object[field].is_null() {
        object[field] = value.into();
    }
}

/// The items of a list, if it is there.
fn items<'a>(object: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    let items = object.get_mut(field).and_then(Value::as_array_mut);
    items.into_iter().flatten()
}

fn service(object: &mut Value, old: Option<&Value>, addresses: &mut Addresses) {
    let spec = &mut object["spec"];
    // Who leaves addresses out of an update keeps them.
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        if let Some(kept) = old.and_then(|old| old["spec"].get(field)) {
            set(spec, field, kept.clone());
        }
    }
    set(spec, "type", "ClusterIP");
    set(spec, "sessionAffinity", "None");
    for port in items(spec, "ports") {
        set(port, "protocol", "TCP");
        let number = port["port"].clone();
        set(port, "targetPort", number);
    }
    if spec["type"] == "ExternalName" {
        return;
    }
    set(spec, "internalTrafficPolicy", "Cluster");
    set(spec, "ipFamilyPolicy", "SingleStack");
    if spec["clusterIP"].is_null() {
        let (ipv4, ipv6) = addresses.next();
        let is_dual = spec["ipFamilyPolicy"] != "SingleStack";
        let is_ipv6 = spec["ipFamilies"][0] == "IPv6";
        let (ips, families) = match (is_dual, is_ipv6) {
            (true, _) => (json!([ipv4, ipv6]), json!(["IPv4", "IPv6"])),
            (false, true) => (json!([ipv6]), json!(["IPv6"])),
            (false, false) => (json!([ipv4]), json!(["IPv4"])),
        };
        spec["clusterIP"] = ips[0].clone();
        spec["clusterIPs"] = ips;
        spec["ipFamilies"] = families;
    }
    let address = spec["clusterIP"].clone();
    set(spec, "clusterIPs", json!([address]));
    let is_ipv6 = spec["clusterIPs"][0]
        .as_str()
        .is_some_and(|ip| ip.contains(':'));
    set(
        spec,
        "ipFamilies",
        json!([if is_ipv6 { "IPv6" } else { "IPv4" }]),
    );
}

fn pod(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "restartPolicy", "Always");
    set(spec, "dnsPolicy", "ClusterFirst");
    set(spec, "terminationGracePeriodSeconds", 30);
    set(spec, "serviceAccountName", "default");
    set(spec, "securityContext", json!({}));
    for containers in ["containers", "initContainers"] {
        for container in items(spec, containers) {
            set(container, "resources", json!({}));
            for port in items(container, "ports") {
                set(port, "protocol", "TCP");
            }
        }
    }
}

fn secret(object: &mut Value) {
    set(object, "type", "Opaque");
    let plain = object
        .as_object_mut()
        .and_then(|object| object.remove("stringData"));
    for (name, value) in plain.iter().filter_map(Value::as_object).flatten() {
        object["data"][name] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

fn webhooks(object: &mut Value) {
    for webhook in items(object, "webhooks") {
        set(webhook, "failurePolicy", "Fail");
        set(webhook, "matchPolicy", "Equivalent");
        set(webhook, "timeoutSeconds", 10);
        set(webhook, "namespaceSelector", json!({}));
        set(webhook, "objectSelector", json!({}));
        if let Some(service) = webhook.pointer_mut("/clientConfig/service") {
            set(service, "port", 443);
        }
        for rule in items(webhook, "rules") {
            set(rule, "scope", "*");
        }
    }
}
