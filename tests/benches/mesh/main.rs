//! The data plane side by side: the same work through Weft, Envoy, HAProxy and no sidecar at all.
//!
//! `cargo bench -p weft-tests --bench mesh -- --help` tells the flags; `docs/BENCHMARKS.md` what is measured and why it
//! is fair. [`scenario`] lists the work, [`peer`] starts a pair of sidecars, [`measure`] runs one through the other.

mod application;
mod certificates;
mod ground;
mod load;
mod machine;
mod measure;
mod options;
mod peer;
mod programs;
mod scenario;

use anyhow::Context;
use clap::Parser;
use ground::Ground;
use options::Options;
use peer::Peer;
use programs::Programs;
use scenario::Scenario;
use serde_json::json;
use std::{
    fs,
    io::{self, Write},
};
use weft_tests::bench::report::{self, Run};

/// Whose ratios to the others the tables show.
const SUBJECT: Peer = Peer::Weft;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(address) = options.serve_grpc {
        return application::grpc::serve(address);
    }
    let (scenarios, peers) = (options.scenarios()?, options.peers());
    if options.list {
        for scenario in scenarios {
            say(&format!("{:22} {}", scenario.name, scenario.what));
        }
        return Ok(());
    }
    if peers.iter().any(|peer| peer.is_weft()) && !options.no_build {
        programs::build_weft()?;
    }
    let programs = Programs::find(&peers, &scenarios)?;
    let ground = Ground::prepare(programs, &peers)?;

    let mut runs = Vec::new();
    for scenario in &scenarios {
        let mut of_scenario = rounds(scenario, &peers, &options, &ground)?;
        report::add_latency_over(Peer::Direct.name(), &mut of_scenario);
        let names: Vec<_> = peers.iter().map(|peer| peer.name()).collect();
        let table = report::scenario_table(&of_scenario, &names, SUBJECT.name());
        say(&format!(
            "\n{}: {}\n\n{table}",
            scenario.name, scenario.what
        ));
        runs.extend(of_scenario);
    }
    let (machine, versions) = (machine::describe()?, ground.programs.versions()?);
    say(&format!("{machine:#}\n{versions:#}"));
    if let Some(file) = &options.json {
        let mut json = report::json(&runs, SUBJECT.name());
        json["machine"] = machine;
        json["versions"] = versions;
        json["rounds"] = json!(options.rounds.get());
        json["duration_seconds"] = json!(options.duration().as_secs());
        fs::write(file, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Every round of a scenario. Peers take turns, and a different one begins each round, so that neither a slow minute
/// of the machine nor the place in a round favours anybody.
fn rounds(
    scenario: &Scenario,
    peers: &[Peer],
    options: &Options,
    ground: &Ground,
) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for round in 1..=options.rounds.get() {
        let mut turns = peers.to_vec();
        turns.rotate_left((round as usize - 1) % peers.len());
        for peer in turns.into_iter().filter(|peer| scenario.suits(*peer)) {
            progress(&format!("{} round {round}: {}", scenario.name, peer.name()));
            let run = measure::run(scenario, peer, round, options.duration(), ground);
            runs.push(run.with_context(|| {
                format!("{} through {}, round {round}", scenario.name, peer.name())
            })?);
        }
    }
    Ok(runs)
}

/// Writes a part of the report.
fn say(text: &str) {
    // A reader that has gone away wants no more of the report.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Tells somebody who waits what is going on.
fn progress(text: &str) {
    // Nothing depends on it being read.
    let _ = writeln!(io::stderr(), "{text}");
}
