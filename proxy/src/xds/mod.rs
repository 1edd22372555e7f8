//! The configuration of this proxy, as the control plane sends it.
//!
//! Owns: the connection to the control plane, the resources held, their validation ([`convert`]) and their
//! assembly into what workers read ([`assemble`]). Does not own: what the data path does with them, and no
//! type of `snapshot` knows protobuf.
//!
//! A worker asks [`Destinations`] for the name that an application dialled. The first to ask makes the proxy
//! subscribe; when nobody has used a destination for a while, it is forgotten again.

pub mod destinations;

pub use destinations::{Destinations, Resolution};
