//! A proxy pays for what its application calls, not for the size of the mesh.

use crate::pair::{PATIENCE, PORT};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};
use weft_tests::{
    Mesh, Need, Suite, Workload, apps,
    manifest::{self, Service},
    memory,
    wait::{request, until},
};

/// Services that nobody in the test calls.
const OTHERS: usize = 10_000;

pub(crate) fn add(suite: Suite) -> Suite {
    suite.test(
        "of_ten_thousand_services_a_proxy_holds_the_three_that_are_called",
        &[Need::Namespaces],
        ten_thousand_services,
    )
}

fn ten_thousand_services() -> anyhow::Result<()> {
    const MEMORY: u64 = 1 << 20;
    const FIRST_CALL: Duration = Duration::from_millis(20);
    let mesh = Mesh::start()?;
    let server = mesh.network().pod("server")?;
    let _app = apps::http::start(&server, PORT, "server")?;
    let endpoint = SocketAddr::new(server.ipv4().into(), PORT);
    let services: Vec<Service> = ["a", "b", "c"]
        .map(|name| mesh.service(name).protocol("http").endpoints([endpoint]))
        .into();
    for (service, file) in services.iter().zip(["a", "b", "c"]) {
        mesh.apply(file, &service.objects())?;
    }

    let small = mesh.workload("small")?;
    call_each(&small, &services)?;
    let in_small_world = settled_memory(&small)?;

    let others: Vec<Value> = (0..OTHERS).flat_map(manifest::other_service).collect();
    mesh.apply("others", &others)?;
    let last = manifest::other_service_address(OTHERS - 1);
    let large = mesh.workload("large")?;
    until("the last service is known", 3 * PATIENCE, || {
        let ask = || large.pod.enter(|| request(last, "GET", "/", ""));
        ask().is_ok_and(|(status, _)| status == 503)
    })?;

    let caller = mesh.workload("caller")?;
    let delays = call_each(&caller, &services)?;
    let in_large_world = settled_memory(&caller)?;
    ensure!(
        in_large_world < in_small_world + MEMORY,
        "{in_small_world} bytes in a world of three, {in_large_world} in a world of {OTHERS}"
    );
    let fastest = delays.iter().min().context("three services were called")?;
    ensure!(
        *fastest < FIRST_CALL,
        "a first call cost {delays:?} more than the second"
    );

    let dump = caller.admin_json("/config_dump")?;
    let mut held = BTreeSet::new();
    for listener in dump["listeners"]
        .as_array()
        .context("listeners are listed")?
    {
        let name = listener["name"].as_str().context("a listener has a name")?;
        if !name.starts_with("inbound/") {
            held.insert(name.to_owned());
        }
    }
    let called: BTreeSet<String> = services
        .iter()
        .map(|service| service.addresses()[0].to_string())
        .collect();
    ensure!(held == called, "holds {held:?}, called {called:?}");
    for kind in ["clusters", "endpoints", "routes"] {
        let count = dump[kind].as_array().map(Vec::len);
        ensure!(count == Some(3), "{count:?} {kind}: {}", dump[kind]);
    }
    Ok(())
}

/// Calls each service twice: by how much the first call took longer than the second.
fn call_each(workload: &Workload, services: &[Service]) -> anyhow::Result<Vec<Duration>> {
    let mut delays = Vec::new();
    for service in services {
        let address = service.addresses()[0];
        let call = || -> anyhow::Result<Duration> {
            let start = Instant::now();
            let (status, body) = workload
                .pod
                .enter(|| request(address, "GET", "/whoami", ""))?;
            ensure!(status == 200, "{status}: {body}");
            Ok(start.elapsed())
        };
        let (first, second) = (call()?, call()?);
        delays.push(first.saturating_sub(second));
    }
    Ok(delays)
}

/// The memory of a sidecar once a second of it no longer changes much.
fn settled_memory(workload: &Workload) -> anyhow::Result<u64> {
    const CHANGE: u64 = 64 << 10;
    let mut last = (memory::resident(workload.sidecar.id())?, Instant::now());
    until("the memory of the sidecar settles", PATIENCE, || {
        let now = memory::resident(workload.sidecar.id()).unwrap_or(0);
        if now.abs_diff(last.0) > CHANGE {
            last = (now, Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(1)
    })?;
    memory::resident(workload.sidecar.id())
}
