//! Ring hash: every endpoint has points on a ring, and a request goes to the first point at or after its hash. An
//! endpoint that comes or goes moves only the requests between its points and those before them.

use std::net::SocketAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The points of all endpoints (libketama, with Envoy's rule for how many:
/// `envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash`).
#[derive(Debug)]
pub(super) struct Ring {
    /// Ascending.
    points: Box<[u64]>,
    /// Whose they are, by index.
    owners: Box<[u32]>,
}

impl Ring {
    /// A ring of at least `minimum` points, so many more that the lightest endpoint has a whole number of them, and
    /// at most `maximum`.
    pub(super) fn new(endpoints: &[(SocketAddr, u32)], minimum: u32, maximum: u32) -> Self {
        let total: f64 = endpoints.iter().map(|&(_, weight)| f64::from(weight)).sum();
        let lightest = endpoints.iter().map(|&(_, weight)| weight).min();
        let lightest = f64::from(lightest.unwrap_or(1)) / total.max(1.0);
        let size = (lightest * f64::from(minimum)).ceil() / lightest;
        let size = size.min(f64::from(maximum));

        let mut members: Vec<_> = (0..).zip(endpoints).collect();
        // Who gets the fractions of points must not depend on the order in which endpoints were told.
        members.sort_unstable_by_key(|(_, (address, _))| *address);
        let mut points = Vec::with_capacity(size.ceil() as usize);
        let mut due = 0.0;
        for (owner, &(address, weight)) in members {
            let name = address.to_string();
            due += size * f64::from(weight) / total;
            let first = points.len();
            while (points.len() as f64) < due.round() {
                let seed = (points.len() - first) as u64;
                points.push((xxh3_64_with_seed(name.as_bytes(), seed), owner));
            }
        }
        points.sort_unstable();
        let (points, owners): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Self {
            points: points.into(),
            owners: owners.into(),
        }
    }

    /// The owners of all points, from the one that a hash belongs to onwards.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = self.points.partition_point(|&point| point < hash);
        let (before, after) = self.owners.split_at(start);
        after.iter().chain(before).map(|&owner| owner as usize)
    }
}
