//! Weft's sidecar proxy.
//!
//! `docs/ARCHITECTURE.md` shows the life of a request and of a config change, with the file of every stage.

pub mod admin;
mod admission;
pub mod app;
pub mod cli;
pub mod config;
mod cpu;
pub mod deadline;
mod detection;
pub mod drain;
mod edges;
pub mod error;
mod exchange;
pub mod http;
mod inbound;
mod memory;
pub mod net;
pub mod nft;
mod opaque;
mod outbound;
mod own_addresses;
pub mod snapshot;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod upstream;
mod worker;
pub mod xds;

#[cfg(test)]
mod tests;
