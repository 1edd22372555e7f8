//! gRPC: routes, retries by code, time limits of callers, faults.

use super::both::{Both, PORT, Proxy, apply};
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use weft_tests::{
    apps::grpc::{self, Outcome},
    mesh::NAMESPACE,
};
use weft_xds_proto::names;

const HOST: &str = "echo.demo.svc.cluster.local";
const ECHO: &str = "/weft.test.Echo/Talk";

impl Both {
    fn call(
        &self,
        proxy: Proxy,
        service: SocketAddr,
        path: &str,
        fields: &[(&str, &str)],
    ) -> anyhow::Result<Outcome> {
        match proxy {
            Proxy::Weft => self
                .weft
                .pod
                .enter(|| grpc::call(service, HOST, path, fields)),
            Proxy::Envoy => {
                let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, names::OUTBOUND_PORT));
                self.envoy_pod
                    .enter(|| grpc::call(listener, HOST, path, fields))
            }
        }
    }
}

fn answered(by: &str) -> Outcome {
    Outcome {
        code: 0,
        message: Some(format!("{by}:hello")),
    }
}

pub(super) fn calls() -> anyhow::Result<()> {
    let both = Both::start()?;
    let network = both.mesh.network();
    let (stable, canary) = (network.pod("stable")?, network.pod("canary")?);
    let calls: Arc<AtomicU64> = Arc::default();
    let _stable = grpc::start_counting(&stable, PORT, "stable", calls.clone())?;
    let _canary = grpc::start(&canary, PORT, "canary")?;
    let echo = both.service_of("grpc", "echo", &[&stable])?;
    both.service_of("grpc", "canary", &[&canary])?;
    both.mesh.apply("route", &[route()])?;
    both.each("a method has a route", |proxy| {
        let by_method = both.call(proxy, echo, "/weft.test.Echo/New", &[])?;
        let by_field = both.call(proxy, echo, ECHO, &[("x-canary", "yes")])?;
        let by_service = both.call(proxy, echo, "/weft.test.Other/Talk", &[])?;
        let other = both.call(proxy, echo, ECHO, &[])?;
        Ok([by_method, by_field, by_service, other]
            == ["canary", "canary", "canary", "stable"].map(answered))
    })?;

    let retry = json!({
        "attempts": 3, "on": ["unavailable"],
        "methods": ["POST"],
        "backoff": { "base": "1ms", "max": "2ms" },
        "budget": { "percent": 100, "minimumPerSecond": 100 },
    });
    apply(&both, json!({ "retry": retry }))?;
    for (code, attempts) in [(14, 3), (13, 1)] {
        both.each("as many attempts are made as the code allows", |proxy| {
            let before = calls.load(Ordering::Relaxed);
            let outcome = both.call(proxy, echo, ECHO, &[("x-code", &code.to_string())])?;
            Ok(outcome.code == code && calls.load(Ordering::Relaxed) == before + attempts)
        })?;
    }

    apply(&both, json!({ "timeout": { "request": "300ms" } }))?;
    both.each("a call takes too long", |proxy| {
        let outcome = both.call(proxy, echo, ECHO, &[("x-pause", "3000")])?;
        Ok(outcome.code == too_late(proxy))
    })?;
    apply(&both, json!({ "timeout": { "request": "10s" } }))?;
    both.each("a caller has less time than the policy allows", |proxy| {
        let fields = [("x-pause", "3000"), ("grpc-timeout", "200m")];
        let outcome = both.call(proxy, echo, ECHO, &fields)?;
        Ok(outcome.code == too_late(proxy))
    })?;

    apply(
        &both,
        json!({ "fault": { "abort": { "percent": 100, "grpcStatus": "RESOURCE_EXHAUSTED" } } }),
    )?;
    both.each("a call fails on purpose", |proxy| {
        Ok(both.call(proxy, echo, ECHO, &[])?.code == 8)
    })
}

/// DEADLINE_EXCEEDED; Envoy translates its 504 as if it came from elsewhere, which is UNAVAILABLE.
fn too_late(proxy: Proxy) -> u16 {
    match proxy {
        Proxy::Weft => 4,
        Proxy::Envoy => 14,
    }
}

fn route() -> Value {
    let canary = json!([{ "name": "canary", "port": 80 }]);
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": { "name": "echo", "namespace": NAMESPACE },
        "spec": {
            "parentRefs": [{ "group": "", "kind": "Service", "name": "echo" }],
            "rules": [
                {
                    "matches": [
                        { "method": { "service": "weft.test.Echo", "method": "New" } },
                        { "method": { "service": "weft.test.Other" } },
                        { "headers": [{ "name": "x-canary", "value": "yes" }] },
                    ],
                    "backendRefs": canary,
                },
                { "backendRefs": [{ "name": "echo", "port": 80 }] },
            ],
        },
    })
}
