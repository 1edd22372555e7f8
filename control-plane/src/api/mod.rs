//! Weft's own kinds, group `weft.dev/v1alpha1`: what people write, before it becomes the world.
//!
//! Every field has a default, and an unknown field is an error: a misspelt setting that is silently
//! ignored is worse than one that is refused.

mod duration;
mod mesh_config;

pub use duration::{Duration, InvalidDuration};
pub use mesh_config::{Defaults, Limits, LoadBalancer, MeshConfigSpec, Mtls, MtlsMode};

/// The group and version of every kind here.
pub const API_VERSION: &str = "weft.dev/v1alpha1";
