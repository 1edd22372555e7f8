//! Balancing: which endpoint a request goes to.

use super::both::{Answer, Both, PORT, PROXIES, Question, apply, server, three};
use crate::pair::PATIENCE;
use anyhow::{Context, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use weft_tests::{apps::moody::Moody, mesh::NAMESPACE, wait::until};

pub(super) fn balancing() -> anyhow::Result<()> {
    const TIMES: u32 = 300;
    let both = Both::start()?;
    let (_endpoints, echo) = three(&both)?;
    let question = Question::get("/");
    apply(
        &both,
        json!({ "loadBalancer": { "algorithm": "RoundRobin" } }),
    )?;
    let even = |found: &BTreeMap<String, u32>| {
        found.len() == 3 && found.values().all(|times| times.abs_diff(TIMES / 3) <= 3)
    };
    for (name, proxy) in PROXIES {
        let mut found = BTreeMap::new();
        until("requests are divided in turn", PATIENCE, || {
            found = both
                .distribution(proxy, echo, &question, TIMES)
                .unwrap_or_default();
            even(&found)
        })
        .with_context(|| format!("{name}: {found:?}"))?;
    }
    for algorithm in ["RingHash", "Maglev"] {
        let spec = json!({ "loadBalancer": {
            "algorithm": algorithm,
            "consistentHash": { "header": "x-user" },
        } });
        apply(&both, spec)?;
        for (name, proxy) in PROXIES {
            let mut found = BTreeMap::new();
            until("a header decides", PATIENCE, || {
                let users: Vec<String> = (0..30).map(|user| user.to_string()).collect();
                found.clear();
                users.iter().all(|user| {
                    let headers = [("x-user", user.as_str())];
                    let question = Question {
                        headers: &headers,
                        ..question
                    };
                    let of_user = both
                        .distribution(proxy, echo, &question, 5)
                        .unwrap_or_default();
                    let sticks = of_user.len() == 1;
                    found.extend(of_user);
                    sticks
                }) && found.len() == 3
            })
            .with_context(|| format!("{algorithm}, {name}: {found:?}\n{}", both.logs()))?;
        }
    }
    Ok(())
}

pub(super) fn by_chance() -> anyhow::Result<()> {
    const TIMES: u32 = 300;
    let both = Both::start()?;
    let (_endpoints, echo) = three(&both)?;
    for algorithm in ["Random", "LeastRequest"] {
        apply(&both, json!({ "loadBalancer": { "algorithm": algorithm } }))?;
        for (name, proxy) in PROXIES {
            let found = both.distribution(proxy, echo, &Question::get("/"), TIMES)?;
            // Six standard deviations of 300 throws at one in three.
            let fair = |times: &u32| times.abs_diff(TIMES / 3) < 49;
            ensure!(
                found.len() == 3 && found.values().all(fair),
                "{algorithm}, {name}: {found:?}"
            );
        }
    }
    Ok(())
}

pub(super) fn by_weight() -> anyhow::Result<()> {
    const TIMES: u32 = 300;
    let both = Both::start()?;
    let network = both.mesh.network();
    let names = ["light", "medium", "heavy"];
    let pods = names.map(|name| network.pod(name));
    let [light, medium, heavy] = pods;
    let pods = [light?, medium?, heavy?];
    let mut endpoints = Vec::new();
    let mut objects = Vec::new();
    for ((pod, name), weight) in pods.iter().zip(names).zip(1..) {
        endpoints.push(Moody::start(pod, PORT, name)?);
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": NAMESPACE,
                "annotations": { "weft.dev/weight": weight.to_string() },
            },
            "spec": { "serviceAccountName": name, "containers": [{ "name": "app" }] },
            "status": { "phase": "Running", "podIP": pod.ipv4(), "podIPs": [{ "ip": pod.ipv4() }] },
        }));
    }
    both.mesh.apply("pods", &objects)?;
    let echo = both.service("echo", &pods.each_ref())?;
    apply(
        &both,
        json!({ "loadBalancer": { "algorithm": "WeightedRoundRobin" } }),
    )?;
    both.each("requests are divided by weight", |proxy| {
        let found = both.distribution(proxy, echo, &Question::get("/"), TIMES)?;
        let share = |name: &str, expected: u32| {
            found
                .get(name)
                .is_some_and(|times| times.abs_diff(expected) <= 6)
        };
        Ok(share("light", 50) && share("medium", 100) && share("heavy", 150))
    })
}

/// What requests stick to, apart from headers: [`balancing`] has those.
pub(super) fn hashes() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (_endpoints, echo) = three(&both)?;
    let users: Vec<String> = (0..20).map(|user| user.to_string()).collect();
    // Whether every user has an endpoint, and not all the same.
    let sticks = |ask: &dyn Fn(&str) -> anyhow::Result<Answer>| {
        let mut found = BTreeMap::new();
        for user in &users {
            let first = server(&ask(user)?);
            for _ in 0..3 {
                if server(&ask(user)?) != first {
                    return Ok(false);
                }
            }
            *found.entry(first).or_insert(0) += 1;
        }
        Ok::<_, anyhow::Error>(found.len() == 3)
    };
    apply(
        &both,
        json!({ "loadBalancer": { "algorithm": "RingHash", "consistentHash": { "queryParameter": "user" } } }),
    )?;
    both.each("a query parameter decides", |proxy| {
        sticks(&|user| both.ask(proxy, echo, &Question::get(&format!("/?user={user}"))))
    })?;
    let cookie = json!({ "name": "session", "ttl": "1h", "path": "/shop" });
    apply(
        &both,
        json!({ "loadBalancer": { "algorithm": "Maglev", "consistentHash": { "cookie": cookie } } }),
    )?;
    both.each("a cookie decides", |proxy| {
        sticks(&|user| {
            let cookie = format!("session={user}");
            let question = Question {
                headers: &[("cookie", &cookie)],
                ..Question::get("/")
            };
            both.ask(proxy, echo, &question)
        })
    })?;
    both.each("who has no cookie is given one", |proxy| {
        let answer = both.ask(proxy, echo, &Question::get("/"))?;
        let given = answer
            .headers
            .get("set-cookie")
            .cloned()
            .unwrap_or_default();
        let parts: Vec<_> = given.split("; ").collect();
        Ok(given.starts_with("session=")
            && parts.contains(&"Max-Age=3600")
            && parts.contains(&"Path=/shop"))
    })?;
    apply(
        &both,
        json!({ "loadBalancer": { "algorithm": "RingHash", "consistentHash": { "sourceAddress": true } } }),
    )?;
    both.each("the address of the caller decides", |proxy| {
        let found = both.distribution(proxy, echo, &Question::get("/"), 20)?;
        Ok(found.len() == 1)
    })
}
