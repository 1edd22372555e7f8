//! The workspace's own binaries, as cargo built them beside the running test.

use anyhow::{Context, ensure};
use std::{env, path::PathBuf};

/// The path of `weft-proxy`, `weft-control-plane` or `weft`.
///
/// `cargo test --workspace` builds them, since each of their packages has tests of its command line.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    let path = profile_directory()?.join(name);
    ensure!(
        path.is_file(),
        "{} is not built; run `cargo build --workspace --bins`, or the tests with `cargo test --workspace`",
        path.display()
    );
    Ok(path)
}

/// Where fetched peers are kept between runs: `target/peers`.
pub fn peers_directory() -> anyhow::Result<PathBuf> {
    let profile = profile_directory()?;
    let target = profile
        .parent()
        .context("the directory of a cargo profile lies in a target directory")?;
    Ok(target.join("peers"))
}

/// A test runs as `target/<profile>/deps/<test>`.
fn profile_directory() -> anyhow::Result<PathBuf> {
    let test = env::current_exe().context("cannot find the running test")?;
    let profile = test.ancestors().nth(2);
    Ok(profile
        .context("the running test does not lie in a target directory")?
        .to_owned())
}
