//! The scenarios of the whole mesh.

mod peers;

use std::process::ExitCode;
use weft_tests::Suite;

fn main() -> ExitCode {
    peers::add(Suite::new()).run()
}
