//! The programs of a benchmark: built here, fetched once, or of the distribution.

use crate::{peer::Peer, progress, scenario::Scenario};
use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};
use weft_tests::{binaries, need, peers::envoy};

/// A program that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    WeftProxy,
    WeftControlPlane,
    Envoy,
    Haproxy,
    Nginx,
    Wrk,
    H2load,
    Oha,
}

/// Where those are that the chosen peers and scenarios need.
pub(crate) struct Programs {
    paths: BTreeMap<Program, PathBuf>,
}

impl Programs {
    /// Finds what peers and scenarios need, and fetches what is not there yet.
    pub(crate) fn find(peers: &[Peer], scenarios: &[Scenario]) -> anyhow::Result<Self> {
        let of_peers = peers.iter().flat_map(|peer| peer.programs());
        let of_scenarios = scenarios
            .iter()
            .flat_map(|scenario| scenario.work.programs());
        let needed = of_peers.chain(of_scenarios).chain(&[Program::Nginx]);
        let mut paths = BTreeMap::new();
        for program in needed {
            if !paths.contains_key(program) {
                paths.insert(*program, program.obtain()?);
            }
        }
        Ok(Self { paths })
    }

    /// The path of a program.
    pub(crate) fn path(&self, program: Program) -> anyhow::Result<&Path> {
        let path = self.paths.get(&program);
        path.map(PathBuf::as_path)
            .with_context(|| format!("{program:?} is used, but no peer or scenario names it"))
    }

    /// What each says about its version.
    pub(crate) fn versions(&self) -> anyhow::Result<Value> {
        let versions = self
            .paths
            .iter()
            .map(|(program, path)| Ok((format!("{program:?}"), json!(program.version(path)?))));
        versions.collect()
    }
}

impl Program {
    fn obtain(self) -> anyhow::Result<PathBuf> {
        match self {
            Self::WeftProxy => binaries::path("weft-proxy"),
            Self::WeftControlPlane => binaries::path("weft-control-plane"),
            Self::Envoy => envoy::program(),
            Self::Haproxy => of_distribution("haproxy", "haproxy"),
            Self::Nginx => of_distribution("nginx", "nginx-light"),
            Self::Wrk => of_distribution("wrk", "wrk"),
            Self::H2load => of_distribution("h2load", "nghttp2-client"),
            Self::Oha => install("oha"),
        }
    }

    /// The first line that a program says about itself. nginx says it on standard error; wrk says it and fails.
    fn version(self, path: &Path) -> anyhow::Result<String> {
        let flag = match self {
            Self::Haproxy | Self::Nginx | Self::Wrk => "-v",
            Self::WeftProxy | Self::WeftControlPlane | Self::Envoy | Self::H2load | Self::Oha => {
                "--version"
            }
        };
        let output = Command::new(path)
            .arg(flag)
            .output()
            .with_context(|| format!("cannot start {}", path.display()))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let mut lines = text.lines().map(str::trim);
        let line = lines.find(|line| !line.is_empty());
        let line = line.unwrap_or_default();
        // Envoy begins with its path, which tells nobody anything.
        let said = line.strip_prefix(&*path.to_string_lossy());
        Ok(said.unwrap_or(line).trim().to_owned())
    }
}

/// Builds Weft as it is released. The harness itself is built otherwise.
pub(crate) fn build_weft() -> anyhow::Result<()> {
    progress("building weft-proxy and weft-control-plane");
    cargo(&[
        "build",
        "--release",
        "--manifest-path",
        concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"),
        "--package=weft-proxy",
        "--package=weft-control-plane",
        "--bins",
    ])
}

/// Builds a program of the registry, once.
fn install(name: &str) -> anyhow::Result<PathBuf> {
    let root = binaries::peers_directory()?.join(name);
    let program = root.join("bin").join(name);
    if !program.is_file() {
        progress(&format!("building {name}, which takes minutes, once"));
        let root = root
            .to_str()
            .context("target/ has a path that is no text")?;
        cargo(&["install", name, "--locked", "--root", root])?;
    }
    Ok(program)
}

fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--quiet")
        .status()
        .context("cannot start cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}

fn of_distribution(name: &str, package: &str) -> anyhow::Result<PathBuf> {
    need::program(name)
        .with_context(|| format!("no {name} in PATH; install the Debian package {package}"))
}
