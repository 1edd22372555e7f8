//! The scenarios of the whole mesh.

mod interop;
mod peers;

use std::process::ExitCode;
use weft_tests::Suite;

fn main() -> ExitCode {
    let suite = peers::add(Suite::new());
    interop::add(suite).run()
}
