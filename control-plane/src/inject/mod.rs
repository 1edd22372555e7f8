//! The injector: from a pod to a pod with a sidecar.
//!
//! Owns what is injected and when a pod is left alone; a function of the pod, where it is to run and the
//! [`Settings`]. Does not own how pods come in: over the webhook, or from a file on the command line.

mod quantity;
mod ranges;
pub mod settings;

pub use quantity::{InvalidQuantity, Quantity};
pub use ranges::{InvalidRange, PortRange, Subnet};
pub use settings::{InvalidSettings, Settings};
