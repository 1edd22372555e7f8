//! The incremental ("delta") variant of xDS, both ends, as pure code: messages in, messages out.
//!
//! The rules are those of the xDS protocol, "Incremental xDS". Neither end does IO or reads a clock;
//! the caller moves messages, decides when to ask for the next one, and thereby sets the pace: what
//! changes while a peer is slow is coalesced into one later message.

mod client;
mod server;

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;

pub use client::{Client, Pending, Update};
pub use server::{Response, Server};
