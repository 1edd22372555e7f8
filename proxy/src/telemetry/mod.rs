//! What the proxy tells about its traffic: metrics, the access log and its own log.
//!
//! Counters live per worker and are resolved when configuration loads or a peer is first seen, so that a
//! request only adds to numbers of its own worker; a scrape merges them. Nothing here is reset by a
//! config push. Every metric stands in `docs/reference/metrics.md`.

pub mod access_log;
pub mod connections;
pub mod edge;
pub mod histogram;
pub mod log;
pub mod mirrors;
pub mod process;
pub mod registry;
pub mod render;

pub use access_log::{AccessLog, Entry, Mode};
pub use connections::{Connections, Verdict};
pub use edge::{Direction, Edge, EdgeKey, Outcome};
pub use mirrors::Mirrored;
pub use registry::{Registry, Worker};
