//! HTTP/1.1 by hand, both sides (RFC 9110, RFC 9112): no spawned task, no channel, one write per message.
//!
//! A body polls the socket it comes from. What is forwarded therefore moves entirely inside the downstream
//! connection's task: [`serve`] polls the handler, the handler polls [`Connection::send`], and later `serve`
//! polls the response's body, which reads from upstream and drives what is left of the upload.
//!
//! Framing is strict in both directions: whatever two implementations might read differently is refused,
//! never repaired. Hop-by-hop fields other than those of framing are left to `http::headers`.
//!
//! - `head`: start lines and fields, to and from bytes. Pure.
//! - `framing`: where a message ends. Pure.
//! - `wire`: a socket with its two buffers, which are only there while there is something in them.
//! - `server`, `client`: the two sides.

mod buffers;
pub mod client;
mod framing;
mod head;
mod incoming;
mod informational;
mod outgoing;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod pieces;
mod refusal;
pub mod server;
#[cfg(test)]
mod testing;
mod upgrade;
mod wire;

pub use client::{Connection, Progress, Recycle, SendError};
pub use incoming::IncomingBody;
pub use refusal::Refusal;
pub use server::{Handler, ServeEnd, serve};
pub use upgrade::Upgrade;

#[cfg(test)]
mod tests;
