//! Weft: sidecars in explicit mode, configured by a real control plane.

use super::{ADMIN_PORT, OUTBOUND_PORT, Pair, Peer, Sidecar, Sidecars};
use crate::{
    application::Service,
    certificates::Leaf,
    ground::{self, Ground, Loopback},
    programs::{Program, Programs},
};
use serde_json::{Value, json};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};
use weft_cli::sandbox::{Child, Command};
use weft_tests::{
    mesh::{NAMESPACE, TRUST_DOMAIN},
    token,
};
use weft_xds_proto::names;

/// The pods, each named like its service account.
const CLIENT: &str = "client";
const SERVER: &str = "server";

/// A running control plane over the objects of the benchmark.
pub(crate) struct ControlPlane {
    /// Whose sidecars it configures.
    pub(crate) peer: Peer,
    _process: Child,
    xds: SocketAddr,
    roots: PathBuf,
    /// Tokens by which the sidecars join, in files named like their pods.
    tokens: PathBuf,
    /// A certificate of the mesh for a load generator that is its own sidecar.
    pub(crate) caller: Leaf,
}

impl ControlPlane {
    /// Starts it and waits until it is ready.
    pub(crate) fn start(
        peer: Peer,
        programs: &Programs,
        loopback: Loopback,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let program = programs.path(Program::WeftControlPlane)?;
        let directory = &directory.join(peer.name());
        let [config, ca, tokens] = ["config", "ca", "tokens"].map(|name| directory.join(name));
        for directory in [&config, &ca, &tokens] {
            fs::create_dir_all(directory)?;
        }
        let policies = Service::ALL.map(policy);
        let policies = policies.iter().filter(|_| peer == Peer::WeftPolicy);
        let objects = objects(loopback);
        let documents: Vec<_> = objects
            .iter()
            .chain(policies)
            .map(Value::to_string)
            .collect();
        fs::write(config.join("mesh.yaml"), documents.join("\n---\n"))?;
        let address = |port| SocketAddr::new(loopback.control_plane(peer), port);
        let xds = address(names::XDS_TLS_PORT);
        let monitoring = address(names::MONITORING_PORT);
        let process = Command::new(program)
            .arg("run")
            .arg(format!("--config-dir={}", config.display()))
            .arg(format!("--ca-dir={}", ca.display()))
            .arg(format!("--trust-domain={TRUST_DOMAIN}"))
            .arg(format!("--xds-address={xds}"))
            .arg(format!("--monitoring-address={monitoring}"))
            .arg(format!("--tls-san={}", loopback.control_plane(peer)))
            .spawn()?;
        ground::until_running(&process, "is ready", || {
            ground::answers(monitoring, "/readyz")
        })?;
        for pod in [CLIENT, SERVER] {
            fs::write(
                tokens.join(pod),
                token::join(program, &ca, NAMESPACE, pod, pod)?,
            )?;
        }
        let caller = Leaf::signed_by(
            CLIENT,
            &ca.join("ca-cert.pem"),
            &ca.join("ca-key.pem"),
            directory,
        )?;
        Ok(Self {
            peer,
            _process: process,
            caller,
            xds,
            roots: ca.join("root-cert.pem"),
            tokens,
        })
    }
}

/// Starts the sidecars of both pods.
pub(super) fn start(peer: Peer, service: Service, ground: &Ground) -> anyhow::Result<Pair> {
    let loopback = ground.loopback;
    let inbound = SocketAddr::new(loopback.server(), service.port());
    let application = SocketAddr::new(loopback.application(), service.port());
    let control_plane = ground.control_plane(peer)?;
    let server = sidecar(SERVER, loopback.server(), ground, control_plane)?
        .arg(format!("--inbound-listen={inbound}"))
        .arg(format!("--app-address={application}"));
    let client = sidecar(CLIENT, loopback.client(), ground, control_plane)?;
    let start = |command, address| {
        let health = SocketAddr::new(address, names::HEALTH_PORT);
        Sidecar::start(command, health, "/readyz")
    };
    let server = start(server, loopback.server())?;
    let client = start(client, loopback.client())?;
    Ok(Pair {
        entry: SocketAddr::new(loopback.client(), OUTBOUND_PORT),
        sidecars: Some(Sidecars { client, server }),
    })
}

