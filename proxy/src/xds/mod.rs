//! The configuration of this proxy, as the control plane sends it.
//!
//! Owns: the connection to the control plane, the resources held, their validation ([`convert`]) and their
//! assembly into what workers read ([`assemble`]). Does not own: what the data path does with them, and no
//! type of `snapshot` knows protobuf.
//!
//! A worker asks [`Destinations`] for the name that an application dialled. The first to ask makes the proxy
//! subscribe; when nobody has used a destination for a while, it is forgotten again.

pub mod assemble;
pub mod client;
pub mod convert;
pub mod destinations;
pub mod dns;
mod dump;
pub mod held;
mod mirror;
pub mod status;

pub use client::Client;
pub use destinations::{Destinations, Resolution};
pub use status::{Counts, Status};
