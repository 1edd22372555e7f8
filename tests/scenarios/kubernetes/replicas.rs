//! Two replicas of the control plane, of which one after the other is killed.

use super::{
    install::{Installed, NAMESPACE, NEEDS, PATIENCE},
    unsteady::{change, compare, how_long},
};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    mem, thread,
    time::{Duration, Instant},
};
use weft_tests::{Suite, apps::load::Load, kubernetes::cluster::SYSTEM, wait::until};

pub(super) fn add(suite: Suite) -> Suite {
    suite.test(
        "kubernetes::a_replica_that_is_killed_costs_nothing",
        NEEDS,
        killed,
    )
}

fn killed() -> anyhow::Result<()> {
    let mut installed = Installed::start()?;
    installed.wait()?;
    let mut other = installed.cluster.control_plane("weft-control-plane-b")?;
    let both = [&installed.control_plane, &other];
    installed
        .cluster
        .endpoints(SYSTEM, "weft-control-plane", &both)?;
    let mut addresses = BTreeMap::new();
    let echo = installed.address("echo")?;
    let load = Load::http1(&installed.client.pod, echo, "/whoami", 4);
    let mut policies = 0;
    let mut leaders = BTreeSet::new();
    let end = Instant::now() + how_long()?;
    while Instant::now() < end {
        installed.control_plane.kill("control-plane")?;
        policies += 1;
        installed.cluster.api.create(&policy(policies))?;
        for _ in 0..20 {
            change(&installed, &mut addresses)?;
            // The pace of the changes, not something that is waited for.
            thread::sleep(Duration::from_millis(50));
        }
        leaders.insert(leader(&installed));
        let api = &installed.cluster.api;
        installed.control_plane.restart(api, "control-plane")?;
        mem::swap(&mut installed.control_plane, &mut other);
    }
    load.stop().check()?;
    compare(&installed, &addresses)?;
    for number in 1..=policies {
        let name = format!("policy-{number}");
        until(&format!("{name} has a status"), PATIENCE, || {
            let policy =
                installed
                    .cluster
                    .api
                    .get("weft.dev/v1alpha1", "TrafficPolicy", NAMESPACE, &name);
            let policy = policy.unwrap_or_default();
            let conditions = policy["status"]["ancestors"][0]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            conditions.any(|condition| condition["type"] == "Accepted")
        })
        .with_context(|| {
            format!(
                "one replica:\n{}\nthe other:\n{}",
                installed.control_plane.log("control-plane"),
                other.log("control-plane")
            )
        })?;
    }
    ensure!(!leaders.contains(""), "the lease has a holder: {leaders:?}");
    Ok(())
}

fn policy(number: usize) -> Value {
    json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "name": format!("policy-{number}"), "namespace": NAMESPACE },
        "spec": {
            "targetRefs": [{ "kind": "Service", "name": "echo" }],
            "retry": { "attempts": 3 },
        },
    })
}

/// Who holds the lease.
fn leader(installed: &Installed) -> String {
    let api = &installed.cluster.api;
    let lease = api.get(
        "coordination.k8s.io/v1",
        "Lease",
        SYSTEM,
        "weft-control-plane",
    );
    let lease = lease.unwrap_or_default();
    let holder = lease["spec"]["holderIdentity"].as_str();
    holder.unwrap_or_default().to_owned()
}
