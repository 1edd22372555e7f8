//! The life of the process: threads, readiness, signals and the way out.

use crate::{config::Config, telemetry::log};

/// Runs a proxy until it has drained. Errors when it can't start.
pub(crate) fn run(config: Config, log: log::Control) -> anyhow::Result<()> {
    let _ = (config, log, crate::worker::run);
    anyhow::bail!("not able to serve yet")
}
