//! Weft's own kinds, group `weft.dev/v1alpha1`, and those of Gateway API that it reads: what people write, before it
//! becomes the world.
//!
//! Every field has a default, and an unknown field is an error: a misspelt setting that is silently
//! ignored is worse than one that is refused.

pub mod definition;
mod duration;
pub mod gateway;
mod mesh_config;
mod quantity;
#[cfg(test)]
mod reference;
pub(crate) mod schema;
pub mod status;
pub mod traffic_policy;

pub use duration::{Duration, InvalidDuration};
pub use mesh_config::{Defaults, Limits, LoadBalancer, MeshConfigSpec, Mtls, MtlsMode};
pub(crate) use quantity::share;
pub use quantity::{Bytes, Percent};
pub use traffic_policy::TrafficPolicySpec;

/// The group and version of every kind here.
pub const API_VERSION: &str = "weft.dev/v1alpha1";
