//! The command line of the mesh, `weft`: the demo, the injector for manifests, and the sandbox that it and the tests run in.

mod check;
mod cli;
mod demo;
mod inject;
pub mod sandbox;

pub use cli::run;
