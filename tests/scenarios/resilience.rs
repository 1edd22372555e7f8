//! One endpoint of three goes bad, connections are cut, everything fails: what policy makes of it, under load.

use crate::pair::{PATIENCE, PORT};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{
    env,
    net::SocketAddr,
    time::{Duration, Instant},
};
use weft_tests::{
    Mesh, Need, Suite, Workload,
    apps::{
        load::{Load, Requests},
        moody::{Mood, Moody},
    },
    manifest::Service,
    mesh::{APPLICATION_UID, NAMESPACE},
    wait::{request, until},
};

pub(crate) fn add(suite: Suite) -> Suite {
    suite
        .test("a_slow_endpoint_is_avoided", &[Need::Namespaces], || {
            one_goes_bad(Mood::Slow(Duration::from_millis(500)))
        })
        .test(
            "a_failing_endpoint_costs_no_request",
            &[Need::Namespaces],
            || one_goes_bad(Mood::Failing(503)),
        )
        .test(
            "a_resetting_endpoint_costs_no_request",
            &[Need::Namespaces],
            || one_goes_bad(Mood::Resetting),
        )
        .test(
            "a_silent_endpoint_costs_no_request",
            &[Need::Namespaces],
            || one_goes_bad(Mood::Silent),
        )
        .test(
            "no_post_is_processed_twice_while_connections_are_cut_at_random",
            &[Need::Namespaces],
            posts_are_processed_once,
        )
        .test(
            "a_server_that_closes_idle_connections_costs_no_request",
            &[Need::Namespaces, Need::Program("nginx")],
            short_keep_alive,
        )
        .test(
            "a_retry_storm_stays_within_its_budget",
            &[Need::Namespaces],
            retry_storm,
        )
        .test(
            "a_policy_changed_every_100_ms_costs_no_request_and_resets_nothing",
            &[Need::Namespaces],
            restless_policy,
        )
}

/// A service of three endpoints without sidecars, each of which can go bad, and a caller with one.
struct Trio {
    mesh: Mesh,
    client: Workload,
    service: Service,
    endpoints: [Moody; 3],
}

impl Trio {
    fn start(policy: Option<Value>) -> anyhow::Result<Self> {
        let mesh = Mesh::start()?;
        let mut addresses = Vec::new();
        let mut start = |name: &str| {
            let pod = mesh.network().pod(name)?;
            addresses.push(SocketAddr::new(pod.ipv4().into(), PORT));
            Moody::start(&pod, PORT, name)
        };
        let endpoints = [start("first")?, start("second")?, start("third")?];
        let service = mesh.service("echo").protocol("http").endpoints(addresses);
        mesh.apply("echo", &service.objects())?;
        if let Some(spec) = policy {
            mesh.apply("policy", &[traffic_policy(spec)])?;
        }
        let client = mesh.workload("client")?;
        let trio = Self {
            mesh,
            client,
            service,
            endpoints,
        };
        until("the service answers", PATIENCE, || {
            trio.get().is_ok_and(|status| status == 200)
        })
        .with_context(|| trio.logs())?;
        Ok(trio)
    }

    fn address(&self) -> SocketAddr {
        self.service.addresses()[0]
    }

    fn get(&self) -> anyhow::Result<u16> {
        let address = self.address();
        let asked = || request(address, "GET", "/", "");
        Ok(self.client.pod.enter(asked)?.0)
    }

    fn processed(&self) -> u64 {
        self.endpoints.iter().map(Moody::processed).sum()
    }

    fn logs(&self) -> String {
        format!(
            "client's sidecar:\n{}\ncontrol plane:\n{}",
            self.client.sidecar.log_tail(30),
            self.mesh.control_plane_log()
        )
    }
}

fn traffic_policy(mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{ "group": "", "kind": "Service", "name": "echo" }]);
    json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "name": "echo", "namespace": NAMESPACE },
        "spec": spec,
    })
}

/// A breaker that needs little to open, and retries of what may be retried.
fn resilient() -> Value {
    json!({
        "circuitBreaker": {
            "consecutiveFailures": 5,
            "failures": { "slowerThan": "300ms" },
            "openFor": "1s",
            "maxOpenFor": "1s",
        },
        "retry": {
            "attempts": 3,
            "on": ["connect-failure", "refused-stream", "reset", "5xx"],
            "perTryTimeout": "250ms",
            "backoff": { "base": "1ms", "max": "5ms" },
            "budget": { "percent": 50, "minimumPerSecond": 50 },
        },
    })
}

