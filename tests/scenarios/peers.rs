//! The peers that other scenarios rest on are what they should be.

use anyhow::ensure;
use std::process::Command;
use weft_tests::{Need, Suite, peers};

pub(crate) fn add(suite: Suite) -> Suite {
    suite.test(
        "envoy_is_of_the_version_we_claim",
        &[Need::Envoy],
        envoy_version,
    )
}

fn envoy_version() -> anyhow::Result<()> {
    let output = Command::new(peers::envoy::program()?)
        .arg("--version")
        .output()?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(version.contains(peers::envoy::VERSION), "{version}");
    Ok(())
}
