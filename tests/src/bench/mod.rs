//! What the benchmarks compute: pure functions over what tools print, the kernel counts and runs measured.
//!
//! The benchmarks themselves are `tests/benches/`; a bench target has no tests, hence these parts are here.

pub mod answer;
pub mod control_plane;
pub mod cpu;
pub mod figure;
pub mod h2load;
pub mod oha;
pub mod report;
pub mod spread;
pub mod table;
pub mod wrk;

/// What a load generator has done.
#[derive(Debug, Clone, PartialEq)]
pub struct Throughput {
    /// Requests that were answered as they should be.
    pub requests: u64,
    /// Those a second.
    pub per_second: f64,
}
