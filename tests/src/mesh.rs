//! A mesh to test: a control plane over a directory of objects, and workloads with sidecars, each in its pod.

use crate::{
    binaries,
    manifest::{self, Service},
    token,
    wait::{self, until},
};
use anyhow::{Context, ensure};
use serde_json::Value;
use std::{
    fs::{self, Permissions},
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};
use tempfile::TempDir;
use weft_cli::sandbox::{Child, Network, Pod};
use weft_xds_proto::names;

/// The namespace of every workload of a test mesh.
pub const NAMESPACE: &str = "demo";
/// The trust domain of every test mesh.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// The user that applications run as when they are processes of their own.
pub const APPLICATION_UID: u32 = 1000;
/// How long a part may take to start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A network with a control plane.
pub struct Mesh {
    network: Network,
    control_plane: ControlPlane,
    directory: TempDir,
    services: AtomicU8,
}

/// The control plane's pod, and its process unless it was killed.
struct ControlPlane {
    pod: Pod,
    process: Option<Child>,
    arguments: Vec<String>,
}

/// A pod with a sidecar. Applications are started in its [`pod`](Workload::pod).
pub struct Workload {
    /// The name of the workload, its service account and its pod.
    pub name: String,
    /// Its pod.
    pub pod: Pod,
    /// Its sidecar.
    pub sidecar: Child,
}

impl Mesh {
    /// Starts a control plane over an empty directory.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// Starts a control plane with further arguments.
    pub fn start_with(arguments: &[&str]) -> anyhow::Result<Self> {
        let network = Network::new()?;
        let directory = tempfile::tempdir()?;
        // Sidecars run as a user of their own and read the roots.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        fs::create_dir(directory.path().join("config"))?;
        let pod = network.pod("control-plane")?;
        let mut all: Vec<String> = vec![
            "run".into(),
            format!("--config-dir={}", directory.path().join("config").display()),
            format!("--ca-dir={}", directory.path().join("ca").display()),
            format!("--trust-domain={TRUST_DOMAIN}"),
            format!("--plaintext-xds-address=[::]:{}", names::XDS_PLAINTEXT_PORT),
            format!("--tls-san={}", pod.ipv4()),
        ];
        all.extend(arguments.iter().map(ToString::to_string));
        let mut mesh = Self {
            network,
            control_plane: ControlPlane {
                pod,
                process: None,
                arguments: all,
            },
            directory,
            services: AtomicU8::new(1),
        };
        mesh.start_control_plane()?;
        Ok(mesh)
    }

