//! Under load: the control plane dies, certificates are replaced, sidecars go.

use crate::pair::{PATIENCE, PORT, Pair};
use anyhow::{Context, ensure};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};
use weft_tests::{
    Mesh, Need, Suite, Workload,
    apps::{self, load::Load},
    manifest::Service,
    wait::{request, until},
};

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test(
            "the_control_plane_dies_and_comes_back_without_a_failed_request",
            &[Need::Namespaces],
            control_plane_restart,
        )
        .test(
            "certificates_of_twenty_seconds_are_replaced_without_a_failed_request",
            &[Need::Namespaces],
            short_certificates,
        )
        .test(
            "both_sidecars_drain_without_a_failed_request",
            &[Need::Namespaces],
            drain,
        )
}

fn control_plane_restart() -> anyhow::Result<()> {
    let mut pair = Pair::start(Some("http"), |pod| apps::http::start(pod, PORT, "server"))?;
    pair.wait_for_http()?;
    let second = pair.mesh.workload("second")?;
    let _app = apps::http::start(&second.pod, PORT, "second")?;
    let load = Load::http1(&pair.client.pod, pair.address(), "/whoami", 8);
    answered(&load, 200)?;

    pair.mesh.kill_control_plane()?;
    answered(&load, 500)?;
    let moved = pair
        .service
        .clone()
        .endpoints([SocketAddr::new(second.pod.ipv4().into(), PORT)]);
    pair.mesh.apply("echo", &moved.objects())?;
    answered(&load, 200)?;
    ensure!(pair.get(pair.address(), "/whoami")?["name"] == "server");

    let sent_before = sent_to(&pair.client)?;
    pair.mesh.start_control_plane()?;
    until("the change made meanwhile arrives", PATIENCE, || {
        pair.get(pair.address(), "/whoami")
            .is_ok_and(|answer| answer["name"] == "second")
    })
    .with_context(|| pair.logs())?;
    answered(&load, 200)?;
    load.stop().check()?;

    // Of all the client holds, only the endpoints of one cluster changed while the control plane was away.
    let sent = sent_to(&pair.client)?;
    let again: Vec<_> = sent
        .iter()
        .filter(|(kind, count)| sent_before.iter().any(|(k, c)| k == kind && c != count))
        .map(|(kind, _)| kind.as_str())
        .collect();
    ensure!(
        again == ["endpoints"],
        "sent again: {again:?}; before {sent_before:?}, after {sent:?}"
    );
    Ok(())
}

/// How many resources a sidecar has received, by type.
fn sent_to(workload: &Workload) -> anyhow::Result<Vec<(String, u64)>> {
    let page = workload.admin("/metrics")?;
    let counts: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix(r#"weft_xds_resources_received_total{type=""#))
        .filter_map(|rest| {
            let (kind, count) = rest.split_once(r#""} "#)?;
            Some((kind.to_owned(), count.parse::<f64>().ok()? as u64))
        })
        .collect();
    ensure!(!counts.is_empty(), "no count of resources received: {page}");
    Ok(counts)
}

fn short_certificates() -> anyhow::Result<()> {
    const LIFETIME: &str = "--max-leaf-ttl=20s";
    const SPAN: Duration = Duration::from_secs(120);
    let mesh = Mesh::start_with(&[LIFETIME])?;
    let Served {
        server, http, grpc, ..
    } = &served(&mesh)?;
    let client = mesh.workload("client")?;
    let [address, _] = http.addresses();
    let ask = || client.pod.enter(|| request(address, "GET", "/whoami", ""));
    until("the service answers", PATIENCE, || {
        ask().is_ok_and(|(status, _)| status == 200)
    })?;

    let loads = [
        Load::http1(&client.pod, address, "/whoami", 4),
        // Calls that live as long as several certificates.
        Load::grpc(&client.pod, grpc.addresses()[0], 4, 50_000),
    ];
    let start = Instant::now();
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    until("two minutes have passed", SPAN + PATIENCE, || {
        for (seen, workload) in seen.iter_mut().zip([&client, server]) {
            if let Ok(certificates) = workload.admin_json("/certs") {
                seen.insert(certificates["certificate"]["serial"].to_string());
            }
        }
        start.elapsed() > SPAN
    })?;
    for load in loads {
        load.stop().check()?;
    }
    for seen in seen {
        ensure!(
            seen.len() >= 6,
            "a certificate of 20 s was replaced {} times in 120 s: {seen:?}",
            seen.len() - 1
        );
    }
    Ok(())
}

fn drain() -> anyhow::Result<()> {
    let mesh = Mesh::start()?;
    let Served {
        mut server,
        http,
        grpc,
        _apps,
    } = served(&mesh)?;
    let mut client = mesh.workload("client")?;
    let loads = [
        Load::http1(&client.pod, http.addresses()[0], "/slow/20", 16),
        Load::grpc(&client.pod, grpc.addresses()[0], 8, 200),
    ];
    for load in &loads {
        answered(load, 100)?;
        load.leave_when_told();
    }
    for sidecar in [&client.sidecar, &server.sidecar] {
        sidecar.signal(rustix::process::Signal::TERM)?;
    }
    for load in loads {
        load.wait().check()?;
    }
    for workload in [&mut client, &mut server] {
        let sidecar = &mut workload.sidecar;
        until("the sidecar is gone", 2 * PATIENCE, || {
            !matches!(sidecar.try_wait(), Ok(None))
        })
        .with_context(|| sidecar.log_tail(20))?;
        let status = sidecar.try_wait()?.context("the sidecar is gone")?;
        ensure!(status.success(), "{status}: {}", sidecar.log_tail(20));
    }
    Ok(())
}

/// A workload that serves HTTP and gRPC, each as a service of its own.
struct Served {
    server: Workload,
    http: Service,
    grpc: Service,
    _apps: [apps::App; 2],
}

fn served(mesh: &Mesh) -> anyhow::Result<Served> {
    let server = mesh.workload("server")?;
    let apps = [
        apps::http::start(&server.pod, PORT, "server")?,
        apps::grpc::start(&server.pod, PORT + 1, "server")?,
    ];
    let service = |name, port| {
        let endpoint = SocketAddr::new(server.pod.ipv4().into(), port);
        mesh.service(name).protocol(name).endpoints([endpoint])
    };
    let (http, grpc) = (service("http", PORT), service("grpc", PORT + 1));
    mesh.apply("http", &http.objects())?;
    mesh.apply("grpc", &grpc.objects())?;
    Ok(Served {
        server,
        http,
        grpc,
        _apps: apps,
    })
}

/// Waits until so many more were answered.
fn answered(load: &Load, more: u64) -> anyhow::Result<()> {
    let goal = load.done() + more;
    until("more requests are answered", PATIENCE, || {
        load.done() >= goal
    })
}
