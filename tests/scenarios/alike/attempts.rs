//! Attempts: how often, how long, and at whose cost a request is tried.

use super::both::{Answer, Both, PORT, PROXIES, Proxy, Question, apply, receive, server, three};
use crate::pair::PATIENCE;
use anyhow::{Context, ensure};
use serde_json::json;
use std::time::{Duration, Instant};
use weft_tests::{
    apps::moody::{Mood, Moody},
    wait::until,
};

pub(super) fn retries() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    let question = Question::get("/");
    for (attempts, on, status, processed) in [
        (1, json!(["5xx"]), 503, 1),
        (3, json!(["5xx"]), 503, 3),
        (3, json!(["gateway-error"]), 503, 3),
        (3, json!(["gateway-error"]), 500, 1),
        (3, json!(["retriable-4xx"]), 409, 3),
        (3, json!(["418"]), 418, 3),
        (3, json!(["connect-failure"]), 503, 1),
    ] {
        let retry = json!({
            "attempts": attempts,
            "on": on,
            "backoff": { "base": "1ms", "max": "2ms" },
            "budget": { "percent": 100, "minimumPerSecond": 100 },
        });
        apply(&both, json!({ "retry": retry }))?;
        for endpoint in &endpoints {
            endpoint.becomes(Mood::Failing(status));
        }
        for (name, proxy) in PROXIES {
            let sum = || endpoints.iter().map(Moody::processed).sum::<u64>();
            let mut last = (0, 0);
            until("as many attempts are made as allowed", PATIENCE, || {
                let before = sum();
                let answered = both
                    .ask(proxy, echo, &question)
                    .map_or(0, |answer| answer.status);
                last = (answered, sum() - before);
                last == (status, processed)
            })
            .with_context(|| format!("{name}, {on}, {status}: {last:?}\n{}", both.logs()))?;
        }
        // What may have been processed is not tried again for a method that is not idempotent.
        let post = Question {
            method: "POST",
            ..question
        };
        for (name, proxy) in PROXIES {
            let before: u64 = endpoints.iter().map(Moody::processed).sum();
            let answer = both.ask(proxy, echo, &post)?;
            let after: u64 = endpoints.iter().map(Moody::processed).sum();
            ensure!(
                (answer.status, after - before) == (status, 1),
                "{name}, POST, {on}: {answer:?}, processed {} times",
                after - before
            );
        }
    }
    Ok(())
}

pub(super) fn timeouts() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    for endpoint in &endpoints {
        endpoint.becomes(Mood::Slow(Duration::from_secs(3)));
    }
    let question = Question::get("/");
    apply(&both, json!({ "timeout": { "request": "200ms" } }))?;
    both.until_both("a request takes too long", echo, &question, |answer| {
        answer.status == 504
    })?;
    let retry = json!({
        "attempts": 2, "on": ["reset"], "perTryTimeout": "100ms",
        "backoff": { "base": "1ms", "max": "2ms" },
        "budget": { "percent": 100, "minimumPerSecond": 100 },
    });
    apply(
        &both,
        json!({ "timeout": { "request": "2s" }, "retry": retry }),
    )?;
    for (name, proxy) in PROXIES {
        let sum = || endpoints.iter().map(Moody::processed).sum::<u64>();
        let mut last = (0, 0);
        until("each attempt has its time", PATIENCE, || {
            let before = sum();
            let answered = both
                .ask(proxy, echo, &question)
                .map_or(0, |answer| answer.status);
            last = (answered, sum() - before);
            last == (504, 2)
        })
        .with_context(|| format!("{name}: {last:?}\n{}", both.logs()))?;
    }

    for endpoint in &endpoints {
        endpoint.becomes(Mood::Stalling);
    }
    apply(
        &both,
        json!({ "timeout": { "request": "0s", "idle": "300ms" } }),
    )?;
    both.each("a stream on which nothing moves is ended", |proxy| {
        let start = Instant::now();
        let answer = receive(both.send(proxy, echo, &question)?);
        let is_whole = answer.is_ok_and(|answer| is_whole(&answer));
        Ok(!is_whole && start.elapsed() < PATIENCE / 4)
    })
}

fn is_whole(answer: &Answer) -> bool {
    let length = answer.headers.get("content-length");
    length.is_some_and(|length| length.parse() == Ok(answer.body.len()))
}

pub(super) fn faults() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (_endpoints, echo) = three(&both)?;
    let question = Question::get("/");
    apply(
        &both,
        json!({ "fault": { "abort": { "percent": 100, "status": 418 } } }),
    )?;
    both.until_both("a fault is injected", echo, &question, |answer| {
        answer.status == 418
    })?;
    apply(
        &both,
        json!({ "fault": { "abort": { "percent": 50, "status": 418 } } }),
    )?;
    both.each("half of the requests fail", |proxy| {
        let mut failed = 0_u32;
        for _ in 0..300 {
            failed += u32::from(both.ask(proxy, echo, &question)?.status == 418);
        }
        // Five standard deviations of 300 throws of a coin.
        Ok(failed.abs_diff(150) < 44)
    })?;
    let delay = Duration::from_millis(300);
    apply(
        &both,
        json!({ "fault": {
        "delay": { "percent": 100, "duration": "300ms" },
        "headers": [{ "name": "x-fault", "value": "yes" }],
    } }),
    )?;
    both.until_both("no fault without its header", echo, &question, |answer| {
        answer.status == 200
    })?;
    let chosen = Question {
        headers: &[("x-fault", "yes")],
        ..question
    };
    for (name, proxy) in PROXIES {
        until("a chosen request is delayed", PATIENCE, || {
            let start = Instant::now();
            both.ask(proxy, echo, &chosen)
                .is_ok_and(|answer| answer.status == 200)
                && start.elapsed() >= delay
        })
        .with_context(|| format!("{name}\n{}", both.logs()))?;
    }
    Ok(())
}

