//! The `weft-proxy` program, as the person at the command line meets it.

use assert_cmd::Command;
use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    process::Stdio,
    time::Duration,
};

const WHO: [&str; 4] = ["--namespace", "demo", "--pod", "user-0"];
const FREE_PORTS: [&str; 10] = [
    "--outbound-listen",
    "127.0.0.1:0",
    "--inbound-listen",
    "127.0.0.1:0",
    "--admin-listen",
    "127.0.0.1:0",
    "--metrics-listen",
    "127.0.0.1:0",
    "--health-listen",
    "127.0.0.1:0",
];

fn weft_proxy(args: &[&[&str]]) -> Command {
    let mut command = Command::cargo_bin("weft-proxy").unwrap();
    command
        .env_clear()
        .args(args.concat())
        .timeout(Duration::from_secs(20));
    command
}

/// Runs to a failure and returns its exit code and last words.
fn failure(args: &[&[&str]]) -> (Option<i32>, String) {
    let output = weft_proxy(args).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), words)
}

#[test]
fn help_lists_the_subcommands_and_the_flags_of_run() {
    let output = weft_proxy(&[&["--help"]]).output().unwrap();
    assert!(output.status.success());
    let help = String::from_utf8_lossy(&output.stdout);
    for word in [
        "init",
        "run",
        "--namespace",
        "--xds-address",
        "--drain-timeout",
    ] {
        assert!(help.contains(word), "{word} is not in\n{help}");
    }
}

#[test]
fn a_flag_that_does_not_exist_is_refused_with_a_hint() {
    let (code, words) = failure(&[&["--name-space", "demo"]]);
    assert_eq!(code, Some(2));
    assert!(words.contains("--namespace"), "{words}");
}

#[test]
fn a_missing_name_says_which_flag_and_variable_give_it() {
    let (code, words) = failure(&[&["run", "--namespace", "demo"]]);
    assert_eq!(code, Some(2));
    assert!(
        words.contains("--pod") && words.contains("WEFT_POD"),
        "{words}"
    );
}

#[test]
fn a_value_of_the_wrong_kind_names_the_flag() {
    for (flag, value) in [
        ("--drain-timeout", "soon"),
        ("--access-log", "sometimes"),
        ("--workers", "0"),
        ("--outbound-listen", "15001"),
        ("--log-level", "loud=loud"),
    ] {
        let (code, words) = failure(&[&WHO, &[flag, value]]);
        assert_eq!(code, Some(2), "{flag}: {words}");
        assert!(words.contains(flag) && words.contains(value), "{words}");
    }
}

#[test]
fn a_port_in_use_names_flag_address_and_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--outbound-listen", "--inbound-listen", "--admin-listen"] {
        let mut ports = FREE_PORTS;
        let at = ports.iter().position(|word| *word == flag).unwrap();
        ports[at + 1] = &address;
        let (code, words) = failure(&[&WHO, &ports]);
        assert_eq!(code, Some(1), "{flag}: {words}");
        for word in [flag, &*address, "another process listens there"] {
            assert!(words.contains(word), "{word} is not in {words}");
        }
    }
}

#[test]
fn sigterm_drains_and_ends_with_success() {
    let mut proxy = std::process::Command::new(assert_cmd::cargo::cargo_bin("weft-proxy"))
        .env_clear()
        .args(WHO)
        .args(FREE_PORTS)
        .args(["--drain-quiet", "1ms", "--log-format", "text"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(proxy.stderr.take().unwrap()).lines();
    assert!(log.any(|line| line.unwrap().contains("proxy started")));
    let pid = rustix::process::Pid::from_child(&proxy);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(log.any(|line| line.unwrap().contains("drained")));
    assert!(proxy.wait().unwrap().success());
}
