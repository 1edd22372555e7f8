use super::*;
use proptest::prelude::*;
use serde_json::json;

mod golden;
mod refused;

/// In namespace `demo` of a cluster with native sidecars.
const DEMO: Place<'static> = Place {
    namespace: "demo",
    workload: None,
    native_sidecars: true,
};

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

fn patched(pod: &Value, place: &Place<'_>, settings: &Settings) -> Value {
    match inject(pod, place, settings).unwrap() {
        Outcome::Patched(pod) => pod,
        Outcome::Left(left) => panic!("left alone: {left}"),
    }
}

#[test]
fn a_pod_is_left_alone_for_a_reason() {
    let left = |pod: &str, place: &Place<'_>| match inject(&yaml(pod), place, &Settings::default())
        .unwrap()
    {
        Outcome::Left(left) => Some(left),
        Outcome::Patched(_) => None,
    };
    let containers = "containers: [{name: app}]";
    for (pod, reason) in [
        (format!("spec: {{{containers}}}"), None),
        (
            format!(
                "{{metadata: {{labels: {{weft.dev/inject: 'false'}}}}, spec: {{{containers}}}}}"
            ),
            Some(Left::OptedOut),
        ),
        (
            format!(
                "{{metadata: {{annotations: {{weft.dev/inject: disabled}}}}, spec: {{{containers}}}}}"
            ),
            Some(Left::OptedOut),
        ),
        (
            format!(
                "{{metadata: {{annotations: {{kubernetes.io/config.mirror: x}}}}, spec: {{{containers}}}}}"
            ),
            Some(Left::Mirror),
        ),
        (
            format!("spec: {{hostNetwork: true, {containers}}}"),
            Some(Left::HostNetwork),
        ),
        (
            format!("spec: {{os: {{name: windows}}, {containers}}}"),
            Some(Left::Windows),
        ),
        (
            format!("spec: {{nodeSelector: {{kubernetes.io/os: windows}}, {containers}}}"),
            Some(Left::Windows),
        ),
    ] {
        assert_eq!(left(&pod, &DEMO), reason, "{pod}");
    }
    let system = Place {
        namespace: "kube-system",
        ..DEMO
    };
    let pod = format!("spec: {{{containers}}}");
    assert_eq!(left(&pod, &system), Some(Left::SystemNamespace));
}

/// Webhooks are called again when a later one has changed the pod.
#[test]
fn the_probe_of_a_container_that_came_later_is_brought_to_the_proxy_as_well() {
    let pod = yaml("spec: {containers: [{name: app, livenessProbe: {httpGet: {port: 80}}}]}");
    let mut pod = patched(&pod, &DEMO, &Settings::default());
    let late = json!({"name": "late", "readinessProbe": {"tcpSocket": {"port": 90}}});
    pod["spec"]["containers"].as_array_mut().unwrap().push(late);
    let pod = patched(&pod, &DEMO, &Settings::default());
    let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
    let probes = env.iter().find(|v| v["name"] == "WEFT_APP_PROBES").unwrap();
    assert_eq!(
        yaml(probes["value"].as_str().unwrap()),
        json!({
            "app": {"livez": {"httpGet": {"port": 80}}},
            "late": {"readyz": {"tcpSocket": {"port": 90}}},
        })
    );
    assert_eq!(
        pod["spec"]["containers"][1]["readinessProbe"],
        json!({"httpGet": {"path": "/app-health/late/readyz", "port": 15021, "scheme": "HTTP"}})
    );
    assert_eq!(
        inject(&pod, &DEMO, &Settings::default()),
        Ok(Outcome::Left(Left::Injected))
    );
}

#[test]
fn a_proxy_without_probes_learns_of_the_first() {
    let pod = yaml("spec: {containers: [{name: app}]}");
    let mut pod = patched(&pod, &DEMO, &Settings::default());
    pod["spec"]["containers"][0]["livenessProbe"] = json!({"grpc": {"port": 90}});
    let pod = patched(&pod, &DEMO, &Settings::default());
    let env = pod["spec"]["initContainers"][1]["env"].as_array().unwrap();
    let value = r#"{"app":{"livez":{"grpc":{"port":90}}}}"#;
    assert_eq!(
        env.last().unwrap(),
        &json!({"name": "WEFT_APP_PROBES", "value": value})
    );
}

fn handler() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        (1..14_000_u16).prop_map(|port| json!(port)),
        Just(json!("http"))
    ];
    let host = prop_oneof![Just(json!({})), Just(json!({"host": "192.0.2.1"}))];
    (port, host, 0..4_u8).prop_map(|(port, mut asked, kind)| {
        asked["port"] = port;
        match kind {
            0 => json!({"httpGet": asked, "timeoutSeconds": 2}),
            1 => json!({"tcpSocket": asked}),
            2 => json!({"grpc": {"port": 90}}),
            _ => json!({"exec": {"command": ["true"]}}),
        }
    })
}

fn container() -> impl Strategy<Value = Value> {
    let probe = || prop::option::of(handler());
    ("[a-z]{1,8}", probe(), probe(), probe(), probe()).prop_map(
        |(name, live, ready, startup, stop)| {
            json!({
                "name": name,
                "ports": [{"name": "http", "containerPort": 8080}],
                "livenessProbe": live,
                "readinessProbe": ready,
                "startupProbe": startup,
                "lifecycle": {"preStop": stop},
            })
        },
    )
}

fn pod() -> impl Strategy<Value = Value> {
    let containers = |least| prop::collection::vec(container(), least..4);
    (containers(1), containers(0), any::<bool>()).prop_map(|(containers, init, native)| {
        json!({
            "metadata": {"annotations": {"weft.dev/native-sidecar": native.to_string()}},
            "spec": {"containers": containers, "initContainers": init},
        })
    })
}

proptest! {
    #[test]
    fn a_second_pass_changes_nothing(pod in pod()) {
        let once = patched(&pod, &DEMO, &Settings::default());
        prop_assert_eq!(
            inject(&once, &DEMO, &Settings::default()),
            Ok(Outcome::Left(Left::Injected))
        );
    }

    #[test]
    fn the_patch_makes_of_the_pod_what_was_meant(pod in pod()) {
        let meant = patched(&pod, &DEMO, &Settings::default());
        let mut applied = pod.clone();
        json_patch::patch(&mut applied, &json_patch::diff(&pod, &meant)).unwrap();
        prop_assert_eq!(applied, meant);
    }
}
