//! The proxy's HTTP endpoints for operators: health, metrics, and what it holds and does.
//!
//! They run on the control runtime and only read: a slow scrape never touches a request. Every endpoint
//! stands in `docs/reference/admin.md`.

pub mod endpoints;
pub mod health;
pub mod probes;
pub mod samples;
pub mod server;

pub use endpoints::{Parts, View};
pub use health::{Condition, Health};
pub use probes::AppProbes;
