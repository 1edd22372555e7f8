//! Sockets: streams, listeners, where an intercepted connection wanted to go, tunnels of opaque bytes.
//!
//! Nothing here knows HTTP, clusters or policy.

pub mod stream;
pub mod tls;
