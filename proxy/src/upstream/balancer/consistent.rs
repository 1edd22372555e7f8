//! Consistent hashing: requests of one hash go to one endpoint for as long as it takes them, and to the next one in
//! line meanwhile.

use super::{Load, chance::Fit};
use std::num::NonZeroU32;

/// The first in line that takes the request. `line` holds every endpoint that has a share, most of them often.
///
/// With a bound no endpoint gets more than that many percent of its share of what is in flight (Mirrokni, Thorup,
/// Zadimoghaddam, "Consistent Hashing with Bounded Loads"); from 100 on, there is always one that has room.
pub(super) fn pick<E: Load>(
    mut line: impl Iterator<Item = usize>,
    endpoints: &[E],
    fit: impl Fn(&E) -> Fit,
    weight: impl Fn(usize) -> u32,
    bound: Option<NonZeroU32>,
) -> Option<usize> {
    let is_fit = |index: &usize| fit(&endpoints[*index]) > 0.0;
    let all = || (0..endpoints.len()).filter(is_fit);
    // On a ring that is too small some endpoints have no point.
    let first = line.find(is_fit).or_else(|| all().next())?;
    let in_flight = |index: usize| u128::from(endpoints[index].in_flight());
    let (Some(bound), 1..) = (bound, in_flight(first)) else {
        return Some(first);
    };
    let load = all().map(in_flight).sum::<u128>() + 1;
    let weights: u128 = all().map(|index| u128::from(weight(index))).sum();
    let has_room = |index: &usize| {
        let share = load * u128::from(bound.get()) * u128::from(weight(*index));
        in_flight(*index) < share.div_ceil(100 * weights)
    };
    if has_room(&first) {
        return Some(first);
    }
    let mut rest = line.filter(is_fit);
    rest.find(has_room).or_else(|| all().find(has_room))
}
