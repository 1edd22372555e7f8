//! The control plane under test: a real process of the release profile over a directory of its own.

use anyhow::{Context, ensure};
use clap::Args;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use weft_tests::{
    bench::{
        control_plane::world::{self, Change, World},
        cpu::CpuTime,
    },
    memory, token,
    wait::{self, until},
};

/// How long it may take to read the largest world on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which binary is measured.
#[derive(Debug, Args)]
pub(crate) struct Binary {
    /// Measure this `weft-control-plane` instead of building one with the release profile.
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

/// A control plane that runs. Dropping it kills it.
pub(crate) struct Server {
    binary: PathBuf,
    directory: PathBuf,
    xds: SocketAddr,
    monitoring: SocketAddr,
    process: Child,
    /// From its start until it was ready.
    pub(crate) ready_in: Duration,
}

/// The processor time that a process has used, and its memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system.
    pub(crate) cpu: Duration,
    /// Resident, in bytes.
    pub(crate) memory: u64,
}

impl Binary {
    /// The path, after building what is to be built.
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.binary {
            return Ok(path.clone());
        }
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let build = ["build", "--release", "-p", "weft-control-plane"];
        let status = Command::new(cargo).args(build).status()?;
        ensure!(status.success(), "cargo {} failed", build.join(" "));
        // The bench runs as `target/release/deps/control_plane-<hash>`.
        let bench = env::current_exe()?;
        let release = bench.ancestors().nth(2).context("a target directory")?;
        Ok(release.join("weft-control-plane"))
    }
}

impl Server {
    /// Starts a control plane over `config` in a directory, and waits until it is ready.
    pub(crate) fn start(binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        let (xds, monitoring) = (free_address()?, free_address()?);
        let began = Instant::now();
        let mut server = Self {
            binary: binary.to_owned(),
            directory: directory.to_owned(),
            xds,
            monitoring,
            process: spawn(binary, directory, xds, monitoring)?,
            ready_in: Duration::ZERO,
        };
        server.wait_until_ready(began)?;
        Ok(server)
    }

    /// Kills it as a crash would, and starts it again in its place.
    pub(crate) fn restart(&mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        let began = Instant::now();
        self.process = spawn(&self.binary, &self.directory, self.xds, self.monitoring)?;
        self.wait_until_ready(began)
    }

    /// Where it serves xDS.
    pub(crate) fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// The roots of the mesh, as PEM.
    pub(crate) fn roots(&self) -> anyhow::Result<Vec<u8>> {
        Ok(fs::read(self.directory.join("ca/root-cert.pem"))?)
    }

    /// A token by which a simulated proxy proves which pod it is of.
    pub(crate) fn join_token(&self, proxy: u32) -> anyhow::Result<String> {
        let (namespace, service_account, pod) = world::proxy_pod(proxy);
        let ca = self.directory.join("ca");
        token::join(&self.binary, &ca, &namespace, &service_account, &pod)
    }

    /// What it has used and uses.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Ok(Usage {
            cpu: CpuTime::of(self.process.id())?.total(),
            memory: memory::resident(self.process.id())?,
        })
    }

    fn wait_until_ready(&mut self, began: Instant) -> anyhow::Result<()> {
        let monitoring = self.monitoring;
        let ready = || {
            wait::request(monitoring, "GET", "/readyz", "").is_ok_and(|(status, _)| status == 200)
        };
        until("the control plane is ready", PATIENCE, ready)?;
        self.ready_in = began.elapsed();
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes the whole world into `config` of a directory.
pub(crate) fn write_world(directory: &Path, world: World) -> anyhow::Result<()> {
    for service in 0..world.services() {
        let file = directory.join("config").join(world.file(service));
        fs::create_dir_all(file.parent().context("a file lies in a directory")?)?;
        fs::write(file, world.objects(service, None))?;
    }
    Ok(())
}

/// Writes a file beside its place, to be moved there in one step by [`Draft::publish`].
pub(crate) struct Draft {
    draft: PathBuf,
    file: PathBuf,
}

impl Draft {
    /// The file of a service after a change.
    pub(crate) fn of_change(
        directory: &Path,
        world: World,
        change: Change,
    ) -> anyhow::Result<Self> {
        let file = world.file(change.service);
        Self::new(
            directory,
            &file,
            &world.objects(change.service, Some(change)),
        )
    }

    /// A file with this content.
    pub(crate) fn new(directory: &Path, file: &Path, content: &str) -> anyhow::Result<Self> {
        let draft = directory.join("draft");
        fs::write(&draft, content)?;
        Ok(Self {
            draft,
            file: directory.join("config").join(file),
        })
    }

    /// Makes it what the control plane sees.
    pub(crate) fn publish(self) -> anyhow::Result<()> {
        Ok(fs::rename(self.draft, self.file)?)
    }
}

fn spawn(
    binary: &Path,
    directory: &Path,
    xds: SocketAddr,
    monitoring: SocketAddr,
) -> anyhow::Result<Child> {
    let mut process = Command::new(binary)
        .arg("run")
        .arg(format!(
            "--config-dir={}",
            directory.join("config").display()
        ))
        .arg(format!("--ca-dir={}", directory.join("ca").display()))
        .arg(format!("--xds-address={xds}"))
        .arg(format!("--monitoring-address={monitoring}"))
        .arg("--log-level=warn")
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let log = process.stderr.take().context("stderr is a pipe")?;
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            crate::report::note(&format!("control plane: {line}"));
        }
    });
    Ok(process)
}

fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