fn sidecar(
    pod: &str,
    address: IpAddr,
    ground: &Ground,
    control_plane: &ControlPlane,
) -> anyhow::Result<Command> {
    let own = |port| SocketAddr::new(address, port);
    Ok(Command::new(ground.programs.path(Program::WeftProxy)?)
        .name(format!("weft-proxy of the {pod}"))
        .arg("run")
        .arg("--mode=explicit")
        .arg("--workers=1")
        .arg(format!("--namespace={NAMESPACE}"))
        .arg(format!("--pod={pod}"))
        .arg(format!("--service-account={pod}"))
        .arg(format!("--workload={pod}"))
        .arg(format!("--pod-ips={address}"))
        .arg(format!("--trust-domain={TRUST_DOMAIN}"))
        .arg(format!("--xds-address={}", control_plane.xds))
        .arg(format!("--xds-ca={}", control_plane.roots.display()))
        .arg(format!(
            "--xds-token={}",
            control_plane.tokens.join(pod).display()
        ))
        .arg(format!("--outbound-listen={}", own(OUTBOUND_PORT)))
        .arg(format!("--admin-listen={}", own(ADMIN_PORT)))
        .arg(format!("--metrics-listen={}", own(names::METRICS_PORT)))
        .arg(format!("--health-listen={}", own(names::HEALTH_PORT))))
}

/// The objects of the mesh: strict mutual TLS, two pods, and every service with the one endpoint that the server is.
fn objects(loopback: Loopback) -> Vec<Value> {
    let mesh = json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "MeshConfig",
        "metadata": { "name": "default" },
        "spec": { "mtls": { "mode": "Strict" } },
    });
    let pods = [(CLIENT, loopback.client()), (SERVER, loopback.server())];
    let pods = pods.map(|(name, address)| {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "namespace": NAMESPACE, "labels": { "app": name } },
            "spec": {
                "serviceAccountName": name,
                "containers": [{ "name": "app" }, { "name": "weft-proxy" }],
            },
            "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] },
        })
    });
    let services = Service::ALL
        .into_iter()
        .zip(1_u8..)
        .flat_map(|(service, number)| service_objects(service, number, loopback));
    [mesh].into_iter().chain(pods).chain(services).collect()
}

/// A policy that has to look at every request and is never the reason why one fails.
fn policy(service: Service) -> Value {
    let name = service.name();
    json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "targetRefs": [{ "group": "", "kind": "Service", "name": name }],
            "loadBalancer": {
                "algorithm": "PeakEwma",
                "slowStart": { "window": "30s" },
                "zone": "Prefer",
            },
            "connections": { "max": 10_000, "maxPending": 10_000, "maxRequests": 10_000 },
            "circuitBreaker": {
                "consecutiveFailures": 5,
                "failureRatio": { "ratio": 0.6, "minimumRequests": 20, "window": "10s" },
                "failures": { "slowerThan": "10s" },
            },
            "retry": {
                "attempts": 3,
                "on": ["connect-failure", "refused-stream", "reset", "5xx", "unavailable"],
                "perTryTimeout": "10s",
            },
            "timeout": { "request": "15s", "idle": "5m" },
            "rateLimit": { "requests": 1_000_000, "per": "1s", "by": ["Identity"] },
            "concurrencyLimit": { "maximum": 100_000 },
            "fault": {
                "abort": { "percent": 100, "status": 503 },
                "headers": [{ "name": "x-fault", "value": "yes" }],
            },
        },
    })
}

fn service_objects(service: Service, number: u8, loopback: Loopback) -> [Value; 2] {
    let endpoint = service.endpoint(loopback);
    let mut endpoint_object = json!({
        "addresses": [endpoint.ip()],
        "conditions": { "ready": true },
    });
    if service.has_sidecar() {
        endpoint_object["targetRef"] =
            json!({ "kind": "Pod", "name": SERVER, "namespace": NAMESPACE });
    }
    let (name, protocol) = (service.name(), service.app_protocol());
    let cluster_ip = IpAddr::from([10, 96, 0, number]);
    [
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": {
                "clusterIP": cluster_ip,
                "clusterIPs": [cluster_ip],
                "ports": [{ "name": "web", "port": 80, "protocol": "TCP", "appProtocol": protocol }],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-1"),
                "namespace": NAMESPACE,
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "web", "port": endpoint.port(), "protocol": "TCP", "appProtocol": protocol }],
            "endpoints": [endpoint_object],
        }),
    ]
}
