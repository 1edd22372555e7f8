//! The Helm chart: rendered by Helm, and its values as its README shows them.

mod values;

pub use values::table;

use crate::peers::helm::Helm;
use anyhow::{Context, bail, ensure};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The namespace that the chart is rendered for.
pub const NAMESPACE: &str = "weft-system";

/// The directory of the chart.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/weft")
}

/// What `helm template` prints for a file of values, or none.
pub fn template(helm: Helm, values: Option<&Path>, further: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(helm.program()?);
    command
        .args(["template", "weft"])
        .arg(directory())
        .args(["--namespace", NAMESPACE])
        .args(further);
    if let Some(values) = values {
        command.arg("--values").arg(values);
    }
    run(&mut command)
}

/// Runs Helm: what it printed, or what it complained of.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().context("cannot start Helm")?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// The templates of a rendered chart with what they gave, in order. A template that gives several documents is there
/// several times.
pub fn documents(rendered: &str) -> Vec<(&str, &str)> {
    let documents = rendered.split("---\n# Source: weft/templates/").skip(1);
    documents
        .filter_map(|document| document.split_once('\n'))
        .collect()
}

/// Compares a text with a committed file, or writes the file where `WEFT_UPDATE` is set.
pub fn matches_file(path: &Path, text: &str) -> anyhow::Result<()> {
    if env::var_os("WEFT_UPDATE").is_some() {
        return Ok(fs::write(path, text)?);
    }
    let committed = fs::read_to_string(path).unwrap_or_default();
    if committed == text {
        return Ok(());
    }
    let mut lines = committed.lines().zip(text.lines()).enumerate();
    let (number, (old, new)) = lines
        .find(|(_, (old, new))| old != new)
        .unwrap_or((committed.lines().count(), ("(the end)", "(more or less)")));
    bail!(
        "{} is out of date at line {}: {old:?} is now {new:?}; `make generate` writes it anew",
        path.display(),
        number + 1
    )
}
