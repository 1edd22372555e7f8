//! HTTP/2 as fast as it goes, by h2load.

use super::{Target, output};
use crate::{
    application::Service,
    programs::{Program, Programs},
};
use std::{fs, path::Path, process::Command, time::Duration};
use weft_tests::bench::{self, Throughput};

/// Sends requests on so many connections with so many streams each for so long.
pub(crate) fn run(
    programs: &Programs,
    target: &Target,
    connections: u16,
    streams: u16,
    duration: Duration,
    directory: &Path,
) -> anyhow::Result<Throughput> {
    let mut command = Command::new(programs.path(Program::H2load)?);
    command
        .args(["--threads", "1"])
        .args(["--clients", &connections.to_string()])
        .args(["--max-concurrent-streams", &streams.to_string()])
        .args(["--duration", &duration.as_secs().to_string()])
        .args(["--connect-to", &target.address.to_string()]);
    if target.service == Service::Grpc {
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    }
    if let Some(body) = target.answer.request_body() {
        let file = directory.join("h2load.body");
        fs::write(&file, body)?;
        command.arg("--data").arg(file);
    }
    let url = format!("http://{}{}", target.service.host(), target.answer.path());
    let answer_bytes = u64::try_from(target.answer.bytes())?;
    bench::h2load::parse(&output(command.arg(url))?, answer_bytes)
}
