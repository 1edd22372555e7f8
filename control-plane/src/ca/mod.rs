//! The certificate authority of the mesh.
//!
//! Owns: the root and where it is kept, what a workload's certificate looks like, who may have which
//! ([`token`], [`service`]), and the certificates that the control plane itself serves with. Does not
//! own: listeners, or how roots reach the proxies (they are the `ROOTCA` secret of the world).

mod authority;
mod directory;
mod root;
pub mod secret;
pub mod service;
mod serving;
pub mod token;

pub use authority::Authority;
pub use directory::StorageError;
pub use root::{Ca, Leaf, Leaves, Settings, SignError};
pub use serving::{Serving, ServingError};
