//! Pods that cannot get a sidecar as they are.

use super::*;

fn refused(pod: &str) -> Invalid {
    inject(&yaml(pod), &DEMO, &Settings::default()).unwrap_err()
}

#[test]
fn what_cannot_work_is_refused_with_the_field() {
    for (pod, field, word) in [
        ("spec: {}", "spec.containers", "containers"),
        (
            "spec: {containers: [{name: app, ports: [{containerPort: x}]}]}",
            "spec.containers[0].ports[0].containerPort",
            "u16",
        ),
        (
            "spec: {containers: [{name: app}, {name: weft-proxy}]}",
            "spec.containers[1].name",
            "opt out",
        ),
        (
            "spec: {initContainers: [{name: weft-init}], containers: [{name: app}]}",
            "spec.initContainers[0].name",
            "choose another",
        ),
        (
            "spec: {volumes: [{name: weft-token}], containers: [{name: app}]}",
            "spec.volumes[0].name",
            "choose another",
        ),
        (
            "spec: {containers: [{name: app, ports: [{containerPort: 80}, {containerPort: 15020}]}]}",
            "spec.containers[0].ports[1].containerPort",
            "metrics port",
        ),
        (
            "spec: {containers: [{name: app, securityContext: {runAsUser: 1337}}]}",
            "spec.containers[0].securityContext.runAsUser",
            "bypass",
        ),
        (
            "spec: {securityContext: {runAsUser: 1337}, containers: [{name: app}]}",
            "spec.securityContext.runAsUser",
            "bypass",
        ),
        (
            "spec: {dnsPolicy: Default, containers: [{name: app}]}",
            "spec.dnsPolicy",
            "ClusterFirst",
        ),
        (
            "spec: {containers: [{name: app, readinessProbe: {httpGet: {port: web}}}]}",
            "spec.containers[0].readinessProbe.httpGet.port",
            "\"web\"",
        ),
        (
            "{metadata: {annotations: {weft.dev/inject: maybe}}, spec: {containers: [{name: app}]}}",
            "metadata.annotations[\"weft.dev/inject\"]",
            "\"true\"",
        ),
        (
            "{metadata: {labels: {weft.dev/inject: 'true'}, annotations: {weft.dev/inject: 'false'}}, \
             spec: {containers: [{name: app}]}}",
            "metadata.annotations[\"weft.dev/inject\"]",
            "label",
        ),
        (
            "{metadata: {annotations: {weft.dev/mtls-mode: Lax}}, spec: {containers: [{name: app}]}}",
            "metadata.annotations[\"weft.dev/mtls-mode\"]",
            "Strict",
        ),
        (
            "{metadata: {annotations: {weft.dev/proxy-cpu-request: '2', weft.dev/proxy-cpu-limit: '1'}}, \
             spec: {containers: [{name: app}]}}",
            "metadata.annotations[\"weft.dev/proxy-cpu-limit\"]",
            "request",
        ),
    ] {
        let invalid = refused(pod);
        assert_eq!(invalid.field, field, "{pod}: {invalid}");
        assert!(invalid.reason.contains(word), "{pod}: {invalid}");
    }
}

#[test]
fn more_ports_than_interception_takes_are_refused() {
    let ports: Vec<_> = (1..=257).map(|port: u16| port.to_string()).collect();
    let pod = json!({
        "metadata": {"annotations": {"weft.dev/skip-inbound-ports": ports.join(",")}},
        "spec": {"containers": [{"name": "app"}]},
    });
    let invalid = inject(&pod, &DEMO, &Settings::default()).unwrap_err();
    assert!(invalid.reason.contains("257"), "{invalid}");
}

#[test]
fn ports_of_udp_and_users_of_their_own_collide_with_nothing() {
    let pod = "
      spec:
        securityContext: {runAsUser: 1337}
        containers:
        - name: app
          securityContext: {runAsUser: 1000}
          ports: [{containerPort: 15020, protocol: UDP}]
    ";
    patched(&yaml(pod), &DEMO, &Settings::default());
}

#[test]
fn a_container_that_came_later_is_looked_at_too() {
    let mut pod = patched(
        &yaml("spec: {containers: [{name: app}]}"),
        &DEMO,
        &Settings::default(),
    );
    let late = json!({"name": "late", "ports": [{"containerPort": 15006}]});
    pod["spec"]["containers"].as_array_mut().unwrap().push(late);
    let invalid = inject(&pod, &DEMO, &Settings::default()).unwrap_err();
    assert_eq!(invalid.field, "spec.containers[1].ports[0].containerPort");
}
