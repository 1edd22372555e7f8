//! One policy file, two proxies: what Weft and an unmodified Envoy make of it, driven by the same control plane.

use crate::{interop::ads_bootstrap, pair::PATIENCE};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use weft_cli::sandbox::Pod;
use weft_tests::{
    Mesh, Need, Suite, Workload,
    apps::{
        self, App,
        moody::{Mood, Moody},
    },
    mesh::NAMESPACE,
    peers::envoy::Envoy,
    wait::until,
};
use weft_xds_proto::names;

const PORT: u16 = 8080;
const NEEDS: &[Need] = &[Need::Namespaces, Need::Envoy];

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test("weft_and_envoy_route_alike", NEEDS, routes)
        .test("weft_and_envoy_divide_by_weight_alike", NEEDS, weights)
        .test("weft_and_envoy_balance_alike", NEEDS, balancing)
        .test("weft_and_envoy_retry_alike", NEEDS, retries)
        .test("weft_and_envoy_time_out_alike", NEEDS, timeouts)
        .test("weft_and_envoy_inject_faults_alike", NEEDS, faults)
        .test("weft_and_envoy_eject_alike", NEEDS, ejection)
        .test("weft_and_envoy_mirror_alike", NEEDS, mirroring)
}

/// A mesh with two callers: a workload with a sidecar, and an Envoy.
struct Both {
    mesh: Mesh,
    weft: Workload,
    envoy_pod: Pod,
    envoy: Envoy,
}

/// One of the two proxies, as somebody who calls through it.
#[derive(Clone, Copy)]
enum Proxy {
    Weft,
    Envoy,
}

const PROXIES: [(&str, Proxy); 2] = [("Weft", Proxy::Weft), ("Envoy", Proxy::Envoy)];

/// What a caller got.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// What a caller asks.
#[derive(Debug, Clone, Copy)]
struct Question<'q> {
    method: &'q str,
    host: &'q str,
    path: &'q str,
    headers: &'q [(&'q str, &'q str)],
}

impl<'q> Question<'q> {
    const fn get(path: &'q str) -> Self {
        Self {
            method: "GET",
            host: "echo.demo.svc.cluster.local",
            path,
            headers: &[],
        }
    }
}

impl Both {
    fn start() -> anyhow::Result<Self> {
        let mesh = Mesh::start()?;
        let envoy_pod = mesh.network().pod("envoy")?;
        let bootstrap = ads_bootstrap(&mesh, "DELTA_GRPC", json!({}));
        let envoy = Envoy::start(&envoy_pod, mesh.directory(), bootstrap)?;
        let weft = mesh.workload("client")?;
        Ok(Self {
            mesh,
            weft,
            envoy_pod,
            envoy,
        })
    }

    /// A service over endpoints at these pods, and its address.
    fn service(&self, name: &str, pods: &[&Pod]) -> anyhow::Result<SocketAddr> {
        let endpoints = pods
            .iter()
            .map(|pod| SocketAddr::new(pod.ipv4().into(), PORT));
        let service = self
            .mesh
            .service(name)
            .protocol("http")
            .endpoints(endpoints);
        self.mesh.apply(name, &service.objects())?;
        Ok(service.addresses()[0])
    }

