//! The state-of-the-world variant of xDS, both ends, as pure code: messages in, messages out.
//!
//! Weft's own parts speak [`delta`](crate::delta); this is for Envoy and gRPC clients. The rules are
//! those of the xDS protocol, "Four variants". A list of listeners or clusters is complete: what is
//! not in it does not exist. Other types send what changed, and cannot say that something is gone.

mod client;
mod server;

#[cfg(test)]
mod tests;

pub use client::{Client, Pending, Update};
pub use server::Server;
