//! The wire of Weft.
//!
//! Owns: the names that both ends agree on, SPIFFE identities, the resource types and their order,
//! Weft's own protobuf messages, and the xDS protocol state machines of both ends as pure code.
//! Does not own: sockets, TLS, or what a resource means (that is `translate` in the control plane
//! and `xds` in the proxy).

pub mod names;
pub mod resource;
pub mod spiffe;

pub use envoy_types::pb as envoy;
