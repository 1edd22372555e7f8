//! HTTP/1.1 as fast as it goes, by wrk.

use super::{Target, output};
use crate::programs::{Program, Programs};
use std::{fs, path::Path, process::Command, time::Duration};
use weft_tests::bench::{self, Throughput};

/// Sends requests on so many connections for so long. Without keep-alive each asks for the end of its connection,
/// and the next goes on a new one.
pub(crate) fn run(
    programs: &Programs,
    target: &Target,
    connections: u16,
    keep_alive: bool,
    duration: Duration,
    directory: &Path,
) -> anyhow::Result<Throughput> {
    let mut command = Command::new(programs.path(Program::Wrk)?);
    command
        .args(["--threads", "1", "--timeout", "10s"])
        .args(["--connections", &connections.to_string()])
        .args(["--duration", &format!("{}s", duration.as_secs())])
        .args(["--header", &format!("Host: {}", target.service.host())]);
    if !keep_alive {
        command.args(["--header", "Connection: close"]);
    }
    if let Some(body) = target.answer.request_body() {
        let script = directory.join("post.lua");
        let body = String::from_utf8(body)?;
        let text = format!("wrk.method = \"POST\"\nwrk.body = \"{body}\"\n");
        fs::write(&script, text)?;
        command.arg("--script").arg(script);
    }
    bench::wrk::parse(&output(command.arg(target.url()))?)
}
