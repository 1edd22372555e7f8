//! Two callers of one mesh, a sidecar and an Envoy, and what they are asked.

use crate::{interop::ads_bootstrap, pair::PATIENCE};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
};
use weft_cli::sandbox::Pod;
use weft_tests::{
    Mesh, Workload,
    apps::{self, App, moody::Moody},
    mesh::NAMESPACE,
    peers::envoy::Envoy,
    wait::until,
};
use weft_xds_proto::names;

/// The port of every application.
pub(super) const PORT: u16 = 8080;

/// A mesh with two callers: a workload with a sidecar, and an Envoy.
pub(super) struct Both {
    pub(super) mesh: Mesh,
    pub(super) weft: Workload,
    pub(super) envoy_pod: Pod,
    pub(super) envoy: Envoy,
}

/// One of the two proxies, as somebody who calls through it.
#[derive(Clone, Copy)]
pub(super) enum Proxy {
    Weft,
    Envoy,
}

pub(super) const PROXIES: [(&str, Proxy); 2] = [("Weft", Proxy::Weft), ("Envoy", Proxy::Envoy)];

/// What a caller got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

/// What a caller asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'q> {
    pub(super) method: &'q str,
    pub(super) host: &'q str,
    pub(super) path: &'q str,
    pub(super) headers: &'q [(&'q str, &'q str)],
}

impl<'q> Question<'q> {
    pub(super) const fn get(path: &'q str) -> Self {
        Self {
            method: "GET",
            host: "echo.demo.svc.cluster.local",
            path,
            headers: &[],
        }
    }
}

impl Both {
    pub(super) fn start() -> anyhow::Result<Self> {
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
    pub(super) fn service(&self, name: &str, pods: &[&Pod]) -> anyhow::Result<SocketAddr> {
        self.service_of("http", name, pods)
    }

    /// A service that speaks a protocol.
    pub(super) fn service_of(
        &self,
        protocol: &str,
        name: &str,
        pods: &[&Pod],
    ) -> anyhow::Result<SocketAddr> {
        let endpoints = pods
            .iter()
            .map(|pod| SocketAddr::new(pod.ipv4().into(), PORT));
        let service = self
            .mesh
            .service(name)
            .protocol(protocol)
            .endpoints(endpoints);
        self.mesh.apply(name, &service.objects())?;
        Ok(service.addresses()[0])
    }

    /// Asks through a proxy: the sidecar intercepts what is sent to the service, Envoy goes by the Host field.
    pub(super) fn ask(
        &self,
        proxy: Proxy,
        service: SocketAddr,
        question: &Question<'_>,
    ) -> anyhow::Result<Answer> {
        receive(self.send(proxy, service, question)?)
    }

    /// Sends a question through a proxy, and leaves the answer for later.
    pub(super) fn send(
        &self,
        proxy: Proxy,
        service: SocketAddr,
        question: &Question<'_>,
    ) -> anyhow::Result<TcpStream> {
        match proxy {
            Proxy::Weft => self.weft.pod.enter(|| send(service, question)),
            Proxy::Envoy => {
                let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, names::OUTBOUND_PORT));
                self.envoy_pod.enter(|| send(listener, question))
            }
        }
    }

    /// Waits until something holds of what each proxy does.
    pub(super) fn each(
        &self,
        what: &str,
        mut holds: impl FnMut(Proxy) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        for (name, proxy) in PROXIES {
            until(what, PATIENCE, || holds(proxy).unwrap_or(false))
                .with_context(|| format!("{name}\n{}", self.logs()))?;
        }
        Ok(())
    }

    /// Waits until both proxies answer a question as they should.
    pub(super) fn until_both(
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
    pub(super) fn agree<T: PartialEq + std::fmt::Debug>(
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
    pub(super) fn distribution(
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

    pub(super) fn logs(&self) -> String {
        format!(
            "the sidecar:\n{}\nEnvoy:\n{}\nthe control plane:\n{}",
            self.weft.sidecar.log_tail(10),
            self.envoy.log(),
            self.mesh.control_plane_log()
        )
    }
}

fn send(address: SocketAddr, question: &Question<'_>) -> anyhow::Result<TcpStream> {
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
    Ok(stream)
}

/// Receives the answer to what was sent.
pub(super) fn receive(mut stream: TcpStream) -> anyhow::Result<Answer> {
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
pub(super) fn server(answer: &Answer) -> String {
    whoami(answer)
        .and_then(|whoami| Some(whoami["name"].as_str()?.to_owned()))
        .unwrap_or_else(|| answer.body.clone())
}

/// The JSON of `/whoami`, which may be within one chunk.
pub(super) fn whoami(answer: &Answer) -> Option<Value> {
    let (start, end) = (answer.body.find('{')?, answer.body.rfind('}')?);
    serde_json::from_str(answer.body.get(start..=end)?).ok()
}

pub(super) fn http_route(name: &str, rules: Value) -> Value {
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

pub(super) fn backend(name: &str) -> Value {
    json!([{ "name": name, "port": 80 }])
}

pub(super) fn policy(mut spec: Value) -> Value {
    spec["targetRefs"] = json!([{ "group": "", "kind": "Service", "name": "echo" }]);
    json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "name": "echo", "namespace": NAMESPACE },
        "spec": spec,
    })
}

/// Two applications that tell what they saw, each behind a service of its own.
pub(super) fn two(both: &Both) -> anyhow::Result<([App; 2], SocketAddr)> {
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

/// Three endpoints that can go bad, as one service, and its address.
pub(super) fn three(both: &Both) -> anyhow::Result<([Moody; 3], SocketAddr)> {
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
pub(super) fn apply(both: &Both, spec: Value) -> anyhow::Result<()> {
    both.mesh.apply("policy", &[policy(spec)])
}
