//! What tests and benchmarks are made of. Only there with the feature `testing`, which no binary asks for.

pub mod callgrind;
pub mod pieces;
pub mod world;
