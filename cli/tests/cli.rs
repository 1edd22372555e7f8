//! `weft` as people run it. A demo starts a whole mesh, so that those here are short.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use assert_cmd::cargo::cargo_bin_cmd;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// Marks the processes of one test: they inherit it.
const MARK: &str = "WEFT_CLI_TEST";

#[test]
fn help_tells_of_the_demo_and_hides_what_the_demo_starts() {
    let output = cargo_bin_cmd!("weft").arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("demo"), "{help}");
    assert!(!help.contains("run-proxy"), "{help}");
}

#[test]
fn a_duration_without_a_unit_is_refused() {
    let output = cargo_bin_cmd!("weft")
        .args(["demo", "--duration", "30"])
        .output()
        .unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("--duration"), "{error}");
}

#[test]
fn a_demo_in_explicit_mode_is_good() {
    demo_is_good("explicit");
}

#[test]
fn a_demo_in_namespaces_is_good() {
    if namespaces_or_skip() {
        demo_is_good("namespaces");
    }
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    for mode in modes() {
        for interruption in [Signal::INT, Signal::TERM] {
            let temporary = tempfile::tempdir().unwrap();
            let demo = start(mode, "interrupted", temporary.path());
            signal(demo.id(), interruption);
            leaves_nothing(demo, "interrupted", temporary.path());
        }
    }
}

#[test]
fn a_demo_that_lost_a_process_fails_and_leaves_nothing_behind() {
    for mode in modes() {
        let temporary = tempfile::tempdir().unwrap();
        let demo = start(mode, "lost", temporary.path());
        let processes = marked("lost");
        let lost = processes.iter().find(|id| **id != demo.id()).unwrap();
        signal(*lost, Signal::KILL);
        leaves_nothing(demo, "lost", temporary.path());
    }
}

#[test]
fn a_killed_demo_takes_its_processes_along() {
    for mode in modes() {
        let temporary = tempfile::tempdir().unwrap();
        let mut demo = start(mode, "killed", temporary.path());
        assert!(marked("killed").len() > 14, "{mode}");
        signal(demo.id(), Signal::KILL);
        demo.wait().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !marked("killed").is_empty() {
            assert!(Instant::now() < deadline, "{mode}: {:?}", marked("killed"));
            std::thread::yield_now();
        }
    }
}

fn demo_is_good(mode: &str) {
    let temporary = tempfile::tempdir().unwrap();
    let output = cargo_bin_cmd!("weft")
        .args(["demo", "--duration", "6s", "--output", "json"])
        .args(["--rate", "50", "--mode", mode])
        .env("TMPDIR", temporary.path())
        .env(MARK, mode)
        .timeout(Duration::from_secs(90))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).expect(&said);
    assert_eq!(output.status.code(), Some(0), "{said}{summary:#}");
    assert_eq!(summary["ok"], json!(true));
    assert_eq!(summary["mode"], json!(mode));
    assert_eq!(summary["load"]["failed"], json!(0));
    let edges: Vec<_> = summary["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| {
            assert!(edge["requests"].as_u64() > Some(0), "{edge}");
            assert!(edge["p99_ms"].as_f64() > Some(0.0), "{edge}");
            (
                edge["source"].as_str().unwrap(),
                edge["destination"].as_str().unwrap(),
                edge["protocol"].as_str().unwrap(),
                edge["success"].as_f64(),
                edge["mtls"].as_bool(),
            )
        })
        .collect();
    assert_eq!(
        edges,
        [
            ("load", "order", "http", Some(1.0), Some(true)),
            ("order", "user", "http", Some(1.0), Some(true)),
            ("order", "product", "grpc", Some(1.0), Some(true)),
        ]
    );
    let events: Vec<_> = summary["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event["what"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        ["user-1 is leaving", "user-1 is gone", "user-1 is back"]
    );
    assert_eq!(marked(mode), Vec::<u32>::new());
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}

/// The modes that can be tried here.
fn modes() -> Vec<&'static str> {
    let mut modes = vec!["explicit"];
    if namespaces_or_skip() {
        modes.push("namespaces");
    }
    modes
}

/// Whether there can be namespaces. Without them a test is skipped aloud, or fails where everything is required.
fn namespaces_or_skip() -> bool {
    match weft_cli::sandbox::available() {
        Ok(()) => true,
        Err(unavailable) if std::env::var("WEFT_TEST_REQUIRE").is_ok_and(|v| v == "all") => {
            panic!("WEFT_TEST_REQUIRE=all, but no namespaces: {unavailable}")
        }
        Err(unavailable) => {
            // Past the test harness's capture: a skipped test has to be seen.
            let notice = format!("skipped, no namespaces: {unavailable}\n");
            let _ = std::io::stderr().write_all(notice.as_bytes());
            false
        }
    }
}

/// Starts a demo and waits until it drives load.
fn start(mode: &str, mark: &str, temporary: &Path) -> Child {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["demo", "--duration", "60s", "--mode", mode])
        .env("TMPDIR", temporary)
        .env(MARK, mark)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let drives = lines.map(Result::unwrap).any(|line| {
        said.push(line);
        said.last()
            .is_some_and(|line| line.contains("driving load"))
    });
    assert!(drives, "{:?}, {said:#?}", demo.wait());
    demo
}

/// Waits for a demo to fail, and looks for what is left of it.
fn leaves_nothing(mut demo: Child, mark: &str, temporary: &Path) {
    assert_eq!(demo.wait().unwrap().code(), Some(1));
    assert_eq!(marked(mark), Vec::<u32>::new());
    let left: Vec<_> = fs::read_dir(temporary).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

fn signal(process: u32, signal: Signal) {
    let id = Pid::from_raw(process.cast_signed()).unwrap();
    kill_process(id, signal).unwrap();
}

/// The running processes with a mark.
fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let of_process = |entry: fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let environment = fs::read(entry.path().join("environ")).ok()?;
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
            .then_some(id)
    };
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| of_process(entry.unwrap()))
        .collect()
}
