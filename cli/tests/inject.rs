//! `weft inject`, as people run it.

use assert_cmd::cargo::cargo_bin_cmd;
use std::fs;

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: user, namespace: demo}
spec:
  template:
    spec: {containers: [{name: app, image: user:1}]}
";

/// Exit code, standard output and standard error.
fn inject(args: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let mut command = cargo_bin_cmd!("weft");
    let output = command.arg("inject").args(args).write_stdin(stdin).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn manifests_from_standard_input_and_files_get_sidecars() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("service.yaml");
    let service = "apiVersion: v1\nkind: Service # as it is\nmetadata: {name: user}\n";
    fs::write(&file, service).unwrap();
    let files = ["-f", "-", "--filename", file.to_str().unwrap()];
    let (code, stdout, stderr) = inject(&files, DEPLOYMENT);
    assert_eq!(
        (code, &*stderr),
        (Some(0), "Deployment demo/user: injected\n")
    );
    let (deployment, rest) = stdout.split_once("---\n").unwrap();
    assert!(deployment.contains("name: weft-proxy"), "{stdout}");
    assert!(deployment.contains("restartPolicy: Always"), "{stdout}");
    assert_eq!(rest, service);

    let (code, again, stderr) = inject(&["-f", "-"], deployment);
    assert_eq!((code, &*again), (Some(0), deployment));
    assert!(
        stderr.contains("left alone: it has its sidecar already"),
        "{stderr}"
    );
}

#[test]
fn settings_and_flags_count() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    fs::write(&config, "image: of-the-file\nlogLevel: warn\n").unwrap();
    let config = config.to_str().unwrap();
    let flags = [
        "-f",
        "-",
        "--injector-config",
        config,
        "--image",
        "of-the-flag",
        "--xds-address",
        "10.0.0.1:15012",
        "--kubernetes-version",
        "v1.28.9",
    ];
    let (code, stdout, stderr) = inject(&flags, DEPLOYMENT);
    assert_eq!(code, Some(0), "{stderr}");
    for words in ["image: of-the-flag", "value: warn", "10.0.0.1:15012"] {
        assert!(stdout.contains(words), "{stdout}");
    }
    assert!(!stdout.contains("restartPolicy: Always"), "{stdout}");
}

#[test]
fn a_mistake_is_told_and_nothing_printed() {
    let broken = DEPLOYMENT.replace("image: user:1", "ports: [{containerPort: 15006}]");
    let (code, stdout, stderr) = inject(&["-f", "-"], &broken);
    assert_eq!((code, &*stdout), (Some(1), ""));
    assert!(
        stderr.contains("Deployment demo/user: spec.template.spec.containers[0].ports[0]"),
        "{stderr}"
    );
    let (code, _, stderr) = inject(&["-f", "nowhere.yaml"], "");
    assert_eq!(code, Some(1));
    assert!(stderr.contains("cannot read nowhere.yaml"), "{stderr}");
    let (code, _, stderr) = inject(&["-f", "-", "--xds-address", "nowhere"], DEPLOYMENT);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("host:port"), "{stderr}");
    assert_eq!(inject(&[], "").0, Some(2));
}