fn one_goes_bad(mood: Mood) -> anyhow::Result<()> {
    const NORMAL: Duration = Duration::from_millis(200);
    let trio = Trio::start(Some(resilient()))?;
    let pause = Duration::from_millis(5)..Duration::from_millis(15);
    let gets = Requests::get("/").paused(pause);
    let load = Load::http1_of(&trio.client.pod, trio.address(), gets, 16);
    answered(&load, 500)?;

    let [bad, ..] = &trio.endpoints;
    bad.becomes(mood);
    let turned = Instant::now();
    until("the latency is back to normal", PATIENCE, || {
        turned.elapsed() > Duration::from_secs(2)
    })?;
    let settled = Instant::now();
    answered(&load, 1_000)?;
    let p99 = load.p99_since(settled).context("requests were answered")?;
    ensure!(
        p99 < NORMAL,
        "{mood:?}: p99 {p99:?} two seconds later\n{}",
        trio.logs()
    );

    let before = bad.processed();
    bad.becomes(Mood::Well);
    until("the endpoint has its share again", PATIENCE, || {
        bad.processed() > before + 100
    })
    .with_context(|| trio.logs())?;
    let report = load.stop();
    let all = report.done + report.failed;
    ensure!(
        report.failed * 1_000 <= all,
        "{mood:?}: {} of {all} failed: {:#?}\n{}",
        report.failed,
        report.failures,
        trio.logs()
    );
    Ok(())
}

fn posts_are_processed_once() -> anyhow::Result<()> {
    const POSTS: u64 = 100_000;
    let trio = Trio::start(Some(resilient()))?;
    for endpoint in &trio.endpoints {
        endpoint.becomes(Mood::Cutting(20));
    }
    let load = Load::http1_of(&trio.client.pod, trio.address(), Requests::post("/"), 32);
    until("all were sent", Duration::from_secs(300), || {
        load.done() + load.failed() >= POSTS
    })?;
    let report = load.stop();
    let mut processed = std::collections::HashMap::<String, u32>::new();
    for endpoint in &trio.endpoints {
        for (id, times) in endpoint.ledger().by_id {
            *processed.entry(id).or_default() += times;
        }
    }
    let twice: Vec<_> = processed.iter().filter(|(_, times)| **times > 1).collect();
    ensure!(
        twice.is_empty(),
        "{} of {POSTS} twice: {twice:?}",
        twice.len()
    );
    ensure!(
        processed.len() as u64 >= report.done && report.done > POSTS / 2,
        "{} processed, {} answered, {} failed: {:#?}",
        processed.len(),
        report.done,
        report.failed,
        report.failures
    );
    Ok(())
}

/// nginx ends a connection that has been idle for a second, just when the next request may come.
fn short_keep_alive() -> anyhow::Result<()> {
    /// The time that requests go on for; five minutes say more than the default.
    const SPAN: &str = "WEFT_TEST_KEEP_ALIVE_SECONDS";
    let span = env::var(SPAN).map_or(Ok(30), |text| text.parse().context(SPAN))?;
    let mesh = Mesh::start()?;
    let server = mesh.workload("server")?;
    let root = mesh.directory().join("nginx");
    std::fs::create_dir(&root)?;
    std::os::unix::fs::chown(&root, Some(APPLICATION_UID), Some(APPLICATION_UID))?;
    let config = root.join("nginx.conf");
    std::fs::write(&config, nginx(&root.display().to_string()))?;
    let nginx = server
        .pod
        .command("nginx")
        .arg("-e")
        .arg("stderr")
        .arg("-p")
        .arg(&root)
        .arg("-c")
        .arg(&config)
        .uid(APPLICATION_UID)
        .spawn()?;
    let endpoint = SocketAddr::new(server.pod.ipv4().into(), PORT);
    let service = mesh.service("echo").protocol("http").endpoints([endpoint]);
    mesh.apply("echo", &service.objects())?;
    let client = mesh.workload("client")?;
    let address = service.addresses()[0];
    until("nginx answers", PATIENCE, || {
        let asked = || request(address, "GET", "/", "");
        client
            .pod
            .enter(asked)
            .is_ok_and(|(status, _)| status == 200)
    })
    .with_context(|| nginx.log_tail(10))?;

    let pause = Duration::from_millis(900)..Duration::from_millis(1_100);
    for requests in [Requests::get("/"), Requests::post("/")] {
        let load = Load::http1_of(&client.pod, address, requests.paused(pause.clone()), 50);
        let start = Instant::now();
        let all = Duration::from_secs(span);
        until("the time is over", all + PATIENCE, || start.elapsed() > all)?;
        load.stop().check().with_context(|| {
            format!(
                "{}\n{}",
                client.sidecar.log_tail(10),
                server.sidecar.log_tail(10)
            )
        })?;
    }
    Ok(())
}

