//! Sources: where the objects of the world come from.
//!
//! A source turns what it watches into validated domain objects at its edge, tells them to the
//! [`Store`](crate::world::Store) as updates, marks it synced once it has told what was there at its
//! start, and keeps the list of [`Problems`] that someone has to act on.

pub(crate) mod convert;
pub mod files;
pub mod kubernetes;
mod problem;
mod unread;

pub use problem::{Origin, Place, Problem, Problems, Severity};
pub use unread::Unread;