    /// Asks through a proxy: the sidecar intercepts what is sent to the service, Envoy goes by the Host field.
    fn ask(
        &self,
        proxy: Proxy,
        service: SocketAddr,
        question: &Question<'_>,
    ) -> anyhow::Result<Answer> {
        match proxy {
            Proxy::Weft => self.weft.pod.enter(|| ask(service, question)),
            Proxy::Envoy => {
                let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, names::OUTBOUND_PORT));
                self.envoy_pod.enter(|| ask(listener, question))
            }
        }
    }

    /// Waits until both proxies answer a question as they should.
    fn until_both(
        &self,
        what: &str,
        service: SocketAddr,
        question: &Question<'_>,
        good: impl Fn(&Answer) -> bool,
    ) -> anyhow::Result<()> {
        for (name, proxy) in PROXIES {
            let answer = || self.ask(proxy, service, question);
            until(what, PATIENCE, || {
                answer().is_ok_and(|answer| good(&answer))
            })
            .with_context(|| format!("{name}: {:?}\n{}", answer(), self.logs()))?;
        }
        Ok(())
    }

    /// Both answer a question alike: with this, taken from the answer.
    fn agree<T: PartialEq + std::fmt::Debug>(
        &self,
        service: SocketAddr,
        question: &Question<'_>,
        expected: &T,
        of: impl Fn(&Answer) -> T,
    ) -> anyhow::Result<()> {
        for (name, proxy) in PROXIES {
            let answer = self.ask(proxy, service, question)?;
            let found = of(&answer);
            ensure!(
                found == *expected,
                "{name}, {question:?}: {found:?} instead of {expected:?}: {answer:?}\n{}",
                self.logs()
            );
        }
        Ok(())
    }

    /// How often each server answered so many questions, by the `name` that its body tells.
    fn distribution(
        &self,
        proxy: Proxy,
        service: SocketAddr,
        question: &Question<'_>,
        times: u32,
    ) -> anyhow::Result<BTreeMap<String, u32>> {
        let mut answered = BTreeMap::new();
        for _ in 0..times {
            let answer = self.ask(proxy, service, question)?;
            ensure!(answer.status == 200, "{answer:?}");
            *answered.entry(server(&answer)).or_default() += 1;
        }
        Ok(answered)
    }

    fn logs(&self) -> String {
        format!(
            "the sidecar:\n{}\nEnvoy:\n{}\nthe control plane:\n{}",
            self.weft.sidecar.log_tail(10),
            self.envoy.log(),
            self.mesh.control_plane_log()
        )
    }
}

fn ask(address: SocketAddr, question: &Question<'_>) -> anyhow::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let Question {
        method,
        host,
        path,
        headers,
    } = question;
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}content-length: 0\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("not HTTP: {answer:?}"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    Ok(Answer {
        status: status.context("a status")?.parse()?,
        headers: lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect(),
        body: body.to_owned(),
    })
}

/// Who answered: the name in the JSON of `/whoami`, or the whole body.
fn server(answer: &Answer) -> String {
    whoami(answer)
        .and_then(|whoami| Some(whoami["name"].as_str()?.to_owned()))
        .unwrap_or_else(|| answer.body.clone())
}

/// The JSON of `/whoami`, which may be within one chunk.
fn whoami(answer: &Answer) -> Option<Value> {
    let (start, end) = (answer.body.find('{')?, answer.body.rfind('}')?);
    serde_json::from_str(answer.body.get(start..=end)?).ok()
}

fn http_route(name: &str, rules: Value) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "echo" }],
            "rules": rules,
        },
    })
}

fn backend(name: &str) -> Value {
    json!([{ "name": name, "port": 80 }])
}

fn policy(mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{ "group": "", "kind": "Service", "name": "echo" }]);
    json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "name": "echo", "namespace": NAMESPACE },
        "spec": spec,
    })
}

/// Two applications that tell what they saw, each behind a service of its own.
fn two(both: &Both) -> anyhow::Result<([App; 2], SocketAddr)> {
    let (stable, canary) = (
        both.mesh.network().pod("stable")?,
        both.mesh.network().pod("canary")?,
    );
    let apps = [
        apps::http::start(&stable, PORT, "stable")?,
        apps::http::start(&canary, PORT, "canary")?,
    ];
    let echo = both.service("echo", &[&stable])?;
    both.service("stable", &[&stable])?;
    both.service("canary", &[&canary])?;
    Ok((apps, echo))
}

