//! `weft demo`: a whole mesh on one machine, with real applications and real load.
//!
//! `run` reads from the top: where pods run, what starts, what happens while the load runs, what it came to. Every
//! process is this binary again, under a hidden command.

pub(crate) mod load;
mod manifests;
mod mesh;
mod metrics;
mod place;
mod pod;
mod probe;
pub(crate) mod services;
mod summary;
mod table;
mod topology;

use std::{
    cell::RefCell,
    io::{self, Write},
    num::{NonZeroU32, NonZeroUsize},
    path::Path,
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use self::{
    mesh::Mesh,
    metrics::Edges,
    place::{Ground, Mode},
    summary::{EdgeSummary, Event, LoadSummary, Summary, Versions, milliseconds},
    table::Live,
    topology::{PodName, Workload},
};
use crate::sandbox;

/// The pod where the load comes from.
const LOAD: PodName = PodName {
    workload: Workload::Load,
    replica: 0,
};

/// The flags of `weft demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For how long to drive load. A replica is away during the middle third.
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// Orders per second.
    #[arg(long, default_value = "200")]
    rate: NonZeroU32,
    /// Orders on their way at once, each on its own connection.
    #[arg(long, default_value = "8")]
    connections: NonZeroUsize,
    /// The replica that is taken away and brought back.
    #[arg(long, default_value = "user-1")]
    replica: PodName,
    /// Where pods run.
    #[arg(long, value_enum, default_value_t = ModeChoice::Auto)]
    mode: ModeChoice,
    /// What to print at the end; tables are also drawn every second on a terminal.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ModeChoice {
    /// Namespaces where they are allowed, else explicit.
    Auto,
    /// A network namespace per pod, with transparent interception.
    Namespaces,
    /// An address of loopback per pod; applications dial their sidecar.
    Explicit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For machines.
    Json,
}

/// Runs the demo. Call it while the process has one thread: it may have to enter a user namespace.
///
/// Fails when the demo could not run; a demo that ran and was not good has a code of failure.
pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mode, mode_reason) = choose_mode(args.mode)?;
    say(&format!("{} mode: {mode_reason}", mode.name()));
    let directory = tempfile::Builder::new().prefix("weft-demo-").tempdir()?;
    let path = directory.path().to_owned();
    let ground = Ground::new(mode)?;
    let output = args.output;
    let work = {
        let node = ground.node();
        let body = move || async move { demonstrate(&args, ground, mode_reason, &path).await };
        match node {
            // On the node, from where every pod can be reached.
            Some(node) => node.run(body),
            None => sandbox::Task::outside(body),
        }
    };
    let summary = work.join()?;
    let text = match output {
        Output::Table => table::summary(&summary),
        Output::Json => serde_json::to_string_pretty(&summary)? + "\n",
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if summary.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The mode, and why.
fn choose_mode(choice: ModeChoice) -> anyhow::Result<(Mode, String)> {
    if choice == ModeChoice::Explicit {
        return Ok((Mode::Explicit, "as asked".to_owned()));
    }
    let possible = sandbox::acquire()
        .and_then(|()| sandbox::available())
        .map_err(anyhow::Error::from)
        .and_then(|()| interception_works());
    match (choice, possible) {
        (_, Ok(())) => Ok((
            Mode::Namespaces,
            "every pod is a network namespace, its connections are intercepted".to_owned(),
        )),
        (ModeChoice::Auto, Err(error)) => Ok((Mode::Explicit, format!("{error:#}"))),
        (_, Err(error)) => Err(error).context("pods cannot be namespaces here"),
    }
}

/// Tries the one step that needs more of the kernel than the sandbox does.
fn interception_works() -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let place = Ground::new(Mode::Namespaces)?.place("trial")?;
    sandbox::Task::outside(move || async move { pod::intercept(&place, &program).await }).join()
}