    /// The network of the mesh, for pods outside of it.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The address of the control plane's pod.
    pub fn control_plane_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.control_plane.pod.ipv4().into(), port)
    }

    /// A directory that lives as long as the mesh and that every user may read.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file with the roots of the mesh.
    pub fn roots(&self) -> PathBuf {
        self.directory.path().join("ca/root-cert.pem")
    }

    /// Starts the control plane (again) and waits until it is ready.
    pub fn start_control_plane(&mut self) -> anyhow::Result<()> {
        let process = self
            .control_plane
            .pod
            .command(binaries::path("weft-control-plane")?)
            .args(&self.control_plane.arguments)
            .spawn()?;
        self.control_plane.process = Some(process);
        let ready = || {
            wait::http_get(&self.control_plane.pod, names::MONITORING_PORT, "/readyz")
                .is_ok_and(|(status, _)| status == 200)
        };
        until("the control plane is ready", PATIENCE, ready).map_err(|error| {
            let log = self.control_plane_log();
            error.context(format!("log of the control plane:\n{log}"))
        })
    }

    /// Kills the control plane as a crash would.
    pub fn kill_control_plane(&mut self) -> anyhow::Result<()> {
        let process = self.control_plane.process.take();
        let process = process.context("the control plane runs")?;
        process.signal(rustix::process::Signal::KILL)?;
        until("the control plane is gone", PATIENCE, || {
            matches!(process.try_wait(), Ok(Some(_)))
        })
    }

    /// The last lines of the control plane's log.
    pub fn control_plane_log(&self) -> String {
        let process = self.control_plane.process.as_ref();
        process.map_or_else(String::new, |process| process.log_tail(40))
    }

    /// The control plane's metrics page.
    pub fn control_plane_metrics(&self) -> anyhow::Result<String> {
        let (_, page) =
            wait::http_get(&self.control_plane.pod, names::MONITORING_PORT, "/metrics")?;
        Ok(page)
    }

    /// Writes objects into a file of the watched directory, in place of what it held.
    pub fn apply(&self, file: &str, objects: &[Value]) -> anyhow::Result<()> {
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        self.write(file, &documents.join("\n---\n"))
    }

    /// Writes a file of the watched directory as it is, however wrong.
    pub fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let fresh = self.directory.path().join(format!("{file}.new"));
        fs::write(&fresh, text)?;
        let config = self.directory.path().join("config");
        fs::rename(fresh, config.join(format!("{file}.yaml")))?;
        Ok(())
    }

    /// Removes a file of the watched directory.
    pub fn remove(&self, file: &str) -> anyhow::Result<()> {
        let config = self.directory.path().join("config");
        fs::remove_file(config.join(format!("{file}.yaml")))?;
        Ok(())
    }

    /// A service with addresses of its own, not yet applied.
    pub fn service(&self, name: &str) -> Service {
        Service::new(name, self.services.fetch_add(1, Ordering::Relaxed))
    }

    /// A token by which a sidecar proves which pod it is of.
    pub fn join_token(&self, name: &str) -> anyhow::Result<String> {
        let program = binaries::path("weft-control-plane")?;
        let ca = self.directory.path().join("ca");
        token::join(&program, &ca, NAMESPACE, name, name)
    }

    /// Starts a workload: its pod, the object that describes it, interception and a ready sidecar.
    pub fn workload(&self, name: &str) -> anyhow::Result<Workload> {
        self.workload_with(name, &manifest::Annotations::new(), &[])
    }

    /// Starts a workload whose pod has annotations, and whose sidecar has further arguments.
    pub fn workload_with(
        &self,
        name: &str,
        annotations: &manifest::Annotations,
        arguments: &[&str],
    ) -> anyhow::Result<Workload> {
        let pod = self.network.pod(name)?;
        self.apply(
            &format!("pod-{name}"),
            &[manifest::pod(name, &addresses(&pod), annotations)],
        )?;
        self.intercept(&pod)?;
        let sidecar = self.sidecar(name, &pod, arguments)?;
        Ok(Workload {
            name: name.to_owned(),
            pod,
            sidecar,
        })
    }

    /// Redirects a pod's traffic to its sidecar, as the init step of an injected pod does.
    pub fn intercept(&self, pod: &Pod) -> anyhow::Result<()> {
        let init = pod
            .command(binaries::path("weft-proxy")?)
            .arg("init")
            .spawn()?;
        until("interception is set up", PATIENCE, || {
            !matches!(init.try_wait(), Ok(None))
        })?;
        let status = init.try_wait()?.context("init has ended")?;
        ensure!(status.success(), "weft-proxy init failed: {}", init.log());
        Ok(())
    }

    /// Starts a sidecar in a pod and waits until it is ready.
    pub fn sidecar(&self, name: &str, pod: &Pod, arguments: &[&str]) -> anyhow::Result<Child> {
        let token = self.directory.path().join(format!("{name}.token"));
        fs::write(&token, self.join_token(name)?)?;
        let address = self.control_plane_address(names::XDS_TLS_PORT);
        let sidecar = pod
            .command(binaries::path("weft-proxy")?)
            .arg("run")
            .arg(format!("--xds-address={address}"))
            .arg(format!("--xds-ca={}", self.roots().display()))
            .arg(format!("--xds-token={}", token.display()))
            .arg(format!("--trust-domain={TRUST_DOMAIN}"))
            .arg(format!("--namespace={NAMESPACE}"))
            .arg(format!("--pod={name}"))
            .arg(format!("--service-account={name}"))
            .arg(format!("--workload={name}"))
            .args(arguments)
            .uid(names::PROXY_UID)
            .name(format!("sidecar of {name}"))
            .spawn()?;
        let is_ready = || {
            wait::http_get(pod, names::HEALTH_PORT, "/readyz")
                .is_ok_and(|(status, _)| status == 200)
        };
        let waited = until("the sidecar is ready or gone", PATIENCE, || {
            is_ready() || !matches!(sidecar.try_wait(), Ok(None))
        });
        let running = sidecar.try_wait()?.is_none();
        ensure!(
            waited.is_ok() && running,
            "{}; log of the sidecar of {name}:\n{}\nlog of the control plane:\n{}",
            waited.map_or_else(|error| error.to_string(), |()| "it ended".to_owned()),
            sidecar.log_tail(40),
            self.control_plane_log()
        );
        Ok(sidecar)
    }
}

impl Workload {
    /// What an admin endpoint of the sidecar answers.
    pub fn admin(&self, path: &str) -> anyhow::Result<String> {
        let (status, body) = wait::http_get(&self.pod, names::ADMIN_PORT, path)?;
        ensure!(
            status == 200,
            "{path} of {} answered {status}: {body}",
            self.name
        );
        Ok(body)
    }

    /// What an admin endpoint answers, as JSON.
    pub fn admin_json(&self, path: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.admin(path)?)?)
    }

    /// The addresses of the pod, IPv4 first.
    pub fn addresses(&self) -> Vec<IpAddr> {
        addresses(&self.pod)
    }

    /// The SPIFFE identity of the workload.
    pub fn identity(&self) -> String {
        format!("spiffe://{TRUST_DOMAIN}/ns/{NAMESPACE}/sa/{}", self.name)
    }
}

fn addresses(pod: &Pod) -> Vec<IpAddr> {
    vec![pod.ipv4().into(), pod.ipv6().into()]
}
