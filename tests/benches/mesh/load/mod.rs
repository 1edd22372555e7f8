//! Load generators, each a function of an address.

mod connection;
pub(crate) mod h2load;
pub(crate) mod handshakes;
pub(crate) mod idle;
pub(crate) mod oha;
pub(crate) mod tcp;
pub(crate) mod wrk;

use crate::application::{Answer, Service};
use anyhow::{Context, bail};
use std::{net::SocketAddr, process::Command};

/// Where requests go, and what for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target {
    /// The caller's sidecar, or the application itself.
    pub(crate) address: SocketAddr,
    /// The service that requests name.
    pub(crate) service: Service,
    /// What is asked for.
    pub(crate) answer: Answer,
}

impl Target {
    fn url(&self) -> String {
        format!("http://{}{}", self.address, self.answer.path())
    }
}

/// Runs a load generator to its end and gives what it printed.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("cannot start {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {text}{error}", output.status);
    }
    Ok(text)
}