fn nginx(root: &str) -> String {
    format!(
        "daemon off; pid {root}/pid; worker_processes 1; error_log stderr;
         events {{ worker_connections 1024; }}
         http {{
           access_log off; keepalive_timeout 1s;
           client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
           uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
           server {{ listen [::]:{PORT} ipv6only=off; location / {{ return 200 'nginx'; }} }}
         }}"
    )
}

fn retry_storm() -> anyhow::Result<()> {
    let policy = json!({
        "retry": {
            "attempts": 5,
            "on": ["5xx", "reset", "connect-failure"],
            "backoff": { "base": "1ms", "max": "2ms" },
        },
    });
    let trio = Trio::start(Some(policy))?;
    for endpoint in &trio.endpoints {
        endpoint.becomes(Mood::Failing(503));
    }
    let pause = Duration::from_millis(5)..Duration::from_millis(15);
    let gets = Requests::get("/").paused(pause);
    let load = Load::http1_of(&trio.client.pod, trio.address(), gets, 16);
    let failed = |more: u64| {
        let goal = load.failed() + more;
        until("more requests have failed", 3 * PATIENCE, || {
            load.failed() >= goal
        })
    };
    failed(500)?;
    let (offered, reached) = (load.failed(), trio.processed());
    failed(3_000)?;
    let (offered, reached) = (load.failed() - offered, trio.processed() - reached);
    load.stop();
    ensure!(
        reached * 10 <= offered * 12 + 160,
        "{offered} requests became {reached}"
    );
    ensure!(
        reached > offered,
        "nothing was retried: {offered}, {reached}"
    );
    Ok(())
}

fn restless_policy() -> anyhow::Result<()> {
    let trio = Trio::start(Some(resilient()))?;
    let [bad, ..] = &trio.endpoints;
    let load = Load::http1(&trio.client.pod, trio.address(), "/", 8);
    bad.becomes(Mood::Failing(503));
    let ejected =
        || -> anyhow::Result<bool> { Ok(trio.client.admin("/clusters")?.contains("eject")) };
    until("the bad endpoint is ejected", PATIENCE, || {
        ejected().unwrap_or(false)
    })
    .with_context(|| trio.client.admin("/clusters").unwrap_or_default())?;
    let memory = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", trio.client.sidecar.id()));
        let line = status
            .ok()?
            .lines()
            .find(|line| line.starts_with("VmRSS"))?
            .to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let requests = || served(&trio.client);
    let (before, started) = (memory().context("a sidecar has memory")?, requests()?);

    let change = Duration::from_millis(100);
    let mut last = started;
    for step in 0..100u64 {
        let mut policy = resilient();
        policy["timeout"] = json!({ "request": format!("{}ms", 10_000 + step) });
        policy["circuitBreaker"]["consecutiveFailures"] = json!(5 + step % 2);
        policy["loadBalancer"] = json!({
            "algorithm": (["PeakEwma", "RoundRobin", "LeastRequest"])[step as usize % 3],
        });
        let next = Instant::now() + change;
        trio.mesh.apply("policy", &[traffic_policy(policy)])?;
        until("the next change is due", PATIENCE, || {
            Instant::now() >= next
        })?;
        let now = requests()?;
        ensure!(now >= last, "a counter was reset: {last}, then {now}");
        last = now;
    }
    load.stop().check().with_context(|| {
        let metrics = trio.client.admin("/metrics").unwrap_or_default();
        let retries = metrics.lines().filter(|line| line.contains("retr"));
        let retries: Vec<_> = retries.collect();
        format!("{}\n{}", retries.join("\n"), trio.logs())
    })?;
    let after = memory().context("a sidecar has memory")?;
    ensure!(
        after < before + before / 4,
        "memory went from {before} kB to {after} kB"
    );
    Ok(())
}

/// How many requests the sidecar says that its application has made.
fn served(workload: &Workload) -> anyhow::Result<u64> {
    let page = workload.admin("/metrics")?;
    let counts = page
        .lines()
        .filter(|line| line.starts_with("weft_requests_total{") && line.contains("outbound"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(counts.sum::<f64>() as u64)
}

/// Waits until so many more were answered.
fn answered(load: &Load, more: u64) -> anyhow::Result<()> {
    let goal = load.done() + more;
    until("more requests are answered", 2 * PATIENCE, || {
        load.done() >= goal
    })
}
