//! Proxyless gRPC clients: gRPC libraries that speak xDS themselves.
//!
//! The programs beside this file call a method of a service again and again and print a line for each answer.

use super::{fetch, run};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const PYTHON_VERSION: &str = "1.85.1";
const NODE_VERSION: &str = "1.14.7";
const NODE_XDS_VERSION: &str = "1.14.1";

/// The directory to put into `PYTHONPATH`, which also holds `client.py` and `streams.py`.
pub fn python() -> anyhow::Result<PathBuf> {
    fetch(
        &format!("grpc-python-{PYTHON_VERSION}"),
        |directory: &Path| {
            run(Command::new("python3")
                .args(["-m", "pip", "install", "--quiet", "--target"])
                .arg(directory)
                .arg(format!("grpcio=={PYTHON_VERSION}")))
        },
    )
    .and_then(|directory| with_program(directory, "client.py", include_str!("grpc_client.py")))
    .and_then(|directory| with_program(directory, "streams.py", include_str!("grpc_streams.py")))
}

/// The directory with `node_modules`, which also holds `client.js`.
pub fn node() -> anyhow::Result<PathBuf> {
    fetch(
        &format!("grpc-node-{NODE_XDS_VERSION}"),
        |directory: &Path| {
            run(Command::new("npm")
                .args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"])
                .arg(directory)
                .arg(format!("@grpc/grpc-js@{NODE_VERSION}"))
                .arg(format!("@grpc/grpc-js-xds@{NODE_XDS_VERSION}")))
        },
    )
    .and_then(|directory| with_program(directory, "client.js", include_str!("grpc_client.js")))
}

/// Programs change with the workspace, libraries do not: a program is written anew each time.
fn with_program(directory: PathBuf, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let path = directory.join(name);
    if fs::read_to_string(&path).is_ok_and(|written| written == text) {
        return Ok(directory);
    }
    let fresh = directory.join(format!("{name}.{}", std::process::id()));
    fs::write(&fresh, text)?;
    fs::rename(fresh, path)?;
    Ok(directory)
}
