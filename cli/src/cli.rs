//! The commands of `weft`.

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{check, demo, inject};

/// The command line of the Weft service mesh.
#[derive(Debug, Parser)]
#[command(name = "weft", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a whole mesh on this machine: control plane, sidecars, applications, load.
    Demo(demo::Args),
    /// Asks a control plane whether it is ready.
    Check(check::Args),
    /// Gives the pods of manifests their sidecars, as the webhook would, and prints them.
    Inject(inject::Args),
    /// The sidecar, as a process of the demo: everything that `weft-proxy` takes.
    #[command(hide = true, disable_help_flag = true)]
    RunProxy(Passed),
    /// The control plane, as a process of the demo: everything that `weft-control-plane` takes.
    #[command(hide = true, disable_help_flag = true)]
    RunControlPlane(Passed),
    /// One of the demo's applications.
    #[command(hide = true)]
    DemoService(demo::services::Args),
    /// The demo's load by itself, for the sample application of a cluster.
    #[command(hide = true)]
    DemoLoad(demo::load::Args),
}

/// Arguments for another program.
#[derive(Debug, clap::Args)]
struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

impl Passed {
    /// With the name of the program first, as it expects.
    fn of(self, program: &str) -> impl Iterator<Item = OsString> {
        [program.into()].into_iter().chain(self.arguments)
    }
}

/// Runs `weft` with the arguments of this process.
pub fn run() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(args).map(|()| ExitCode::SUCCESS),
        Command::Inject(args) => inject::run(args),
        Command::RunProxy(passed) => return weft_proxy::cli::run(passed.of("weft-proxy")),
        Command::RunControlPlane(passed) => {
            return weft_control_plane::cli::run(passed.of("weft-control-plane"));
        }
        Command::DemoService(args) => demo::services::run(args).map(|()| ExitCode::SUCCESS),
        Command::DemoLoad(args) => demo::load::run(args),
    };
    result.unwrap_or_else(|error| {
        // Nothing is left to tell it to when standard error is closed.
        let _ = writeln!(io::stderr(), "weft: {error:#}");
        ExitCode::FAILURE
    })
}