async fn demonstrate(
    args: &Args,
    ground: Ground,
    mode_reason: String,
    directory: &Path,
) -> anyhow::Result<Summary> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    // What is dropped here, half-started or running, takes its processes along.
    tokio::select! {
        summary = start_and_drive(args, ground, mode_reason, directory) => summary,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
        _ = hangup.recv() => anyhow::bail!("the terminal is gone"),
    }
}

async fn start_and_drive(
    args: &Args,
    ground: Ground,
    mode_reason: String,
    directory: &Path,
) -> anyhow::Result<Summary> {
    let mode = ground.mode();
    let mesh = Mesh::start(ground, directory).await?;
    mesh.add(&PodName::all()).await?;
    say("the control plane and all pods are ready; driving load");
    let edges = RefCell::default();
    let (load, events) = drive(args, &mesh, &edges).await?;
    let load = LoadSummary::new(load);
    let edges: Vec<_> = edges
        .into_inner()
        .total()
        .iter()
        .map(|(edge, counts)| EdgeSummary::new(*edge, counts))
        .collect();
    let failures = summary::failures(&load, &edges);
    Ok(Summary {
        ok: failures.is_empty(),
        failures,
        mode,
        mode_reason,
        duration_seconds: args.duration.as_secs_f64(),
        load,
        edges,
        events,
        versions: Versions::here(),
    })
}

/// Drives load and draws it, while a replica goes and comes back.
async fn drive(
    args: &Args,
    mesh: &Mesh,
    edges: &RefCell<Edges>,
) -> anyhow::Result<(load::Report, Vec<Event>)> {
    let plan = load::Plan {
        rate: args.rate,
        connections: args.connections,
        duration: args.duration,
    };
    let start = Instant::now();
    let mut report = mesh.drive(LOAD, Workload::Order, plan)?;
    let live = RefCell::new(Live::new(args.output == Output::Table));
    let mut second = interval_at(start + Duration::from_secs(1), Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut drawn = start;
    let mut journey = pin!(Journey::new(start, &live).make(args, mesh, edges));
    let mut events = None;
    let report = loop {
        tokio::select! {
            report = &mut report => break report,
            _ = second.tick() => {
                mesh.check()?;
                mesh.observe(edges).await?;
                live.borrow_mut().draw(&edges.borrow().total(), drawn.elapsed());
                drawn = Instant::now();
            }
            made = &mut journey, if events.is_none() => events = Some(made?),
        }
    };
    let events = match events {
        Some(events) => events,
        None => journey.await?,
    };
    mesh.observe(edges).await?;
    Ok((report, events))
}

/// What happens to the replica that goes and comes back.
#[derive(Debug)]
struct Journey<'a> {
    start: Instant,
    live: &'a RefCell<Live>,
    events: Vec<Event>,
}

impl<'a> Journey<'a> {
    fn new(start: Instant, live: &'a RefCell<Live>) -> Self {
        Self {
            start,
            live,
            events: Vec::new(),
        }
    }

    async fn make(
        mut self,
        args: &Args,
        mesh: &Mesh,
        edges: &RefCell<Edges>,
    ) -> anyhow::Result<Vec<Event>> {
        let replica = args.replica;
        sleep_until(self.start + args.duration / 3).await;
        let leaving = mesh.dismiss(replica)?;
        self.tell(format!("{replica} is leaving"));
        mesh.take_away(leaving, edges).await?;
        self.tell(format!("{replica} is gone"));
        sleep_until(self.start + args.duration * 2 / 3).await;
        mesh.add(&[replica]).await?;
        self.tell(format!("{replica} is back"));
        Ok(self.events)
    }

    fn tell(&mut self, what: String) {
        let at = milliseconds(self.start.elapsed()).round() / 1e3;
        self.live.borrow_mut().tell(&format!("{at:.1} s: {what}"));
        self.events.push(Event { at, what });
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_secs(1) {
        return Err("it must be a second at least".to_owned());
    }
    Ok(duration)
}

/// Tells a person how far the demo is. Standard output is for the result.
fn say(what: &str) {
    // Nobody is there to tell when standard error is closed.
    let _ = writeln!(io::stderr(), "weft demo: {what}");
}
