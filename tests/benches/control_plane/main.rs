//! The benchmark of the control plane: a large world, a thousand proxies, and changes.
//!
//! `cargo bench -p weft-tests --bench control-plane`. What the numbers mean stands in `docs/BENCHMARKS.md`.

mod changes;
mod fleet;
mod report;
mod server;

use changes::Changes;
use clap::Parser;
use fleet::{Endpoint, Fleet};
use report::{Report, note};
use serde_json::json;
use server::{Binary, Draft, Server, Usage, write_world};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use weft_tests::bench::{
    control_plane::world::{SHARED, World},
    cpu::CpuTime,
};

/// For what has to happen: whatever takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between the phases, so that none pays for the one before.
const PAUSE: Duration = Duration::from_millis(500);
/// From an endpoint change to the acknowledgement of the last of all proxies.
const BAR_LATENCY_MS: f64 = 100.0;
const BAR_STREAM_KIB: f64 = 100.0;

/// Measures a real control plane with simulated proxies.
#[derive(Debug, Parser)]
struct Flags {
    /// Proxies, each with a stream.
    #[arg(long, default_value_t = 1000)]
    proxies: u32,
    /// Services, each in a file of its own.
    #[arg(long, default_value_t = 10_000)]
    services: u32,
    /// Endpoints, each a pod with a sidecar.
    #[arg(long, default_value_t = 50_000)]
    endpoints: u32,
    /// Endpoint changes a second.
    #[arg(long, default_value_t = 100)]
    changes_per_second: u32,
    /// How many of a hundred changes are of the service that every proxy follows: 50 is an extreme.
    #[arg(long, default_value_t = 10)]
    shared_percent: u32,
    /// How long there are changes, in seconds.
    #[arg(long, default_value_t = 30)]
    duration: u32,
    /// Where to write the numbers as JSON.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
    #[command(flatten)]
    binary: Binary,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nobody has chosen another one");
    let flags = Flags::parse();
    let settings = json!({
        "proxies": flags.proxies,
        "services": flags.services,
        "endpoints": flags.endpoints,
        "changes_per_second": flags.changes_per_second,
        "shared_percent": flags.shared_percent,
        "duration": flags.duration,
    });
    let json = flags.json.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(Bench::run(flags))?;
    use std::io::Write as _;
    write!(std::io::stdout(), "{}", report.table())?;
    if let Some(path) = json {
        fs::write(path, format!("{:#}\n", report.json(settings)))?;
    }
    Ok(())
}

struct Bench {
    world: World,
    server: Server,
    fleet: Fleet,
    changes: Changes,
    report: Report,
    directory: PathBuf,
}

/// What a stretch of time has cost.
struct Cost {
    server: Usage,
    fleet: Duration,
    at: Instant,
}

impl Bench {
    async fn run(flags: Flags) -> anyhow::Result<Report> {
        anyhow::ensure!(
            flags.proxies <= flags.services,
            "every proxy is of a service of its own: there must be at least as many services"
        );
        let world = World::new(flags.services, flags.endpoints).map_err(anyhow::Error::msg)?;
        let binary = flags.binary.path()?;
        let directory = tempfile::tempdir()?;
        note("writing the world");
        write_world(directory.path(), world)?;

        let mut report = Report::default();
        let server = Server::start(&binary, directory.path())?;
        let empty = server.usage()?;
        report.time("start", "ready after", server.ready_in);
        report.time("start", "CPU", empty.cpu);
        report.row("start", "RSS", mib(empty.memory), "MiB");

        note("minting tokens");
        let tokens = (0..flags.proxies)
            .map(|proxy| server.join_token(proxy))
            .collect::<Result<_, _>>()?;
        let endpoint = Endpoint::new(server.xds(), &server.roots()?)?;
        note("connecting");
        let began = Instant::now();
        let fleet = Fleet::start(world, &endpoint, tokens);
        fleet.complete(PATIENCE).await?;
        report.time("connect", "all complete after", began.elapsed());
        let changes = Changes::new(world, directory.path(), fleet.book(), flags.shared_percent);
        let mut bench = Self {
            world,
            server,
            fleet,
            changes,
            report,
            directory: directory.path().to_owned(),
        };
        tokio::time::sleep(PAUSE).await;
        bench.memory("connect", empty.memory, flags.proxies)?;
        bench.count_failures("connect");

        bench.idle(flags.proxies).await?;
        bench.load(&flags).await?;
        bench.memory("load", empty.memory, flags.proxies)?;
        bench.storm().await?;
        bench.mesh_config().await?;
        bench.restart().await?;
        Ok(bench.report)
    }

