//! Pods as network namespaces: where the demo and the tests run the mesh on one machine.
//!
//! A [`Network`] is a node with a bridge; a [`Pod`] is a namespace with one link to it; a [`Command`] starts a
//! process in a pod. Namespaces have no name: file descriptors and processes are all that hold them, and every process
//! is killed by the kernel when this one dies. So nothing stays behind, not even after SIGKILL.
//!
//! Nothing here knows of the mesh.

mod link;
mod namespace;
mod network;
mod privilege;
mod process;
#[cfg(test)]
mod tests;

pub use namespace::{Namespace, Task};
pub use network::{Network, Pod};
pub use privilege::{Unavailable, acquire, available};
pub use process::{Child, Command};

/// Something that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}: {source}")]
pub struct SandboxError {
    action: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl SandboxError {
    fn new(
        action: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            action: action.into(),
            source: source.into(),
        }
    }
}
