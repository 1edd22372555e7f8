//! One pod of the demo: a sidecar and, unless it is where the load comes from, an application.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use weft_control_plane::ca::token::{JoinKey, Subject};
use weft_xds_proto::names;

use super::{
    place::{Mode, Place},
    probe,
    services::{Caller, PROXY_VARIABLE},
    topology::{NAMESPACE, PodName, Service, Workload},
};
use crate::sandbox::{Child, Command};

/// The user of applications.
const APP_UID: u32 = 1000;
/// Where applications listen in explicit mode; the sidecar has the service's own port there.
const EXPLICIT_APP_PORT: u16 = 18080;
/// For how long a join token is good: far longer than its only use takes.
const TOKEN_LIFE: Duration = Duration::from_secs(3600);
/// How long a sidecar may take to finish what is in flight, and an application after it.
const GRACE: Duration = Duration::from_secs(30);

/// What every pod needs to know of the mesh.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    pub(super) mode: Mode,
    /// The `weft` binary, which every process of the demo is.
    pub(super) program: PathBuf,
    pub(super) xds_address: SocketAddr,
    pub(super) roots: PathBuf,
    pub(super) ca_directory: PathBuf,
    /// Where tokens are written.
    pub(super) tokens: PathBuf,
}

/// A running pod. Dropping it ends its processes.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) name: PodName,
    /// Ends before the sidecar when the pod is dropped.
    app: Option<Child>,
    sidecar: Child,
    place: Place,
}

impl Pod {
    /// Starts the sidecar, then the application, each when what it needs is ready.
    pub(super) async fn start(
        name: PodName,
        place: Place,
        surroundings: &Surroundings,
    ) -> anyhow::Result<Self> {
        if surroundings.mode == Mode::Namespaces {
            intercept(&place, &surroundings.program)
                .await
                .with_context(|| format!("{name} cannot intercept connections"))?;
        }
        let sidecar = sidecar(name, &place, surroundings)?.spawn()?;
        let health = SocketAddr::new(place.address(), names::HEALTH_PORT);
        probe::ready(&sidecar, health).await?;
        let app = match name.workload.service() {
            None => None,
            Some(service) => {
                let app = application(name, &service, &place, surroundings).spawn()?;
                let port = app_port(&service, surroundings.mode);
                probe::until(&app, "ready", async || {
                    anyhow::ensure!(place.listens(port), "nothing listens on port {port}");
                    Ok(())
                })
                .await?;
                Some(app)
            }
        };
        Ok(Self {
            name,
            app,
            sidecar,
            place,
        })
    }

    /// Its addresses.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        self.place.addresses()
    }

    /// Where it runs.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where its sidecar exposes metrics.
    pub(super) fn metrics_address(&self) -> SocketAddr {
        SocketAddr::new(self.place.address(), names::METRICS_PORT)
    }

    /// A caller of a service from inside this pod.
    pub(super) fn caller(&self, service: &Service, mode: Mode) -> anyhow::Result<Caller> {
        match mode {
            Mode::Namespaces => Caller::new(&service.cluster_address().to_string(), None),
            Mode::Explicit => Caller::new(
                &names::authority(&service.authority_host(), service.port),
                Some(&explicit_outbound(&self.place).to_string()),
            ),
        }
    }

    /// Fails when a process has ended by itself.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.app
            .iter()
            .chain([&self.sidecar])
            .try_for_each(probe::check)
    }

    /// Ends the pod as kubelet ends one with a native sidecar turned around: the sidecar finishes what is in flight
    /// while the application still answers, then the application goes.
    pub(super) async fn drain(self) -> anyhow::Result<()> {
        // The sidecar goes first because requests come through it: with the application gone, those under way
        // would fail.
        end(&self.sidecar).await?;
        match &self.app {
            Some(app) => end(app).await,
            None => Ok(()),
        }
    }
}

async fn end(child: &Child) -> anyhow::Result<()> {
    let status = child.terminate(GRACE).await?;
    anyhow::ensure!(
        status.success(),
        "{} did not end well ({status}){}",
        child.name(),
        probe::quote(child)
    );
    Ok(())
}

/// Redirects the pod's connections to its sidecar, as an init container does: as root, inside the namespace.
pub(super) async fn intercept(place: &Place, program: &Path) -> anyhow::Result<()> {
    let init = place
        .command(program, 0)
        .args(["run-proxy", "init"])
        .name("weft-proxy init")
        .spawn()?;
    probe::success(&init).await
}