    /// One change at a time, when there is nothing else to do.
    async fn idle(&mut self, proxies: u32) -> anyhow::Result<()> {
        const PHASE: &str = "one change at a time";
        const CHANGES: u32 = 20;
        note(PHASE);
        self.fleet.begin(self.world);
        for _ in 0..CHANGES {
            self.changes.one(SHARED)?;
            anyhow::ensure!(self.fleet.settled(PATIENCE).await, "a change is lost");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let latency = self.fleet.ledger(|ledger| ledger.latency(|_, _| true));
        let names = ["changes", "to the last ack, p50", "p99", "max"];
        self.report.latency(PHASE, names, latency);
        let received = self.fleet.received();
        let pushes = f64::from(CHANGES) * f64::from(proxies);
        let bytes = received.bytes as f64 / pushes;
        self.report.row(PHASE, "bytes to a subscriber", bytes, "B");
        Ok(())
    }

    /// Changes at a rate.
    async fn load(&mut self, flags: &Flags) -> anyhow::Result<()> {
        const PHASE: &str = "load";
        note(PHASE);
        tokio::time::sleep(PAUSE).await;
        self.fleet.begin(self.world);
        let before = self.cost()?;
        self.changes
            .at_rate(flags.changes_per_second, flags.duration)
            .await?;
        let cost = self.cost_since(&before)?;
        let settled = self.fleet.settled(PATIENCE).await;
        let report = &mut self.report;
        let seconds = cost.at.duration_since(before.at).as_secs_f64();
        let (shared, others, owed) = self.fleet.ledger(|ledger| {
            (
                ledger.latency(|service, _| service == SHARED),
                ledger.latency(|service, _| service != SHARED),
                ledger.owed(),
            )
        });
        let received = self.fleet.received();
        report.row(
            PHASE,
            "changes that everybody follows",
            shared.changes as f64,
            "",
        );
        report.time(PHASE, "to the last ack, p50", shared.p50);
        let p99 = shared.p99.as_secs_f64() * 1000.0;
        report.bar(PHASE, "to the last ack, p99", p99, "ms", BAR_LATENCY_MS);
        report.time(PHASE, "to the last ack, max", shared.max);
        let names = [
            "other changes that somebody follows",
            "their p50",
            "their p99",
            "their max",
        ];
        report.latency(PHASE, names, others);
        let lost = (shared.unfinished + others.unfinished) as f64;
        report.none(PHASE, "changes not acknowledged by all", lost);
        anyhow::ensure!(settled || lost > 0.0, "the ledger contradicts itself");
        report.row(PHASE, "pushes due", owed as f64 / seconds, "/s");
        report.row(
            PHASE,
            "pushes sent",
            received.resources as f64 / seconds,
            "/s",
        );
        let per_push = received.bytes as f64 / received.resources.max(1) as f64;
        report.row(PHASE, "bytes to a subscriber", per_push, "B");
        let astray = received.astray as f64;
        report.none(PHASE, "resources to others than subscribers", astray);
        let percent = |cpu: Duration| 100.0 * cpu.as_secs_f64() / seconds;
        report.row(
            PHASE,
            "CPU of the control plane",
            percent(cost.server.cpu),
            "%",
        );
        report.row(PHASE, "CPU of the simulator", percent(cost.fleet), "%");
        let per_push = cost.server.cpu.as_secs_f64() * 1e6 / received.responses.max(1) as f64;
        report.row(PHASE, "CPU of the control plane a push", per_push, "us");
        self.count_failures(PHASE);
        Ok(())
    }

    /// Everybody leaves; something changes; everybody comes back at once.
    async fn storm(&mut self) -> anyhow::Result<()> {
        const PHASE: &str = "reconnect storm";
        note(PHASE);
        self.fleet.connect(false);
        self.fleet.gone(PATIENCE).await?;
        tokio::time::sleep(PAUSE).await;
        self.fleet.begin(self.world);
        self.changes.one(SHARED)?;
        tokio::time::sleep(PAUSE).await;
        let before = self.cost()?;
        self.fleet.connect(true);
        let settled = self.fleet.settled(PATIENCE).await;
        self.settled(PHASE, before.at, settled);
        let cost = self.cost_since(&before)?;
        self.report
            .time(PHASE, "CPU of the control plane", cost.server.cpu);
        self.report.time(PHASE, "CPU of the simulator", cost.fleet);
        Ok(())
    }

    /// A setting of the mesh that is in every resource of everybody, in the midst of endpoint changes.
    async fn mesh_config(&mut self) -> anyhow::Result<()> {
        const PHASE: &str = "MeshConfig change";
        const RATE: u32 = 20;
        note(PHASE);
        tokio::time::sleep(PAUSE).await;
        self.fleet.begin(self.world);
        let mesh = "apiVersion: weft.dev/v1alpha1
kind: MeshConfig
metadata:
  name: default
spec:
  defaults:
    connectTimeout: 4s
    idleTimeout: 200s
    requestTimeout: 10s
";
        let draft = Draft::new(&self.directory, Path::new("mesh.yaml"), mesh)?;
        let before = self.cost()?;
        draft.publish()?;
        self.changes.at_rate(RATE, 3).await?;
        let settled = self.fleet.settled(PATIENCE).await;
        let cost = self.cost_since(&before)?;
        let received = self.fleet.received();
        if let Some(last) = received.last_of_others {
            self.report
                .time(PHASE, "known to all after", last - before.at);
        }
        let latency = self.fleet.ledger(|ledger| ledger.latency(|_, _| true));
        let names = [
            "endpoint changes meanwhile",
            "their p50",
            "their p99",
            "their max",
        ];
        self.report.latency(PHASE, names, latency);
        anyhow::ensure!(settled, "endpoint changes are lost");
        self.report
            .row(PHASE, "resources sent", received.resources as f64, "");
        self.report
            .time(PHASE, "CPU of the control plane", cost.server.cpu);
        self.count_failures(PHASE);
        Ok(())
    }

    /// The control plane crashes and comes back: everything is read again, and nothing sent that is held.
    async fn restart(&mut self) -> anyhow::Result<()> {
        const PHASE: &str = "restart";
        note(PHASE);
        tokio::time::sleep(PAUSE).await;
        self.fleet.begin(self.world);
        // What tells that a proxy is served again is a change that it waits for.
        self.changes.one(SHARED)?;
        anyhow::ensure!(self.fleet.settled(PATIENCE).await, "a change is lost");
        self.fleet.begin(self.world);
        let began = Instant::now();
        self.server.restart()?;
        self.report.time(PHASE, "ready after", self.server.ready_in);
        self.changes.one(SHARED)?;
        let settled = self.fleet.settled(PATIENCE).await;
        anyhow::ensure!(settled, "not everybody is served after a restart");
        self.report.time(PHASE, "all served after", began.elapsed());
        let received = self.fleet.received();
        self.report
            .row(PHASE, "bytes sent again", received.bytes as f64, "B");
        self.report
            .none(PHASE, "resources held already", received.astray as f64);
        Ok(())
    }

    fn settled(&mut self, phase: &'static str, since: Instant, settled: bool) {
        self.report.time(phase, "settled after", since.elapsed());
        let late = self.fleet.ledger(|ledger| ledger.latency(|_, _| true));
        let timed_out = if settled { 0.0 } else { late.unfinished as f64 };
        self.report.none(phase, "changes that timed out", timed_out);
        self.count_failures(phase);
        let received = self.fleet.received();
        self.report
            .row(phase, "bytes sent", received.bytes as f64, "B");
        self.report
            .none(phase, "resources held already", received.astray as f64);
    }

    fn memory(&mut self, phase: &'static str, empty: u64, proxies: u32) -> anyhow::Result<()> {
        let memory = self.server.usage()?.memory;
        self.report.row(phase, "RSS", mib(memory), "MiB");
        let stream = memory.saturating_sub(empty) as f64 / f64::from(proxies) / 1024.0;
        self.report
            .bar(phase, "memory of a stream", stream, "KiB", BAR_STREAM_KIB);
        Ok(())
    }

    fn count_failures(&mut self, phase: &'static str) {
        let (failures, first) = self.fleet.failures();
        self.report
            .none(phase, "streams that failed", failures as f64);
        if let Some(first) = first {
            note(&format!("the first failure: {first}"));
        }
    }

    fn cost(&self) -> anyhow::Result<Cost> {
        Ok(Cost {
            server: self.server.usage()?,
            fleet: CpuTime::of(std::process::id())?.total(),
            at: Instant::now(),
        })
    }

    fn cost_since(&self, before: &Cost) -> anyhow::Result<Cost> {
        let mut cost = self.cost()?;
        cost.server.cpu -= before.server.cpu;
        cost.fleet -= before.fleet;
        Ok(cost)
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
