use super::*;
use serde_json::json;

fn refusal(value: Value) -> (String, String, String) {
    let outcome = object(value, "cluster.local");
    match outcome.verdict {
        Verdict::Refused { invalid, .. } => (outcome.name, invalid.field, invalid.reason),
        other => panic!("{}: {other:?}", outcome.name),
    }
}

fn slice(field: &str, value: Value) -> Value {
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a", "namespace": "demo", "labels": {"kubernetes.io/service-name": "a"}},
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{"addresses": ["10.0.0.1"]}],
    });
    *slice.pointer_mut(field).unwrap() = value;
    slice
}

fn service(spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "demo"}, "spec": spec})
}

fn pod(annotations: Value, rest: Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "a", "namespace": "demo", "annotations": annotations},
    });
    pod.as_object_mut()
        .unwrap()
        .extend(rest.as_object().unwrap().clone());
    pod
}

fn mesh(spec: Value) -> Value {
    json!({"apiVersion": "weft.dev/v1alpha1", "kind": "MeshConfig", "metadata": {"name": "default"}, "spec": spec})
}

#[test]
fn what_is_wrong_is_told_with_its_object_and_field() {
    let cases = [
        (json!([]), "an object", "", "not a mapping"),
        (json!({"apiVersion": "v1"}), "an object", "kind", "missing"),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": 5}}),
            "Pod",
            "metadata.name",
            "quotes",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a.b"}}),
            "Service a.b",
            "metadata.name",
            "RFC 1123",
        ),
        (
            json!({"apiVersion": "v1", "kind": "EndpointSlice", "metadata": {"name": "a"}}),
            "EndpointSlice default/a",
            "apiVersion",
            "write discovery.k8s.io/v1",
        ),
        (
            slice("/endpoints/0/addresses/0", json!("10.0.0.256")),
            "EndpointSlice demo/a",
            "endpoints[0].addresses[0]",
            "not an IP address",
        ),
        (
            slice("/endpoints/0/addresses/0", json!("fd00::1")),
            "EndpointSlice demo/a",
            "endpoints[0].addresses[0]",
            "addressType",
        ),
        (
            slice("/endpoints/0/addresses", json!([])),
            "EndpointSlice demo/a",
            "endpoints[0].addresses",
            "empty",
        ),
        (
            slice("/ports/0/port", json!(0)),
            "EndpointSlice demo/a",
            "ports[0].port",
            "1 to 65535",
        ),
        (
            slice("/addressType", json!("FQDN")),
            "EndpointSlice demo/a",
            "addressType",
            "write IPv4 or IPv6",
        ),
        (
            slice("/metadata/labels", json!({})),
            "EndpointSlice demo/a",
            "metadata.labels[\"kubernetes.io/service-name\"]",
            "missing",
        ),
        (
            service(json!({"clusterIP": "10.96.0"})),
            "Service demo/a",
            "spec.clusterIP",
            "not an IP address",
        ),
        (
            service(json!({"clusterIPs": ["None", "x"]})),
            "Service demo/a",
            "spec.clusterIPs[1]",
            "not an IP address",
        ),
        (
            service(json!({"ports": [{"port": 1}, {"port": 2}]})),
            "Service demo/a",
            "spec.ports[0].name",
            "need names",
        ),
        (
            service(json!({"ports": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]})),
            "Service demo/a",
            "spec.ports[1].port",
            "another port",
        ),
        (
            service(json!({"ports": [{"port": "http"}]})),
            "Service demo/a",
            "spec.ports[0].port",
            "invalid type",
        ),
        (
            service(json!({"ports": [{"port": 1, "protocol": "tcp"}]})),
            "Service demo/a",
            "spec.ports[0].protocol",
            "write TCP",
        ),
        (
            pod(json!({"weft.dev/mtls-mode": "strict"}), json!({})),
            "Pod demo/a",
            "metadata.annotations[\"weft.dev/mtls-mode\"]",
            "write Permissive or Strict",
        ),
        (
            pod(json!({"weft.dev/mtls-mode-ports": "80:Strict"}), json!({})),
            "Pod demo/a",
            "metadata.annotations[\"weft.dev/mtls-mode-ports\"]",
            "write 8080=Strict",
        ),
        (
            pod(json!({"weft.dev/mtls-port": "Strict"}), json!({})),
            "Pod demo/a",
            "metadata.annotations[\"weft.dev/mtls-port\"]",
            "weft.dev/mtls-mode-ports",
        ),
        (
            pod(json!({}), json!({"status": {"podIPs": [{"ip": "x"}]}})),
            "Pod demo/a",
            "status.podIPs[0].ip",
            "not an IP address",
        ),
        (
            pod(
                json!({}),
                json!({"spec": {"containers": [], "serviceAccountName": "a/b"}}),
            ),
            "Pod demo/a",
            "spec.serviceAccountName",
            "SPIFFE",
        ),
        (
            mesh(json!({"mtls": {"mod": "Strict"}})),
            "MeshConfig default",
            "spec.mtls.mod",
            "unknown field",
        ),
        (
            mesh(json!({"defaults": {"requestTimeout": 15}})),
            "MeshConfig default",
            "spec.defaults.requestTimeout",
            "invalid type",
        ),
        (
            mesh(json!({"defaults": {"connectTimeout": "0s"}})),
            "MeshConfig default",
            "spec.defaults.connectTimeout",
            "0s",
        ),
        (
            mesh(json!({"defaults": {"limits": {"pending": 0}}})),
            "MeshConfig default",
            "spec.defaults.limits.pending",
            "nonzero",
        ),
    ];
    for (value, name, field, reason) in cases {
        let (found_name, found_field, found_reason) = refusal(value.clone());
        assert_eq!(
            (found_name.as_str(), found_field.as_str()),
            (name, field),
            "{value}: {found_reason}"
        );
        assert!(
            found_reason.to_lowercase().contains(&reason.to_lowercase()),
            "{value}: {found_reason:?} does not say {reason:?}"
        );
    }
}