fn sidecar(name: PodName, place: &Place, surroundings: &Surroundings) -> anyhow::Result<Command> {
    let account = name.workload.name();
    let addresses: Vec<_> = place.addresses().iter().map(IpAddr::to_string).collect();
    let command = place
        .command(&surroundings.program, names::PROXY_UID)
        .name(format!("the sidecar of {name}"))
        .args(["run-proxy", "run"])
        .arg(format!("--namespace={NAMESPACE}"))
        .arg(format!("--pod={name}"))
        .arg(format!("--service-account={account}"))
        .arg(format!("--workload={account}"))
        .arg(format!("--pod-ips={}", addresses.join(",")))
        .arg(format!("--xds-address={}", surroundings.xds_address))
        .arg(format!("--xds-ca={}", surroundings.roots.display()))
        .arg(format!(
            "--xds-token={}",
            token(name, surroundings)?.display()
        ))
        .arg("--workers=1")
        // Short, so that a short demo has the time to bring a replica back under load.
        .arg("--drain-grace=500ms");
    Ok(match surroundings.mode {
        Mode::Namespaces => command,
        Mode::Explicit => explicit(command, name, place),
    })
}

/// The flags by which a sidecar keeps to its own address.
fn explicit(command: Command, name: PodName, place: &Place) -> Command {
    let own = |port| SocketAddr::new(place.address(), port);
    let command = command
        .arg("--mode=explicit")
        .arg(format!("--outbound-listen={}", explicit_outbound(place)))
        .arg(format!("--admin-listen={}", own(names::ADMIN_PORT)))
        .arg(format!("--metrics-listen={}", own(names::METRICS_PORT)))
        .arg(format!("--health-listen={}", own(names::HEALTH_PORT)));
    match name.workload.service() {
        None => command,
        Some(service) => command
            .arg(format!("--inbound-listen={}", own(service.target_port)))
            .arg(format!("--app-address={}", own(EXPLICIT_APP_PORT))),
    }
}

fn explicit_outbound(place: &Place) -> SocketAddr {
    SocketAddr::new(place.address(), names::OUTBOUND_PORT)
}

fn application(
    name: PodName,
    service: &Service,
    place: &Place,
    surroundings: &Surroundings,
) -> Command {
    let port = app_port(service, surroundings.mode);
    let listen = match surroundings.mode {
        Mode::Namespaces => format!("[::]:{port}"),
        Mode::Explicit => SocketAddr::new(place.address(), port).to_string(),
    };
    let mut command = place
        .command(&surroundings.program, APP_UID)
        .name(format!("the application of {name}"))
        .args(["demo-service", service.name, "--listen", &listen]);
    for called in name
        .workload
        .calls()
        .iter()
        .filter_map(|w| Workload::service(*w))
    {
        let variable = called.name.to_uppercase();
        let host = match surroundings.mode {
            Mode::Namespaces => called.cluster_ipv4.to_string(),
            Mode::Explicit => called.authority_host(),
        };
        command = command
            .env(format!("{variable}_SERVICE_HOST"), host)
            .env(format!("{variable}_SERVICE_PORT"), called.port.to_string());
    }
    match surroundings.mode {
        Mode::Namespaces => command.env_remove(PROXY_VARIABLE),
        Mode::Explicit => command.env(PROXY_VARIABLE, explicit_outbound(place).to_string()),
    }
}

fn app_port(service: &Service, mode: Mode) -> u16 {
    match mode {
        Mode::Namespaces => service.target_port,
        Mode::Explicit => EXPLICIT_APP_PORT,
    }
}

/// Writes a join token that only the sidecar may read.
fn token(name: PodName, surroundings: &Surroundings) -> anyhow::Result<PathBuf> {
    let path = surroundings.tokens.join(name.to_string());
    let subject = Subject {
        namespace: NAMESPACE.to_owned(),
        service_account: name.workload.name().to_owned(),
        pod: name.to_string(),
    };
    let token = JoinKey::load(&surroundings.ca_directory)?.mint(&subject, TOKEN_LIFE);
    // A pod that comes back finds the token of the one before, which nobody may write to.
    if path.exists() {
        fs::remove_file(&path)?;
    }
    fs::write(&path, token)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400))?;
    if surroundings.mode == Mode::Namespaces {
        std::os::unix::fs::chown(&path, Some(names::PROXY_UID), Some(names::PROXY_UID))?;
    }
    Ok(path)
}