pub(super) fn mirroring() -> anyhow::Result<()> {
    let both = Both::start()?;
    let pod = both.mesh.network().pod("shadow")?;
    let shadow = Moody::start(&pod, PORT, "shadow")?;
    both.service("shadow", &[&pod])?;
    let (_endpoints, echo) = three(&both)?;
    // The shadow is silent: nobody must wait for it.
    shadow.becomes(Mood::Silent);
    apply(
        &both,
        json!({ "mirror": { "backendRef": { "name": "shadow", "port": 80 }, "percent": 100 } }),
    )?;
    for (name, proxy) in PROXIES {
        until("requests are mirrored", PATIENCE, || {
            let before = shadow.processed();
            let good = (0..5).all(|_| {
                both.ask(proxy, echo, &Question::get("/"))
                    .is_ok_and(|answer| answer.status == 200)
            });
            let mirrored = until("five copies arrive", Duration::from_secs(1), || {
                shadow.processed() == before + 5
            });
            good && mirrored.is_ok()
        })
        .with_context(|| format!("{name}\n{}", both.logs()))?;
    }
    apply(
        &both,
        json!({ "mirror": { "backendRef": { "name": "shadow", "port": 80 }, "percent": 50 } }),
    )?;
    both.each("half of the requests are mirrored", |proxy| {
        let before = shadow.processed();
        for _ in 0..200 {
            both.ask(proxy, echo, &Question::get("/"))?;
        }
        let half = until("copies arrive", Duration::from_secs(1), || {
            // Five standard deviations of 200 throws of a coin.
            (shadow.processed() - before).abs_diff(100) < 36
        });
        Ok(half.is_ok())
    })
}

/// An attempt that fails is followed by one at another endpoint.
pub(super) fn elsewhere() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    let [first, ..] = &endpoints;
    let retry = |on: &str| {
        json!({
            "loadBalancer": { "algorithm": "RoundRobin" },
            "retry": {
                "attempts": 2, "on": [on],
                "backoff": { "base": "1ms", "max": "2ms" },
                "budget": { "percent": 100, "minimumPerSecond": 100 },
            },
        })
    };
    let all_good = |proxy: Proxy| {
        for _ in 0..12 {
            if both.ask(proxy, echo, &Question::get("/"))?.status != 200 {
                return Ok(false);
            }
        }
        Ok(true)
    };
    first.becomes(Mood::Resetting);
    apply(&both, retry("reset"))?;
    both.each("a reset is tried again elsewhere", all_good)?;
    apply(&both, retry("reset-before-request"))?;
    // What was sent may have been processed.
    both.each("a reset after the request is not", |proxy| {
        all_good(proxy).map(|good| !good)
    })?;
    first.becomes(Mood::Failing(503));
    apply(&both, retry("503"))?;
    both.each("a status is tried again elsewhere", all_good)?;
    first.becomes(Mood::Well);

    // An endpoint where nobody listens: nothing was processed, whatever the method.
    let network = both.mesh.network();
    let (there, nobody) = (network.pod("there")?, network.pod("nobody")?);
    let _there = Moody::start(&there, PORT, "there")?;
    let half = both.service("echo", &[&there, &nobody])?;
    apply(&both, retry("connect-failure"))?;
    both.each("a refused connection is tried again elsewhere", |proxy| {
        let post = Question {
            method: "POST",
            ..Question::get("/")
        };
        for _ in 0..12 {
            let answer = both.ask(proxy, half, &post)?;
            if answer.status != 200 || server(&answer) != "there" {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

pub(super) fn retry_after() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    for endpoint in &endpoints {
        endpoint.becomes(Mood::Busy(503, 1));
    }
    let retry = json!({
        "attempts": 2, "on": ["5xx"], "retryAfter": { "max": "5s" },
        "backoff": { "base": "1ms", "max": "2ms" },
        "budget": { "percent": 100, "minimumPerSecond": 100 },
    });
    apply(&both, json!({ "retry": retry }))?;
    both.each(
        "the endpoint is left alone for as long as it asks",
        |proxy| {
            let sum = || endpoints.iter().map(Moody::processed).sum::<u64>();
            let (before, start) = (sum(), Instant::now());
            let answer = both.ask(proxy, echo, &Question::get("/"))?;
            Ok(answer.status == 503
                && sum() - before == 2
                && start.elapsed() >= Duration::from_secs(1))
        },
    )
}
