//! An API that fails: watches cut at random and the server restarted, while the world changes and requests are made.

use super::install::{Installed, NAMESPACE, NEEDS, PATIENCE};
use anyhow::Context;
use serde_json::json;
use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};
use weft_tests::{Suite, apps::load::Load, wait::until};

/// How long the API is unsteady, unless `WEFT_TEST_UNSTEADY` says otherwise, in seconds.
const SECONDS: u64 = 20;
/// Services that come and go.
const SERVICES: usize = 8;

pub(super) fn add(suite: Suite) -> Suite {
    suite.test(
        "kubernetes::cut_watches_and_a_restarted_api_lose_nothing",
        NEEDS,
        unsteady,
    )
}

fn unsteady() -> anyhow::Result<()> {
    let mut installed = Installed::start()?;
    installed.wait()?;
    let mut addresses = BTreeMap::new();
    let load = Load::http1(
        &installed.client.pod,
        installed.address("echo")?,
        "/whoami",
        4,
    );
    let end = Instant::now() + how_long()?;
    let lifetimes = Duration::from_millis(50)..Duration::from_secs(2);
    installed
        .cluster
        .api
        .faults()
        .limit_watches(Some(lifetimes));
    while Instant::now() < end {
        for _ in 0..20 {
            change(&installed, &mut addresses)?;
            // The pace of the changes, not something that is waited for.
            thread::sleep(Duration::from_millis(50));
        }
        installed.cluster.api.stop();
        change(&installed, &mut addresses)?;
        installed.cluster.api.resume()?;
    }
    installed.cluster.api.faults().limit_watches(None);
    installed.cluster.api.faults().cut_watches();

    load.stop().check()?;
    compare(&installed, &addresses)
}

/// How long a scenario of this kind lasts.
pub(super) fn how_long() -> anyhow::Result<Duration> {
    let seconds = env::var("WEFT_TEST_UNSTEADY").ok();
    let seconds = seconds.map_or(Ok(SECONDS), |seconds| seconds.parse())?;
    Ok(Duration::from_secs(seconds))
}

/// Waits until the client is served as the world of the API says, service by service.
pub(super) fn compare(
    installed: &Installed,
    addresses: &BTreeMap<String, SocketAddr>,
) -> anyhow::Result<()> {
    for (name, address) in addresses {
        let is_served = has_endpoint(installed, name);
        let what = if is_served { "served" } else { "not served" };
        until(&format!("{name} is {what}"), PATIENCE, || {
            let answer = installed.get(*address);
            answer.is_ok_and(|(status, _)| status == 200) == is_served
        })
        .with_context(|| installed.control_plane.log("control-plane"))?;
    }
    Ok(())
}

/// Whether the world, as the API has it, has an endpoint for a service.
fn has_endpoint(installed: &Installed, name: &str) -> bool {
    let slice = format!("{name}-ipv4");
    let api = &installed.cluster.api;
    let slice = api.get("discovery.k8s.io/v1", "EndpointSlice", NAMESPACE, &slice);
    slice.is_some_and(|slice| slice["endpoints"] != json!([]))
}

/// Makes, changes or removes a service, and notes the last address of each.
pub(super) fn change(
    installed: &Installed,
    addresses: &mut BTreeMap<String, SocketAddr>,
) -> anyhow::Result<()> {
    let name = format!("other-{}", fastrand::usize(..SERVICES));
    match fastrand::u8(..3) {
        0 => {
            let object = |version: &str, kind: &str, name: &str| json!({ "apiVersion": version, "kind": kind, "metadata": { "name": name, "namespace": NAMESPACE } });
            let api = &installed.cluster.api;
            api.remove(&object(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                &format!("{name}-ipv4"),
            ));
            api.remove(&object("v1", "Service", &name));
        }
        1 => {
            let service = installed.cluster.api.get("v1", "Service", NAMESPACE, &name);
            if service.is_some() {
                installed.cluster.endpoints(NAMESPACE, &name, &[])?;
            }
        }
        _ => {
            installed.serve(&name)?;
            addresses.insert(name.clone(), installed.address(&name)?);
        }
    }
    Ok(())
}
