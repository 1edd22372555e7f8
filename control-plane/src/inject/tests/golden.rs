//! Pods beside what becomes of them: `pods/<name>.yaml` holds settings and a pod, the snapshot all of the
//! pod with its sidecar.

use super::*;

macro_rules! golden {
    ($($name:ident: $file:literal),+ $(,)?) => {
        $(
            #[test]
            fn $name() {
                check($file, include_str!(concat!("pods/", $file, ".yaml")));
            }
        )+
    };
}

golden! {
    a_pod_of_a_deployment_gets_a_native_sidecar: "deployment",
    probes_and_hooks_are_brought_to_the_proxy: "probes",
    an_ordinary_container_on_request: "plain-job",
    a_restricted_pod_with_a_cni_plugin: "restricted",
    annotations_of_a_pod_count: "annotated",
    scrape_annotations_of_its_own_stay: "scraped",
    settings_of_the_injector_count: "configured",
    without_limits_workers_are_those_of_the_settings: "unlimited",
    a_limit_pulls_the_request_with_it: "contradicted",
    processes_may_be_shared: "shared-processes",
    a_bare_template_is_enough: "bare-template",
    what_a_newer_kubernetes_has_stays: "newer-kubernetes",
}

fn check(name: &str, case: &str) {
    let (settings, pod) = case.split_once("---\n").unwrap();
    let settings = Settings::parse(settings).unwrap();
    let pod = patched(&yaml(pod), &DEMO, &settings);
    assert_eq!(
        inject(&pod, &DEMO, &settings),
        Ok(Outcome::Left(Left::Injected)),
        "a second pass"
    );
    let mut shown = serde_saphyr::to_string(&pod).unwrap();
    // A release alone changes no golden file.
    let version = env!("CARGO_PKG_VERSION");
    shown = shown.replace(&format!("weft-proxy:{version}"), "weft-proxy:<version>");
    shown = shown.replace(&format!("injected: \"{version}\""), "injected: <version>");
    insta::assert_snapshot!(name, shown);
}

#[test]
fn the_age_of_the_cluster_decides_unless_somebody_does() {
    let is_native = |annotation: &str, setting: &str, native_sidecars: bool| {
        let pod = yaml(&format!(
            "{{metadata: {{annotations: {annotation}}}, spec: {{containers: [{{name: app}}]}}}}"
        ));
        let settings = Settings::parse(&format!("nativeSidecar: {setting}")).unwrap();
        let place = Place {
            native_sidecars,
            ..DEMO
        };
        let pod = patched(&pod, &place, &settings);
        pod["spec"]["initContainers"][1]["name"] == PROXY
    };
    assert!(is_native("{}", "Auto", true));
    assert!(!is_native("{}", "Auto", false));
    assert!(is_native("{}", "Always", false));
    assert!(!is_native("{}", "Never", true));
    assert!(!is_native(
        "{weft.dev/native-sidecar: 'false'}",
        "Always",
        true
    ));
    assert!(is_native(
        "{weft.dev/native-sidecar: 'true'}",
        "Never",
        false
    ));
}
