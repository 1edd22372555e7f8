//! Sockets: streams, listeners, where an intercepted connection wanted to go, tunnels of opaque bytes.
//!
//! Nothing here knows HTTP, clusters or policy.

pub(crate) mod batch;
pub mod listen;
pub mod original_dst;
mod splice;
pub mod stream;
pub mod tls;
pub mod tunnel;
