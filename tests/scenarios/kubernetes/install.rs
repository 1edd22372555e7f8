//! From the chart to traffic: the control plane with exactly the rights of its chart, and pods as the webhook patches
//! them.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};
use weft_tests::{
    Need, Suite,
    apps::{self, App},
    kubernetes::{
        Running,
        cluster::{Cluster, SYSTEM},
    },
    peers::helm::Helm,
    wait::{http_get, request, until},
};

/// How long a condition may take on a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// What every scenario of an installation needs.
pub(super) const NEEDS: &[Need] = &[Need::Namespaces, Need::Helm(Helm::V4), Need::StandIn];
/// The namespace of the workloads.
pub(super) const NAMESPACE: &str = "demo";
/// The port of the application.
pub(super) const PORT: u16 = 8080;

pub(super) fn add(suite: Suite) -> Suite {
    suite.test(
        "kubernetes::an_installed_chart_injects_pods_that_join_the_mesh",
        NEEDS,
        installed,
    )
}

/// A cluster with Weft, and a client that calls the service `echo` of a server.
pub(super) struct Installed {
    pub(super) client: Running,
    pub(super) server: Running,
    _app: App,
    pub(super) control_plane: Running,
    pub(super) cluster: Cluster,
}

impl Installed {
    /// Installs the chart with defaults, and starts everything.
    pub(super) fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::start()?;
        cluster.install(&[])?;
        let control_plane = cluster.control_plane("weft-control-plane-a")?;
        cluster.endpoints(SYSTEM, "weft-control-plane", &[&control_plane])?;
        let webhook_has_roots = || {
            let group = "admissionregistration.k8s.io/v1";
            let kind = "MutatingWebhookConfiguration";
            let configuration = cluster.api.get(group, kind, "", "weft-injector");
            let configuration = configuration.unwrap_or_default();
            let mut webhooks = configuration["webhooks"].as_array().into_iter().flatten();
            webhooks.all(|webhook| webhook["clientConfig"]["caBundle"].is_string())
        };
        until("the control plane is ready", PATIENCE, || {
            http_get(&control_plane.pod, 15014, "/readyz").is_ok_and(|(status, _)| status == 200)
        })
        .and_then(|()| until("the webhook has roots", PATIENCE, webhook_has_roots))
        .with_context(|| control_plane.log("control-plane"))?;

        cluster.namespace(NAMESPACE, json!({ "weft.dev/inject": "enabled" }))?;
        let server = cluster.run(&pod("server"))?;
        let client = cluster.run(&pod("client"))?;
        let app = apps::http::start(&server.pod, PORT, "server")?;
        let installed = Self {
            client,
            server,
            _app: app,
            control_plane,
            cluster,
        };
        installed.serve("echo")?;
        Ok(installed)
    }

    /// Makes a service whose endpoint is the server, or gives it back its endpoint.
    pub(super) fn serve(&self, name: &str) -> anyhow::Result<()> {
        if self
            .cluster
            .api
            .get("v1", "Service", NAMESPACE, name)
            .is_none()
        {
            self.cluster.api.create(&json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": { "name": name, "namespace": NAMESPACE },
                "spec": { "ports": [{ "name": "http", "port": 80, "targetPort": PORT }] },
            }))?;
        }
        self.cluster.endpoints(NAMESPACE, name, &[&self.server])
    }

    /// The address of a service.
    pub(super) fn address(&self, name: &str) -> anyhow::Result<SocketAddr> {
        let service = self.cluster.api.get("v1", "Service", NAMESPACE, name);
        let service = service.with_context(|| format!("service {name}"))?;
        let ip = service["spec"]["clusterIP"].as_str().unwrap_or_default();
        Ok(SocketAddr::new(ip.parse()?, 80))
    }

    /// What the client is answered by an address.
    pub(super) fn get(&self, address: SocketAddr) -> anyhow::Result<(u16, String)> {
        self.client
            .pod
            .enter(|| request(address, "GET", "/whoami", ""))
    }

    /// Waits until the service `echo` answers the client.
    pub(super) fn wait(&self) -> anyhow::Result<Value> {
        let address = self.address("echo")?;
        let mut last = Err(anyhow::anyhow!("nothing was asked yet"));
        until("the service answers", PATIENCE, || {
            last = self.get(address);
            last.as_ref().is_ok_and(|(status, _)| *status == 200)
        })
        .with_context(|| {
            format!(
                "last answer: {last:?}\nclient:\n{}\nserver:\n{}\ncontrol plane:\n{}",
                self.client.log("weft-proxy"),
                self.server.log("weft-proxy"),
                self.control_plane.log("control-plane")
            )
        })?;
        Ok(serde_json::from_str(&last?.1)?)
    }
}

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": { "app": name } },
        "spec": { "serviceAccountName": name, "containers": [{ "name": "app", "image": "app:1" }] },
    })
}

fn installed() -> anyhow::Result<()> {
    let installed = Installed::start()?;
    let init = installed.server.object["spec"]["initContainers"].as_array();
    let names: Vec<&Value> = init
        .context("an injected pod has init containers")?
        .iter()
        .map(|container| &container["name"])
        .collect();
    ensure!(names == ["weft-init", "weft-proxy"], "{names:?}");

    let seen = installed.wait()?;
    let certificate = seen["headers"]["x-forwarded-client-cert"].to_string();
    ensure!(
        certificate.contains("spiffe://cluster.local/ns/demo/sa/client"),
        "the server knows its caller by mTLS: {seen}"
    );
    let forbidden = installed.cluster.api.requests().forbidden();
    ensure!(forbidden.is_empty(), "rights are missing: {forbidden:#?}");
    Ok(())
}
