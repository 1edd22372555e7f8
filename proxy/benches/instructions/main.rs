//! Instructions and allocations per iteration: of the pieces of a request's way, and of a whole request through
//! two proxies. Unlike times, they come out the same on a busy machine.
//!
//! `docs/BENCHMARKS.md` says how to run it and what the numbers mean.

mod allocations;
mod load;
mod measure;

use allocations::Counting;
use anyhow::Context;
use clap::Parser;
use load::{Between, Http};
use measure::Cost;
use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::PathBuf,
};
use weft_proxy::testing::pieces::{PIECES, Piece};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts instructions (with valgrind) and allocations per iteration.
#[derive(Debug, Parser)]
struct Args {
    /// Only what has this in its name.
    filter: Option<String>,
    /// Writes the numbers to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Does the work of this name and prints nothing: what callgrind watches.
    #[arg(long, requires = "iterations", hide = true)]
    work: Option<String>,
    /// How often.
    #[arg(long, hide = true)]
    iterations: Option<u32>,
    /// `cargo bench` says this.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Something whose cost is known by iteration.
#[derive(Debug, Clone, Copy)]
enum Work {
    /// A piece of a request's way.
    Piece(&'static Piece),
    /// A request from a client to an application and back.
    Request(&'static str, Http, Between),
}

impl Work {
    fn all() -> impl Iterator<Item = Self> {
        PIECES.iter().map(Self::Piece).chain([
            Self::Request("request/HTTP/1.1", Http::One, Between::Sidecars),
            Self::Request("request/HTTP/2", Http::Two, Between::Sidecars),
            Self::Request("request/HTTP/1.1, no sidecars", Http::One, Between::Nothing),
            Self::Request("request/HTTP/2, no sidecars", Http::Two, Between::Nothing),
        ])
    }

    fn name(self) -> &'static str {
        match self {
            Self::Piece(piece) => piece.name,
            Self::Request(name, ..) => name,
        }
    }

    /// Enough for whatever differs between two starts of the program to disappear.
    fn iterations(self) -> u32 {
        match self {
            Self::Piece(_) => 2_000,
            Self::Request(..) => 500,
        }
    }

    fn run(self, iterations: u32) -> anyhow::Result<()> {
        match self {
            Self::Piece(piece) => {
                let mut iteration = (piece.make)();
                (0..iterations).for_each(|_| iteration());
                Ok(())
            }
            Self::Request(name, http, between) => {
                load::run(http, between, iterations).context(name)
            }
        }
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let (Some(name), Some(iterations)) = (&args.work, args.iterations) {
        let work = Work::all().find(|work| work.name() == name);
        return work
            .with_context(|| format!("there is no {name:?}"))?
            .run(iterations);
    }
    let wanted = args.filter.as_deref().unwrap_or_default();
    let works: Vec<_> = Work::all()
        .filter(|work| work.name().contains(wanted))
        .collect();
    let costs = measure::all(&works)?;
    io::stdout().write_all(table(&costs).as_bytes())?;
    if let Some(path) = args.json {
        let json = serde_json::to_vec_pretty(&costs)?;
        fs::write(&path, json).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn table(costs: &[Cost]) -> String {
    let mut table = String::from(
        "| per iteration | instructions | allocations | bytes allocated |\n|---|---:|---:|---:|\n",
    );
    for cost in costs {
        let Cost {
            name,
            instructions,
            allocations,
            bytes,
        } = cost;
        let _ = writeln!(
            table,
            "| {name} | {instructions:.0} | {allocations:.1} | {bytes:.0} |"
        );
    }
    table
}
