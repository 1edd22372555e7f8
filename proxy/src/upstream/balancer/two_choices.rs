//! The power of two choices: of two endpoints at random, the cheaper one.

use super::chance::{Fit, below, draw, takes};
use fastrand::Rng;

/// The cheaper of two different endpoints chosen at random (Mitzenmacher, "The Power of Two Choices in
/// Randomized Load Balancing"); the first of them when both cost the same.
pub(super) fn cheaper<E, C: PartialOrd>(
    endpoints: &[E],
    fit: impl Fn(&E) -> Fit,
    random: u64,
    cost: impl Fn(&E) -> C,
) -> Option<usize> {
    let (mut first, mut second) = match endpoints.len() {
        0 => return None,
        1 => return (fit(&endpoints[0]) > 0.0).then_some(0),
        len => two_of(len, random),
    };
    let mut rng = Rng::with_seed(random);
    let mut takes = |index: usize| takes(fit(&endpoints[index]), &mut rng);
    if !(takes(first) && takes(second)) {
        (first, second) = two_fit(endpoints, fit, &mut rng)?;
    }
    let second_is_cheaper = cost(&endpoints[second]) < cost(&endpoints[first]);
    Some(if second_is_cheaper { second } else { first })
}

/// Two endpoints by how fit they are; twice the same one when there is no other.
#[cold]
fn two_fit<E>(endpoints: &[E], fit: impl Fn(&E) -> Fit, rng: &mut Rng) -> Option<(usize, usize)> {
    let len = endpoints.len();
    let first = draw(len, |index| fit(&endpoints[index]), rng)?;
    let other = |index| match index == first {
        true => 0.0,
        false => fit(&endpoints[index]),
    };
    Some((first, draw(len, other, rng).unwrap_or(first)))
}

/// Two different indices below `len`, which is at least 2. Every ordered pair is equally likely.
pub(super) fn two_of(len: usize, random: u64) -> (usize, usize) {
    let first = below(random, len);
    let second = below(random >> 32, len - 1);
    (first, if second >= first { second + 1 } else { second })
}