fn routes() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (_apps, echo) = two(&both)?;
    let prefix = |path: &str| json!({ "type": "PathPrefix", "value": path });
    let rules = json!([
        { "matches": [{ "path": { "type": "Exact", "value": "/whoami/exact" } }], "backendRefs": backend("canary") },
        { "matches": [{ "path": prefix("/whoami/long/prefix") }], "backendRefs": backend("canary") },
        { "matches": [{ "path": prefix("/whoami/long") }], "backendRefs": backend("stable") },
        {
            "matches": [{ "path": { "type": "RegularExpression", "value": "/number/[0-9]+" } }],
            "filters": [{ "type": "URLRewrite", "urlRewrite": { "path": { "type": "ReplaceFullPath", "replaceFullPath": "/whoami" } } }],
            "backendRefs": backend("canary"),
        },
        {
            "matches": [{ "path": prefix("/whoami/by"), "headers": [{ "name": "x-canary", "value": "yes" }] },
                        { "path": prefix("/whoami/by"), "queryParams": [{ "name": "canary", "value": "yes" }] },
                        { "path": prefix("/whoami/by"), "method": "DELETE" }],
            "backendRefs": backend("canary"),
        },
        {
            "matches": [{ "path": prefix("/moved") }],
            "filters": [{ "type": "RequestRedirect", "requestRedirect": {
                "scheme": "https", "hostname": "new.example", "port": 8443, "statusCode": 301,
                "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/here" },
            } }],
        },
        {
            "matches": [{ "path": prefix("/rewritten") }],
            "filters": [
                { "type": "URLRewrite", "urlRewrite": {
                    "hostname": "inner.example", "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/whoami" },
                } },
                { "type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "set": [{ "name": "x-set", "value": "new" }], "add": [{ "name": "x-added", "value": "more" }], "remove": ["x-gone"],
                } },
                { "type": "ResponseHeaderModifier", "responseHeaderModifier": {
                    "set": [{ "name": "x-answer", "value": "set" }], "remove": ["date"],
                } },
            ],
            "backendRefs": backend("stable"),
        },
        { "matches": [{ "path": prefix("/whoami") }], "backendRefs": backend("stable") },
    ]);
    both.mesh.apply("route", &[http_route("echo", rules)])?;
    both.until_both(
        "the routes are in force",
        echo,
        &Question::get("/whoami/exact"),
        |answer| server(answer) == "canary",
    )?;

    let by = Question::get("/whoami/by");
    for (question, name) in [
        (Question::get("/whoami"), "stable"),
        (Question::get("/whoami/exact"), "canary"),
        (Question::get("/whoami/exact?query=1"), "canary"),
        (Question::get("/whoami/exactly"), "stable"),
        (Question::get("/whoami/long"), "stable"),
        (Question::get("/whoami/long/prefix"), "canary"),
        (Question::get("/whoami/long/prefix/more"), "canary"),
        (Question::get("/whoami/long/prefixes"), "stable"),
        (Question::get("/number/42"), "canary"),
        (by, "stable"),
        (
            Question {
                headers: &[("x-canary", "yes")],
                ..by
            },
            "canary",
        ),
        (
            Question {
                headers: &[("x-canary", "no")],
                ..by
            },
            "stable",
        ),
        (Question::get("/whoami/by?canary=yes"), "canary"),
        (Question::get("/whoami/by?canary=no"), "stable"),
        (
            Question {
                method: "DELETE",
                ..by
            },
            "canary",
        ),
    ] {
        both.agree(echo, &question, &name.to_owned(), server)?;
    }

    both.agree(echo, &Question::get("/number/42x"), &404, |answer| {
        answer.status
    })?;

    let redirect = |answer: &Answer| (answer.status, answer.headers.get("location").cloned());
    both.agree(
        echo,
        &Question::get("/moved/a?b=c"),
        &(301, Some("https://new.example:8443/here/a?b=c".to_owned())),
        redirect,
    )?;

    let question = Question {
        headers: &[("x-set", "old"), ("x-added", "some"), ("x-gone", "gone")],
        ..Question::get("/rewritten/a?b=c")
    };
    for (name, proxy) in PROXIES {
        let answer = both.ask(proxy, echo, &question)?;
        let seen = whoami(&answer).with_context(|| format!("{name}: {answer:?}"))?;
        let header = |name: &str| seen["headers"][name].as_str().map(str::to_owned);
        ensure!(seen["uri"] == "/whoami/a?b=c", "{name}: {seen}");
        ensure!(
            header("host").as_deref() == Some("inner.example"),
            "{name}: {seen}"
        );
        ensure!(header("x-set").as_deref() == Some("new"), "{name}: {seen}");
        ensure!(header("x-gone").is_none(), "{name}: {seen}");
        ensure!(
            header("x-added").is_some_and(|value| value.contains("more")),
            "{name}: {seen}"
        );
        ensure!(
            answer
                .headers
                .get("x-answer")
                .is_some_and(|value| value == "set"),
            "{name}: {answer:?}"
        );
    }
    Ok(())
}

