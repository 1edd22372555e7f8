//! The command line of the mesh, `weft`: the demo, and the sandbox that it and the tests run in.

mod check;
mod cli;
mod demo;
pub mod sandbox;

pub use cli::run;
