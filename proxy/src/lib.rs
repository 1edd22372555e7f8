//! Weft's sidecar proxy.
//!
//! `docs/ARCHITECTURE.md` shows the life of a request and of a config change, with the file of every stage.

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
mod cpu;
pub mod deadline;
pub mod drain;
pub mod error;
pub mod http;
pub mod inbound;
pub mod net;
pub mod nft;
pub mod outbound;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod worker;
pub mod xds;
