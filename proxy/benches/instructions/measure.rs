//! From work to cost: runs of N and of 2N iterations, subtracted.

use crate::{Work, allocations::Allocated};
use anyhow::{Context, bail};
use serde::Serialize;
use std::{
    env,
    io::ErrorKind,
    process::{Command, Stdio},
    thread,
};
use weft_proxy::testing::callgrind;

/// What one iteration costs.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) name: &'static str,
    /// In user space, as callgrind counts them.
    pub(crate) instructions: f64,
    pub(crate) allocations: f64,
    pub(crate) bytes: f64,
}

/// The cost of every work, in order.
pub(crate) fn all(works: &[Work]) -> anyhow::Result<Vec<Cost>> {
    // The counts do not depend on what else runs, so the two runs of a work share the time.
    works.iter().map(|work| of(*work)).collect()
}

fn of(work: Work) -> anyhow::Result<Cost> {
    let n = work.iterations();
    let (once, twice) = thread::scope(|scope| {
        let once = scope.spawn(|| instructions(work, n));
        let twice = instructions(work, 2 * n);
        (once.join().expect("counting does not panic"), twice)
    });
    let instructions = callgrind::per_iteration(once?, twice?, n);

    // What is made once per process is made here.
    work.run(1)?;
    let (once, twice) = (allocated(work, n)?, allocated(work, 2 * n)?);
    Ok(Cost {
        name: work.name(),
        instructions,
        allocations: callgrind::per_iteration(once.allocations, twice.allocations, n),
        bytes: callgrind::per_iteration(once.bytes, twice.bytes, n),
    })
}

/// The instructions of this program when it does the work so often and nothing else.
fn instructions(work: Work, iterations: u32) -> anyhow::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe()?)
        .args([
            "--work",
            work.name(),
            "--iterations",
            &iterations.to_string(),
        ])
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "valgrind counts the instructions and is not there: install the package `valgrind`"
            )
        }
        output => output.context("starting valgrind")?,
    };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}: {}\n{stderr}", work.name(), output.status);
    }
    callgrind::collected(&stderr).with_context(|| format!("valgrind printed no count:\n{stderr}"))
}

fn allocated(work: Work, iterations: u32) -> anyhow::Result<Allocated> {
    let before = Allocated::now();
    work.run(iterations)?;
    Ok(Allocated::since(before))
}
