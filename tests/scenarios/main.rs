//! The scenarios of the whole mesh.

mod alike;
mod chart;
mod dashboard;
mod hostile;
mod identity;
mod interop;
mod kubernetes;
mod lifecycle;
mod pair;
mod peers;
mod protocols;
mod resilience;
mod scale;

use std::process::ExitCode;
use weft_tests::Suite;

fn main() -> ExitCode {
    let suite = peers::add(Suite::new());
    let suite = interop::add(suite);
    let suite = identity::add(suite);
    let suite = protocols::add(suite);
    let suite = lifecycle::add(suite);
    let suite = scale::add(suite);
    let suite = resilience::add(suite);
    let suite = alike::add(suite);
    let suite = chart::add(suite);
    let suite = dashboard::add(suite);
    let suite = kubernetes::add(suite);
    hostile::add(suite).run()
}
