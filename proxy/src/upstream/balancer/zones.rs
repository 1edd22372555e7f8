//! Zones: which endpoints are near, and how much the far ones take.

use crate::snapshot::{Endpoint, cluster::Zone};
use std::{ops::Range, sync::Arc};

/// The endpoints that may be used, zone by zone, the proxy's own first; with one range per zone that is told apart.
pub(crate) fn arrange(
    endpoints: &[Arc<Endpoint>],
    preference: Zone,
    own: &str,
) -> (Vec<Arc<Endpoint>>, Vec<Range<usize>>) {
    let mut arranged = endpoints.to_vec();
    let local = endpoints
        .iter()
        .filter(|endpoint| *endpoint.zone == *own)
        .count();
    let only = |members| std::iter::once(members).collect();
    if preference == Zone::Off || own.is_empty() || local == 0 {
        return (arranged, only(0..endpoints.len()));
    }
    arranged.sort_by(|one, other| {
        let rank = |endpoint: &Endpoint| (*endpoint.zone != *own, endpoint.zone.clone());
        rank(one).cmp(&rank(other))
    });
    if preference == Zone::Strict {
        return (arranged, only(0..local));
    }
    let mut start = 0;
    let zones = arranged.chunk_by(|one, other| one.zone == other.zone);
    let ranges = zones
        .map(|zone| {
            let range = start..start + zone.len();
            start = range.end;
            range
        })
        .collect();
    (arranged, ranges)
}

/// Turns the capacities of zones, the own one first, into their shares of the requests of this proxy. All zones are
/// taken to ask for equally much.
///
/// The own zone keeps all when it can bear its part of the load, which is what the zones have on average, and
/// otherwise as much of it as it can. The rest goes to the zones that can bear more than their own part, in
/// proportion to how much more: when every zone does so, all endpoints are loaded equally.
pub(super) fn spread(zones: &mut [f64]) {
    let fair = zones.iter().sum::<f64>() / zones.len() as f64;
    let Some((own, others)) = zones.split_first_mut() else {
        return;
    };
    if fair == 0.0 {
        *own = 1.0;
        return;
    }
    *own = (*own / fair).min(1.0);
    let spare = |capacity: f64| (capacity - fair).max(0.0);
    let all_spare: f64 = others.iter().map(|&capacity| spare(capacity)).sum();
    for zone in others {
        *zone = match all_spare > 0.0 {
            true => (1.0 - *own) * spare(*zone) / all_spare,
            false => 0.0,
        };
    }
}
