use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use super::*;

/// Whether the sandbox is there. A test without it is skipped aloud, or fails where everything is required.
fn sandbox_or_skip() -> bool {
    match available() {
        Ok(()) => true,
        Err(unavailable) if std::env::var("WEFT_TEST_REQUIRE").is_ok_and(|v| v == "all") => {
            panic!("WEFT_TEST_REQUIRE=all, but no sandbox: {unavailable}")
        }
        Err(unavailable) => {
            // Past the test harness's capture: a skipped test has to be seen.
            let notice = format!("skipped, no sandbox: {unavailable}\n");
            let _ = std::io::stderr().write_all(notice.as_bytes());
            false
        }
    }
}

#[test]
fn pods_reach_each_other_over_both_ip_versions() {
    if !sandbox_or_skip() {
        return;
    }
    let network = Network::new().unwrap();
    let (client, server) = (
        network.pod("client").unwrap(),
        network.pod("server").unwrap(),
    );
    for address in [IpAddr::V4(server.ipv4()), IpAddr::V6(server.ipv6())] {
        let listener = server.enter(|| TcpListener::bind((address, 0)).unwrap());
        let destination = listener.local_addr().unwrap();
        let mut dialled = client.enter(|| TcpStream::connect(destination).unwrap());
        dialled.write_all(b"hello").unwrap();
        drop(dialled);
        let (mut accepted, _) = listener.accept().unwrap();
        let mut text = String::new();
        accepted.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
}

#[test]
fn an_address_that_nobody_has_is_refused_by_the_node() {
    if !sandbox_or_skip() {
        return;
    }
    let network = Network::new().unwrap();
    let pod = network.pod("client").unwrap();
    let nobody: SocketAddr = "10.96.0.1:80".parse().unwrap();
    let error = pod
        .enter(|| TcpStream::connect_timeout(&nobody, Duration::from_secs(5)))
        .unwrap_err();
    assert!(
        matches!(
            error.kind(),
            std::io::ErrorKind::NetworkUnreachable | std::io::ErrorKind::HostUnreachable
        ),
        "{error}"
    );
}

#[test]
fn a_pod_whose_cable_is_pulled_is_silent_until_it_is_plugged_in_again() {
    if !sandbox_or_skip() {
        return;
    }
    let network = Network::new().unwrap();
    let (client, server) = (
        network.pod("client").unwrap(),
        network.pod("server").unwrap(),
    );
    let listener = server.enter(|| TcpListener::bind((server.ipv4(), 0)).unwrap());
    let address = listener.local_addr().unwrap();
    let dial = || client.enter(|| TcpStream::connect_timeout(&address, Duration::from_millis(200)));
    server.link_down().unwrap();
    assert!(dial().is_err());
    server.link_up().unwrap();
    client.enter(|| TcpStream::connect(address)).unwrap();
}

#[test]
fn a_process_runs_inside_its_pod_as_the_wanted_user() {
    if !sandbox_or_skip() {
        return;
    }
    let network = Network::new().unwrap();
    let pod = network.pod("user-0").unwrap();
    let script =
        "id -u; id -g; id -G; readlink /proc/self/ns/net; cat /proc/self/status | grep CapEff";
    let child = pod
        .command("sh")
        .args(["-c", script])
        .uid(1000)
        .spawn()
        .unwrap();
    let namespace = pod.enter(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    wait(&child);
    assert_eq!(
        child.log(),
        format!(
            "1000\n1000\n1000\n{}\nCapEff:\t0000000000000000\n",
            namespace.display()
        )
    );
}

#[test]
fn a_program_in_a_closed_directory_runs_as_another_user() {
    if !sandbox_or_skip() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("true");
    std::fs::copy("/bin/true", &program).unwrap();
    let child = Command::new(&program).uid(1000).spawn().unwrap();
    assert!(wait(&child).success(), "{}", child.log());
}

#[test]
fn a_dropped_child_takes_its_own_children_along() {
    if !sandbox_or_skip() {
        return;
    }
    let child = Command::new("sh")
        .args(["-c", "sleep 1000 & echo $!; wait"])
        .spawn()
        .unwrap();
    let grandchild = loop {
        if let Some(pid) = child.log().lines().next() {
            break pid.to_owned();
        }
        std::thread::yield_now();
    };
    drop(child);
    until(|| !is_running(&grandchild));
}

#[test]
fn a_task_gives_its_result_and_a_dropped_one_is_cancelled() {
    if !sandbox_or_skip() {
        return;
    }
    let network = Network::new().unwrap();
    let pod = network.pod("load").unwrap();
    assert_eq!(pod.run(|| async { 7 }).join(), 7);

    let (dropped, seen) = std::sync::mpsc::channel::<()>();
    let task = pod.run(move || async move {
        let _held = dropped;
        std::future::pending::<()>().await;
    });
    drop(task);
    assert!(seen.recv().is_err(), "the future was dropped");
}

#[test]
fn the_kernel_ends_children_whose_parent_is_killed() {
    if !sandbox_or_skip() {
        return;
    }
    const ROLE: &str = "WEFT_SANDBOX_TEST_PARENT";
    let name = "sandbox::tests::the_kernel_ends_children_whose_parent_is_killed";
    if std::env::var_os(ROLE).is_some() {
        let network = Network::new().unwrap();
        let pod = network.pod("user-0").unwrap();
        let child = pod.command("sleep").arg("1000").uid(1337).spawn().unwrap();
        let namespace = pod.enter(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
        let line = format!("\nSTARTED {} {}\n", child.id(), namespace.display());
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        // What ran on scoped threads has left a token, with which a single park would return.
        loop {
            std::thread::park();
        }
    }
    let parent = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(ROLE, "1")
        .spawn()
        .unwrap();
    let started = loop {
        let log = parent.log();
        let line = log.lines().find_map(|l| l.strip_prefix("STARTED "));
        if let Some(line) = line.filter(|_| log.ends_with('\n')) {
            break line.to_owned();
        }
        std::thread::yield_now();
    };
    let (pid, namespace) = started.split_once(' ').unwrap();
    assert!(is_running(pid));
    parent.signal(rustix::process::Signal::KILL).unwrap();
    until(|| !is_running(pid));
    assert!(!is_used(namespace), "the namespace outlived its processes");
}

fn wait(child: &Child) -> std::process::ExitStatus {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(Duration::from_secs(10), child.wait()).await })
        .expect("the process ends by itself")
        .unwrap()
}

/// Waits for what the kernel does by itself, and tells of it only through /proc.
fn until(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "it never came");
        std::thread::yield_now();
    }
}

fn is_running(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").starts_with(" Z"))
}

/// Whether any process is in a namespace, given as `net:[4026532000]`.
fn is_used(namespace: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read_link(entry.path().join("ns/net"))
            .is_ok_and(|link| link.as_os_str() == namespace)
    })
}
