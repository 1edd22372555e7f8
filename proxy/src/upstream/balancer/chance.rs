//! Drawing endpoints at random, each by how much of its share it may take.

use fastrand::Rng;

/// How much of its share an endpoint may take: 0 is none, 1 is all of it.
pub(super) type Fit = f64;

/// Whether an endpoint takes a request whose turn is its own.
pub(super) fn takes(fit: Fit, rng: &mut Rng) -> bool {
    fit >= 1.0 || (fit > 0.0 && rng.f64() < fit)
}

/// An index below `len` by its weight; `None` when all weigh nothing. Looks at everyone: for when a draw from
/// what was prepared came to an endpoint that does not take the request.
#[cold]
pub(super) fn draw(len: usize, weight: impl Fn(usize) -> f64, rng: &mut Rng) -> Option<usize> {
    let weights = || (0..len).map(|index| (index, weight(index)));
    let total: f64 = weights().map(|(_, weight)| weight).sum();
    let mut rest = rng.f64() * total;
    let mut last = None;
    for (index, weight) in weights().filter(|&(_, weight)| weight > 0.0) {
        last = Some(index);
        if rest < weight {
            break;
        }
        rest -= weight;
    }
    last
}

/// A random index below `bound` from the low 32 bits: multiply-shift (Lemire, "Fast Random Integer Generation in
/// an Interval"), whose bias is bound / 2^32.
pub(super) fn below(bits: u64, bound: usize) -> usize {
    (((bits & 0xffff_ffff) * bound as u64) >> 32) as usize
}
