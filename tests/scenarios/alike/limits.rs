//! Limits and breakers: what is refused at once, and which endpoint is given a rest.

use super::both::{Both, PORT, PROXIES, Proxy, Question, apply, receive, three};
use crate::pair::PATIENCE;
use anyhow::Context;
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use weft_tests::{
    apps::moody::{Mood, Moody},
    wait::until,
};

pub(super) fn ejection() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    apply(
        &both,
        json!({
            "loadBalancer": { "algorithm": "RoundRobin" },
            "circuitBreaker": { "consecutiveFailures": 3, "openFor": "60s", "maxEjectedPercent": 50 },
        }),
    )?;
    let [bad, ..] = &endpoints;
    bad.becomes(Mood::Failing(503));
    both.each("the bad endpoint is ejected", |proxy| {
        Ok(is_ejected(&both, proxy, echo, bad))
    })
}

pub(super) fn ratio() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    apply(
        &both,
        json!({
            "loadBalancer": { "algorithm": "RoundRobin" },
            "circuitBreaker": {
                "failureRatio": { "ratio": 0.5, "minimumRequests": 4, "window": "1s" },
                "openFor": "2s", "maxOpenFor": "2s", "maxEjectedPercent": 50,
            },
        }),
    )?;
    let [bad, ..] = &endpoints;
    for (name, proxy) in PROXIES {
        bad.becomes(Mood::Failing(500));
        until("the bad endpoint is ejected", PATIENCE, || {
            is_ejected(&both, proxy, echo, bad)
        })
        .with_context(|| format!("{name}\n{}", both.logs()))?;
        bad.becomes(Mood::Well);
        until("it comes back", PATIENCE, || {
            let before = bad.processed();
            (0..12).all(|_| good(&both, proxy, echo)) && bad.processed() >= before + 3
        })
        .with_context(|| format!("{name}\n{}", both.logs()))?;
    }
    Ok(())
}

pub(super) fn failures() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    apply(
        &both,
        json!({
            "loadBalancer": { "algorithm": "RoundRobin" },
            "circuitBreaker": {
                "consecutiveFailures": 3, "openFor": "60s",
                "failures": { "serverErrors": false, "statuses": [429] },
            },
        }),
    )?;
    let [busy, failing, _] = &endpoints;
    busy.becomes(Mood::Failing(429));
    failing.becomes(Mood::Failing(500));
    both.each(
        "who answers 429 is ejected, and who answers 500 is not",
        |proxy| {
            let before = (busy.processed(), failing.processed());
            for _ in 0..12 {
                both.ask(proxy, echo, &Question::get("/"))?;
            }
            Ok(busy.processed() == before.0 && failing.processed() == before.1 + 6)
        },
    )
}

pub(super) fn panic() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    for endpoint in &endpoints {
        endpoint.becomes(Mood::Failing(500));
    }
    let spec = |panic_threshold: u32| {
        json!({
            "loadBalancer": { "algorithm": "RoundRobin", "panicThreshold": panic_threshold },
            "circuitBreaker": { "consecutiveFailures": 2, "openFor": "60s", "maxEjectedPercent": 100 },
        })
    };
    apply(&both, spec(0))?;
    both.until_both("no endpoint is left", echo, &Question::get("/"), |answer| {
        answer.status == 503
    })?;
    apply(&both, spec(50))?;
    both.until_both(
        "some answer beats none",
        echo,
        &Question::get("/"),
        |answer| answer.status == 500,
    )
}

pub(super) fn connections() -> anyhow::Result<()> {
    let both = Both::start()?;
    let pod = both.mesh.network().pod("server")?;
    let server = Moody::start(&pod, PORT, "server")?;
    let echo = both.service("echo", &[&pod])?;
    let question = Question::get("/");
    both.until_both("the service answers", echo, &question, |answer| {
        answer.status == 200
    })?;

    apply(
        &both,
        json!({ "connections": { "maxRequestsPerConnection": 2 } }),
    )?;
    both.each("a connection carries two requests", |proxy| {
        let before = server.ledger().connections;
        for _ in 0..10 {
            both.ask(proxy, echo, &question)?;
        }
        Ok(server.ledger().connections >= before + 5)
    })?;

    apply(&both, json!({ "connections": { "idleTimeout": "300ms" } }))?;
    both.each("an idle connection is closed", |proxy| {
        both.ask(proxy, echo, &question)?;
        let closed = until("all are closed", Duration::from_secs(3), || {
            server.ledger().open == 0
        });
        Ok(closed.is_ok())
    })?;

    // One connection, for which one more request waits: a third is refused.
    server.becomes(Mood::Slow(Duration::from_millis(500)));
    apply(
        &both,
        json!({ "connections": { "max": 1, "maxPending": 1 } }),
    )?;
    both.each("what passes the limit is refused", |proxy| {
        let mut sent = Vec::new();
        for _ in 0..4 {
            sent.push(both.send(proxy, echo, &question)?);
        }
        let mut answered = Vec::new();
        for stream in sent {
            answered.push(receive(stream)?.status);
        }
        answered.sort_unstable();
        Ok(answered == [200, 200, 503, 503])
    })?;

    // Nobody is there, and nobody says so.
    server.becomes(Mood::Well);
    apply(
        &both,
        json!({ "connections": { "connectTimeout": "200ms" } }),
    )?;
    pod.link_down()?;
    both.each("who does not answer is given up", |proxy| {
        let start = Instant::now();
        let answer = both.ask(proxy, echo, &question)?;
        Ok(answer.status == 503 && start.elapsed() < Duration::from_secs(2))
    })
}

pub(super) fn requests() -> anyhow::Result<()> {
    let both = Both::start()?;
    let pod = both.mesh.network().pod("server")?;
    let server = Moody::start(&pod, PORT, "server")?;
    let echo = both.service("echo", &[&pod])?;
    let question = Question::get("/");
    both.until_both("the service answers", echo, &question, |answer| {
        answer.status == 200
    })?;
    apply(&both, json!({ "connections": { "maxRequests": 1 } }))?;
    server.becomes(Mood::Slow(Duration::from_millis(500)));
    both.each("a second request is refused at once", |proxy| {
        let before = server.processed();
        let first = both.send(proxy, echo, &question)?;
        until("the first is under way", PATIENCE, || {
            server.processed() > before
        })?;
        let second = both.ask(proxy, echo, &question)?;
        let first = receive(first)?;
        Ok((first.status, second.status, server.processed()) == (200, 503, before + 1))
    })
}

/// Whether requests are all well, and none goes to the bad endpoint.
fn is_ejected(both: &Both, proxy: Proxy, service: SocketAddr, bad: &Moody) -> bool {
    let before = bad.processed();
    (0..12).all(|_| good(both, proxy, service)) && bad.processed() == before
}

fn good(both: &Both, proxy: Proxy, service: SocketAddr) -> bool {
    both.ask(proxy, service, &Question::get("/"))
        .is_ok_and(|answer| answer.status == 200)
}
