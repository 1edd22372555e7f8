//! The Envoy dialect.

/// The name of Envoy's outbound listener and of its routes.
pub(super) const OUTBOUND: &str = "outbound";
