//! Least request: of two endpoints at random, the one with fewer requests in flight.

use super::{Load, cheaper_of_two};

/// The index of the endpoint to use (`envoy.config.cluster.v3.Cluster.LeastRequestLbConfig`, choice count 2).
pub(crate) fn pick<E: Load>(
    endpoints: &[E],
    usable: impl Fn(&E) -> bool,
    random: u64,
) -> Option<usize> {
    cheaper_of_two(endpoints, usable, random, E::in_flight)
}