fn weights() -> anyhow::Result<()> {
    const TIMES: u32 = 1_000;
    let both = Both::start()?;
    let (_apps, echo) = two(&both)?;
    let weighted = |name: &str, weight: u32| json!({ "name": name, "port": 80, "weight": weight });
    let rules = json!([{ "backendRefs": [weighted("stable", 80), weighted("canary", 20)] }]);
    both.mesh.apply("route", &[http_route("echo", rules)])?;
    let question = Question::get("/whoami");
    both.until_both("the weights are in force", echo, &question, |answer| {
        server(answer) == "canary"
    })?;
    for (name, proxy) in PROXIES {
        let found = both.distribution(proxy, echo, &question, TIMES)?;
        let canary = found.get("canary").copied().unwrap_or_default();
        // Five standard deviations of 1,000 throws at one in five.
        ensure!(canary.abs_diff(200) < 64, "{name}: {found:?}");
    }
    Ok(())
}

/// Three endpoints that can go bad, as one service, and its address.
fn three(both: &Both) -> anyhow::Result<([Moody; 3], SocketAddr)> {
    let network = both.mesh.network();
    let pods = [
        network.pod("first")?,
        network.pod("second")?,
        network.pod("third")?,
    ];
    let endpoints = [
        Moody::start(&pods[0], PORT, "first")?,
        Moody::start(&pods[1], PORT, "second")?,
        Moody::start(&pods[2], PORT, "third")?,
    ];
    let echo = both.service("echo", &pods.each_ref())?;
    both.until_both("the service answers", echo, &Question::get("/"), |answer| {
        answer.status == 200
    })?;
    Ok((endpoints, echo))
}

/// Puts a policy in force, as soon as the proxies have it: callers wait for its effect.
fn apply(both: &Both, spec: Value) -> anyhow::Result<()> {
    both.mesh.apply("policy", &[policy(spec)])
}

fn balancing() -> anyhow::Result<()> {
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

fn retries() -> anyhow::Result<()> {
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

fn timeouts() -> anyhow::Result<()> {
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
    Ok(())
}

fn faults() -> anyhow::Result<()> {
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

fn ejection() -> anyhow::Result<()> {
    let both = Both::start()?;
    let (endpoints, echo) = three(&both)?;
    let question = Question::get("/");
    apply(
        &both,
        json!({
            "loadBalancer": { "algorithm": "RoundRobin" },
            "circuitBreaker": { "consecutiveFailures": 3, "openFor": "60s", "maxEjectedPercent": 50 },
        }),
    )?;
    let [bad, ..] = &endpoints;
    bad.becomes(Mood::Failing(503));
    for (name, proxy) in PROXIES {
        until("the bad endpoint is ejected", PATIENCE, || {
            let before = bad.processed();
            let all_good = (0..12).all(|_| {
                both.ask(proxy, echo, &question)
                    .is_ok_and(|answer| answer.status == 200)
            });
            all_good && bad.processed() == before
        })
        .with_context(|| format!("{name}\n{}", both.logs()))?;
    }
    Ok(())
}

fn mirroring() -> anyhow::Result<()> {
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
    Ok(())
}
