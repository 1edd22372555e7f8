//! The wire of Weft.
//!
//! Owns: the names that both ends agree on, SPIFFE identities, the resource types and their order,
//! Weft's own protobuf messages, and the xDS protocol state machines of both ends as pure code.
//! Does not own: sockets, TLS, or what a resource means (that is `translate` in the control plane
//! and `xds` in the proxy).

pub mod delta;
pub mod exchange;
pub mod names;
pub mod resource;
pub mod sotw;
pub mod spiffe;

#[cfg(test)]
mod shelf;

pub use envoy_types::pb as envoy;

/// Weft's own messages, for what Envoy has no message for. Generated from `proto/weft/v1`.
pub mod weft {
    #[expect(missing_docs, reason = "prost documents no field that holds a oneof")]
    pub mod v1 {
        //! Version 1 of Weft's messages.
        include!("generated/weft.v1.rs");
    }
}

/// The certificate signing service. Generated from `proto/istio/v1/auth`.
pub mod csr {
    include!("generated/istio.v1.auth.rs");
}
