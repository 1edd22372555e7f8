//! The running demo: a control plane, and the pods that its manifests tell of.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use futures_util::future::try_join_all;
use weft_xds_proto::names;

use super::{
    load,
    manifests::{Manifests, Phase},
    metrics::{self, Edges},
    place::{Ground, Place},
    pod::{Pod, Surroundings},
    probe,
    topology::{PodName, Workload},
};
use crate::sandbox::{Child, Command, Task};

/// The whole mesh. Dropping it ends every process of it.
///
/// It is watched while it changes, on one thread: what changes is in cells, borrowed between awaits only.
#[derive(Debug)]
pub(super) struct Mesh {
    pods: RefCell<BTreeMap<PodName, Pod>>,
    control_plane: Child,
    monitoring: SocketAddr,
    manifests: RefCell<Manifests>,
    surroundings: Surroundings,
    ground: RefCell<Ground>,
    _control_plane_place: Place,
}

impl Mesh {
    /// Starts the control plane, with everything it writes below `directory`. There is no pod yet.
    pub(super) async fn start(mut ground: Ground, directory: &Path) -> anyhow::Result<Self> {
        // Sidecars are other users, so that they must get through to their own files.
        fs::set_permissions(directory, fs::Permissions::from_mode(0o711))?;
        let subdirectory = |name: &str| -> anyhow::Result<PathBuf> {
            let path = directory.join(name);
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
            Ok(path)
        };
        let (config, ca, tokens) = (
            subdirectory("config")?,
            subdirectory("ca")?,
            subdirectory("tokens")?,
        );
        let manifests = Manifests::new(config.clone())?;
        let program = std::env::current_exe().context("the weft binary cannot be found")?;
        let place = ground.place("control-plane")?;
        let surroundings = Surroundings {
            mode: ground.mode(),
            program,
            xds_address: SocketAddr::new(place.address(), names::XDS_TLS_PORT),
            roots: ca.join("root-cert.pem"),
            ca_directory: ca,
            tokens,
        };
        let control_plane = control_plane(&place, &config, &surroundings).spawn()?;
        let monitoring = SocketAddr::new(place.address(), names::MONITORING_PORT);
        probe::ready(&control_plane, monitoring).await?;
        Ok(Self {
            pods: RefCell::default(),
            control_plane,
            monitoring,
            manifests: RefCell::new(manifests),
            surroundings,
            ground: RefCell::new(ground),
            _control_plane_place: place,
        })
    }

    /// Starts pods at the same time, and tells of them: first that they exist, then that they are ready.
    pub(super) async fn add(&self, names: &[PodName]) -> anyhow::Result<()> {
        let mut starts = Vec::new();
        for &name in names {
            let place = self.ground.borrow_mut().place(&name.to_string())?;
            self.tell(name, &place.addresses(), Phase::Starting)?;
            starts.push(Pod::start(name, place, &self.surroundings));
        }
        for pod in try_join_all(starts).await? {
            self.tell(pod.name, &pod.addresses(), Phase::Ready)?;
            self.pods.borrow_mut().insert(pod.name, pod);
        }
        self.told().await
    }

    /// Waits until the control plane has read which endpoints are ready: a caller that asked before would be told
    /// that there are none.
    async fn told(&self) -> anyhow::Result<()> {
        let expected = self.manifests.borrow().ready_endpoints();
        let told = async || {
            let exposition = probe::get(self.monitoring, "/metrics").await?;
            let known = metrics::gauge(&exposition, "weft_world_ready_endpoints");
            let known = known.context("weft_world_ready_endpoints is not exposed")?;
            anyhow::ensure!(
                known as usize == expected,
                "it knows of {known} endpoints, not of {expected}"
            );
            Ok(())
        };
        probe::until(&self.control_plane, "up to date", told).await
    }

    /// Tells callers that a pod takes no more requests, as the first step of taking it away.
    pub(super) fn dismiss(&self, name: PodName) -> anyhow::Result<Pod> {
        let pod = self.pods.borrow_mut().remove(&name);
        let pod = pod.with_context(|| format!("{name} is not there"))?;
        self.tell(name, &pod.addresses(), Phase::Terminating)?;
        Ok(pod)
    }

    /// Ends a dismissed pod when it has finished what it had.
    pub(super) async fn take_away(&self, pod: Pod, edges: &RefCell<Edges>) -> anyhow::Result<()> {
        let name = pod.name;
        // Its own calls are counted in its sidecar, which is about to end.
        let exposition = read_metrics(name, pod.metrics_address()).await?;
        edges.borrow_mut().observe(name, &exposition);
        edges.borrow_mut().end(name);
        pod.drain().await?;
        self.manifests.borrow_mut().remove(name)
    }

    /// Starts load from a pod to a service.
    pub(super) fn drive(
        &self,
        from: PodName,
        to: Workload,
        plan: load::Plan,
    ) -> anyhow::Result<Task<load::Report>> {
        let pods = self.pods.borrow();
        let pod = pods
            .get(&from)
            .with_context(|| format!("{from} is not there"))?;
        let service = to
            .service()
            .with_context(|| format!("{} has no service", to.name()))?;
        let caller = pod.caller(&service, self.surroundings.mode)?;
        Ok(pod.place().run(move || load::drive(plan, caller)))
    }

    /// Reads the counters of every sidecar whose application calls others.
    pub(super) async fn observe(&self, edges: &RefCell<Edges>) -> anyhow::Result<()> {
        let callers: Vec<_> = self
            .pods
            .borrow()
            .values()
            .filter(|pod| !pod.name.workload.calls().is_empty())
            .map(|pod| (pod.name, pod.metrics_address()))
            .collect();
        let reads = callers
            .into_iter()
            .map(async |(name, address)| anyhow::Ok((name, read_metrics(name, address).await?)));
        for (name, exposition) in try_join_all(reads).await? {
            edges.borrow_mut().observe(name, &exposition);
        }
        Ok(())
    }

    /// Fails when a process has ended by itself.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        probe::check(&self.control_plane)?;
        self.pods.borrow().values().try_for_each(Pod::check)
    }

    fn tell(&self, name: PodName, addresses: &[IpAddr], phase: Phase) -> anyhow::Result<()> {
        self.manifests.borrow_mut().set(name, addresses, phase)
    }
}

async fn read_metrics(name: PodName, address: SocketAddr) -> anyhow::Result<String> {
    probe::get(address, "/metrics")
        .await
        .with_context(|| format!("the sidecar of {name} gives no metrics"))
}

fn control_plane(place: &Place, config: &Path, surroundings: &Surroundings) -> Command {
    let own = |port| SocketAddr::new(place.address(), port);
    place
        .command(&surroundings.program, 0)
        .name("the control plane")
        .args(["run-control-plane", "run"])
        .arg(format!("--config-dir={}", config.display()))
        .arg(format!("--ca-dir={}", surroundings.ca_directory.display()))
        .arg(format!("--xds-address={}", own(names::XDS_TLS_PORT)))
        .arg(format!(
            "--monitoring-address={}",
            own(names::MONITORING_PORT)
        ))
        .arg(format!("--tls-san={}", place.address()))
}
