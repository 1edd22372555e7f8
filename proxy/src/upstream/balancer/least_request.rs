//! Least request: of two endpoints at random, the one with fewer requests in flight.

use super::{Load, chance::Fit, two_choices::cheaper};

/// The index of the endpoint to use (`envoy.config.cluster.v3.Cluster.LeastRequestLbConfig`, choice count 2).
pub(super) fn pick<E: Load>(
    endpoints: &[E],
    fit: impl Fn(&E) -> Fit,
    random: u64,
) -> Option<usize> {
    cheaper(endpoints, fit, random, E::in_flight)
}
