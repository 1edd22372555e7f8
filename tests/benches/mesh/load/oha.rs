//! HTTP/1.1 at a fixed rate, by oha: the one of the three that measures from when a request was due, not from when a
//! late caller got round to sending it.

use super::{Target, output};
use crate::programs::{Program, Programs};
use std::{process::Command, time::Duration};
use weft_tests::bench::{self, oha::Latency};

/// Sends so many requests a second on so many connections for so long.
pub(crate) fn run(
    programs: &Programs,
    target: &Target,
    connections: u16,
    rate: u32,
    duration: Duration,
) -> anyhow::Result<Latency> {
    let mut command = Command::new(programs.path(Program::Oha)?);
    command
        .args(["--no-tui", "--output-format", "json"])
        .args(["-c", &connections.to_string()])
        .args(["-q", &rate.to_string(), "--latency-correction"])
        .args(["-z", &format!("{}s", duration.as_secs())])
        .arg("--wait-ongoing-requests-after-deadline")
        .args(["--host", &target.service.host()]);
    bench::oha::parse(&output(command.arg(target.url()))?)
}
