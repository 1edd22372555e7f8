//! kubernetes-validate: the schemas of Kubernetes' own kinds, for many of its versions.

use super::{fetch, run};
use anyhow::ensure;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const VERSION: &str = "1.37.0";

/// The directory to put into `PYTHONPATH`.
pub fn directory() -> anyhow::Result<PathBuf> {
    fetch(
        &format!("kubernetes-validate-{VERSION}"),
        |directory: &Path| {
            run(Command::new("python3")
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--no-compile",
                    "--target",
                ])
                .arg(directory)
                .arg(format!("kubernetes-validate=={VERSION}")))
        },
    )
}

/// Holds the objects of a file against the schemas of versions of Kubernetes; fields that they do not know are errors.
/// Kinds that are not Kubernetes' own are not looked at.
pub fn validate(manifest: &Path, versions: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("python3");
    command
        .args([
            "-m",
            "kubernetes_validate",
            "--strict",
            "--quiet",
            "--no-warn",
        ])
        .env("PYTHONPATH", directory()?);
    for version in versions {
        command.args(["--kubernetes-version", version]);
    }
    let output = command.arg(manifest).output()?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
