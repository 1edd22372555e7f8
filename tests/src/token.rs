//! Join tokens, as an operator mints them.

use anyhow::ensure;
use std::{path::Path, process::Command};

/// A token by which a sidecar proves that it is of this pod. `program` is `weft-control-plane`, `ca` the directory
/// of its CA.
pub fn join(
    program: &Path,
    ca: &Path,
    namespace: &str,
    service_account: &str,
    pod: &str,
) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg("token")
        .arg("--ca-dir")
        .arg(ca)
        .args(["--namespace", namespace])
        .args(["--service-account", service_account])
        .args(["--pod", pod])
        .output()?;
    ensure!(
        output.status.success(),
        "no join token for {pod}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
