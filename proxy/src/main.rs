//! The `weft-proxy` binary. Everything is in the library, so that `weft demo` can be a proxy too.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft_proxy::cli::run(std::env::args_os())
}