#[test]
fn another_name_for_a_host_outside_is_a_service_as_far_as_it_names_ports() {
    let external = |spec: Value| {
        let mut all = json!({"type": "ExternalName", "externalName": "DB.example."});
        all.as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        object(service(all), "cluster.local").verdict
    };
    let Verdict::Accepted(Object::Service(service)) = external(json!({"ports": [{"port": 5432}]}))
    else {
        panic!("it was not accepted");
    };
    assert_eq!(service.external_name.as_deref(), Some("db.example"));
    assert!(service.addresses.is_empty());
    assert_eq!(service.ports[0].port, 5432);
    assert_eq!(external(json!({})), Verdict::Unused);
    for bad in ["", "192.0.2.1", "db example"] {
        let (_, field, _) = refusal(self::service(
            json!({"type": "ExternalName", "externalName": bad, "ports": [{"port": 80}]}),
        ));
        assert_eq!(field, "spec.externalName", "{bad}");
    }
}

#[test]
fn pods_that_ended_have_no_addresses() {
    let ended = pod(
        json!({}),
        json!({"status": {"phase": "Succeeded", "podIP": "10.0.0.1"}}),
    );
    let Verdict::Accepted(Object::Workload(workload)) = object(ended, "cluster.local").verdict
    else {
        panic!("it was not accepted");
    };
    assert!(workload.addresses.is_empty());
}

#[test]
fn a_workload_is_named_after_what_controls_it_else_after_its_labels() {
    let named = |metadata: Value| {
        let mut value = pod(json!({}), json!({}));
        let own = value["metadata"].as_object_mut().unwrap();
        own.extend(metadata.as_object().unwrap().clone());
        match object(value, "cluster.local").verdict {
            Verdict::Accepted(Object::Workload(workload)) => workload.name.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let owned = |kind: &str, name: &str| json!({"ownerReferences": [{"apiVersion": "v1", "kind": kind, "name": name, "uid": "1", "controller": true}]});
    for (metadata, expected) in [
        (owned("ReplicaSet", "user-api-5d8f6c7b9"), "user-api"),
        (owned("StatefulSet", "db"), "db"),
        (owned("Job", "backup-29012345"), "backup"),
        (owned("Job", "migrate-2"), "migrate-2"),
        (owned("Node", "worker-1"), "a"),
        (
            json!({"labels": {"app": "x", "app.kubernetes.io/name": "y"}}),
            "y",
        ),
        (json!({"labels": {"app": "x"}}), "x"),
        (json!({}), "a"),
    ] {
        assert_eq!(named(metadata.clone()), expected, "{metadata}");
    }
}

#[test]
fn the_weight_of_a_pod_is_an_annotation_and_a_malformed_one_leaves_the_pod_in_the_mesh() {
    let verdict = |weight: &str| {
        let annotations = json!({"weft.dev/weight": weight, "weft.dev/mtls-mode": "Strict"});
        object(pod(annotations, json!({})), "cluster.local").verdict
    };
    let weight = |object: &Object| match object {
        Object::Workload(workload) => (workload.weight.get(), workload.mtls),
        other => panic!("{other:?}"),
    };
    let Verdict::Accepted(accepted) = verdict("1000") else {
        panic!("it was not accepted");
    };
    assert_eq!(weight(&accepted), (1000, Some(MtlsMode::Strict)));
    for malformed in ["0", "1001", "-1", "1.5", "heavy", ""] {
        let Verdict::Refused { invalid, instead } = verdict(malformed) else {
            panic!("{malformed:?} was accepted");
        };
        assert_eq!(invalid.field, "metadata.annotations[\"weft.dev/weight\"]");
        let instead = instead.unwrap();
        assert_eq!(weight(&instead.object), (1, Some(MtlsMode::Strict)));
        assert_eq!(instead.consequence, "until it is mended, its weight is 1");
    }
}
