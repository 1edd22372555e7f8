//! The smallest mesh with an edge: `client` calls the service `echo`, which `server` serves.

use anyhow::{Context, ensure};
use serde_json::Value;
use std::{net::SocketAddr, time::Duration};
use weft_cli::sandbox::Pod;
use weft_tests::{
    Mesh, Workload,
    apps::App,
    manifest::{Annotations, Service},
    wait::{request, until},
};

/// How long a condition may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The port of the application.
pub(crate) const PORT: u16 = 8080;

/// Two workloads with sidecars, and the service by which one calls the other.
pub(crate) struct Pair {
    pub(crate) mesh: Mesh,
    pub(crate) client: Workload,
    pub(crate) server: Workload,
    pub(crate) service: Service,
    _app: App,
}

impl Pair {
    /// Starts the mesh and the application. `protocol` is the name of the service's port; none leaves it undeclared.
    pub(crate) fn start(
        protocol: Option<&str>,
        app: impl FnOnce(&Pod) -> anyhow::Result<App>,
    ) -> anyhow::Result<Self> {
        Self::start_with(protocol, &Annotations::new(), app)
    }

    /// The same, with annotations on the server's pod.
    pub(crate) fn start_with(
        protocol: Option<&str>,
        annotations: &Annotations,
        app: impl FnOnce(&Pod) -> anyhow::Result<App>,
    ) -> anyhow::Result<Self> {
        let mesh = Mesh::start()?;
        let server = mesh.workload_with("server", annotations, &[])?;
        let app = app(&server.pod)?;
        let endpoints = server.addresses().into_iter();
        let mut service = mesh
            .service("echo")
            .endpoints(endpoints.map(|ip| SocketAddr::new(ip, PORT)));
        if let Some(protocol) = protocol {
            service = service.protocol(protocol);
        }
        mesh.apply("echo", &service.objects())?;
        let client = mesh.workload("client")?;
        Ok(Self {
            mesh,
            client,
            server,
            service,
            _app: app,
        })
    }

    /// The address of the service over IPv4.
    pub(crate) fn address(&self) -> SocketAddr {
        self.service.addresses()[0]
    }

    /// GETs JSON from the service.
    pub(crate) fn get(&self, address: SocketAddr, path: &str) -> anyhow::Result<Value> {
        let (status, body) = self
            .client
            .pod
            .enter(|| request(address, "GET", path, ""))?;
        ensure!(status == 200, "{status}: {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Waits until the HTTP application answers over both IP versions.
    pub(crate) fn wait_for_http(&self) -> anyhow::Result<()> {
        for address in self.service.addresses() {
            let answer = || self.get(address, "/whoami");
            until("the service answers", PATIENCE, || answer().is_ok())
                .with_context(|| format!("{address}: {:?}\n{}", answer(), self.logs()))?;
        }
        Ok(())
    }

    /// What both sidecars said last.
    pub(crate) fn logs(&self) -> String {
        format!(
            "client's sidecar:\n{}\nserver's sidecar:\n{}",
            self.client.sidecar.log_tail(20),
            self.server.sidecar.log_tail(20)
        )
    }
}
