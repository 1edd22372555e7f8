//! The harness of Weft's scenarios: a mesh of real processes in pods, and the real components around it.
//!
//! A pod is a network namespace (`weft_cli::sandbox`), the control plane and the sidecars are the binaries that
//! cargo built beside the tests, and peers such as Envoy come from the package registries into `target/peers`.
//! A scenario whose component is missing is shown as ignored with the reason; `WEFT_TEST_REQUIRE=all` makes that a
//! failure.
//!
//! The Kubernetes API is a stand-in ([`kubernetes`]), or a real one.

pub mod any_server;
pub mod apps;
pub mod bench;
pub mod binaries;
pub mod capture;
pub mod chart;
pub mod kubernetes;
pub mod manifest;
pub mod memory;
pub mod mesh;
pub mod need;
pub mod peers;
pub mod suite;
pub mod token;
pub mod wait;

pub use mesh::{Mesh, Workload};
pub use need::Need;
pub use suite::Suite;
