//! The ADS server: what every proxy has asked for, kept up to date.
//!
//! ```text
//! world ── Change ──> resources ── wakes the followers of what differs ──> stream ──> proxy
//! ```
//!
//! [`resources`] renders what somebody follows, once per dialect, and again when a change touches it.
//! Each stream drives one of the protocol machines of `weft-xds-proto`, in the task that its connection
//! has for it. A change costs nothing to a stream that does not follow what changed; a stream that is slow
//! keeps its changes as a set of names, so it costs no more memory than it has subscriptions, and delays
//! nobody.
//!
//! Does not own: what is in a resource (`translate`), sockets and TLS (`serve`).

mod codec;
mod nacks;
mod protocol;
mod resources;
mod service;
mod stream;

pub use nacks::{NackRecord, Nacks};
pub use resources::{Follower, Progress, Refusal, Resources};
pub use service::{AdsService, Settings};
