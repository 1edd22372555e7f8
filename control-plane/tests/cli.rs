//! The program as an operator meets it. Being here, it also gets built by `cargo test --workspace`.

use std::{fs, net::TcpListener, path::Path, process::Command};

use assert_cmd::assert::OutputAssertExt as _;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weft-control-plane"))
}

/// The program over a directory, with everything that it keeps below.
fn in_directory(dir: &Path) -> Command {
    let mut command = program();
    command.arg("--config-dir").arg(dir);
    command.arg("--ca-dir").arg(dir.join("ca"));
    command
}

fn on_any_port(command: &mut Command) -> &mut Command {
    command
        .args(["--xds-address", "127.0.0.1:0"])
        .args(["--monitoring-address", "127.0.0.1:0"])
}

/// Runs a command that must fail, and gives what it says.
fn complaint(command: &mut Command) -> String {
    let output = command.assert().failure().get_output().clone();
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn help_names_every_command() {
    let output = program().arg("--help").assert().success();
    let help = String::from_utf8(output.get_output().stdout.clone()).unwrap();
    for word in ["run", "token", "crds", "--ca-dir", "WEFT_XDS_ADDRESS"] {
        assert!(help.contains(word), "{word} is missing in {help}");
    }
}

#[test]
fn a_port_in_use_is_reported_with_flag_and_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let flags = [
        "--xds-address",
        "--plaintext-xds-address",
        "--monitoring-address",
    ];
    for at_fault in flags {
        let mut command = in_directory(dir.path());
        for flag in flags {
            let address = if flag == at_fault {
                &taken
            } else {
                "127.0.0.1:0"
            };
            command.args([flag, address]);
        }
        let complaint = complaint(&mut command);
        for part in [at_fault, &taken, "in use"] {
            assert!(complaint.contains(part), "{complaint}");
        }
    }
    assert!(!dir.path().join("ca").exists(), "nothing was written");
}

#[test]
fn a_corrupt_root_is_reported_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("ca/ca-key.pem");
    fs::create_dir(dir.path().join("ca")).unwrap();
    fs::write(&key, "garbage").unwrap();
    let complaint = complaint(on_any_port(&mut in_directory(dir.path())));
    assert!(
        complaint.contains(key.to_str().unwrap()) && complaint.contains("restore it"),
        "{complaint}"
    );
}

#[test]
fn a_missing_configuration_directory_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let mut command = program();
    command.arg("--ca-dir").arg(dir.path());
    command.arg("--config-dir").arg(&missing);
    let complaint = complaint(on_any_port(&mut command));
    assert!(
        complaint.contains("--config-dir") && complaint.contains(missing.to_str().unwrap()),
        "{complaint}"
    );
}

#[test]
fn a_token_needs_the_directory_of_a_control_plane() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program();
    command
        .args(["token", "--namespace", "demo", "--service-account", "user"])
        .args(["--pod", "user-0", "--ca-dir"])
        .arg(dir.path());
    let complaint = complaint(&mut command);
    assert!(complaint.contains("join-token-key"), "{complaint}");
}

#[test]
fn a_bad_value_is_refused_with_an_example() {
    for (flag, value, example) in [
        ("--trust-domain", "Not A Host", "cluster.local"),
        ("--max-leaf-ttl", "soon", "24h"),
    ] {
        let complaint = complaint(program().args([flag, value]));
        assert!(
            complaint.contains(flag) && complaint.contains(example),
            "{complaint}"
        );
    }
}
