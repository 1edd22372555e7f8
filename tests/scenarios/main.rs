//! The scenarios of the whole mesh.

mod identity;
mod interop;
mod peers;

use std::process::ExitCode;
use weft_tests::Suite;

fn main() -> ExitCode {
    let suite = peers::add(Suite::new());
    let suite = interop::add(suite);
    identity::add(suite).run()
}
