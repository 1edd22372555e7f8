//! Weft's control plane.
//!
//! A change of configuration travels `source` (objects from files or Kubernetes) -> `world` (one
//! immutable, indexed picture of the mesh) -> `translate` (a pure function from the world to xDS
//! resources) -> the ADS server.

pub mod api;
pub mod app;
pub mod ca;
pub mod caller;
pub mod cli;
pub mod inject;
pub mod kubernetes;
pub mod monitoring;
pub mod serve;
pub mod source;
pub mod status;
pub mod translate;
pub mod trust_bundle;
pub mod webhook;
pub mod world;
pub mod xds;

#[cfg(test)]
mod fixture;
