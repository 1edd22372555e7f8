//! Random by weight.

use super::chance::{Fit, below, draw, takes};
use fastrand::Rng;

/// Draws an index by its weight in constant time: Walker's alias method, with the table built as by Vose, "A Linear
/// Algorithm for Generating Random Numbers with a Given Distribution".
#[derive(Debug)]
pub(super) struct Random {
    columns: Box<[Column]>,
}

/// Every column is drawn equally often.
#[derive(Debug, Clone, Copy)]
struct Column {
    /// Of 2^32 draws so many stay with the column's own index.
    own: u64,
    /// The others go to this one.
    alias: u32,
}

impl Random {
    /// For these weights, of which none is zero.
    pub(super) fn new(weights: &[u32]) -> Self {
        const WHOLE: f64 = (1_u64 << 32) as f64;
        let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
        let mut columns: Box<[_]> = (0..weights.len() as u32)
            .map(|index| Column {
                own: WHOLE as u64,
                alias: index,
            })
            .collect();
        // In units of what a column holds.
        let mut heights: Box<[_]> = weights
            .iter()
            .map(|&weight| f64::from(weight) * weights.len() as f64 / total)
            .collect();
        let (mut low, mut high): (Vec<_>, Vec<_>) =
            (0..weights.len()).partition(|&index| heights[index] < 1.0);
        while let (Some(&short), Some(&tall)) = (low.last(), high.last()) {
            low.pop();
            columns[short] = Column {
                own: (heights[short] * WHOLE) as u64,
                alias: tall as u32,
            };
            heights[tall] -= 1.0 - heights[short];
            if heights[tall] < 1.0 {
                high.pop();
                low.push(tall);
            }
        }
        Self { columns }
    }

    /// A random index.
    pub(super) fn pick<E>(
        &self,
        endpoints: &[E],
        fit: impl Fn(&E) -> Fit,
        weight: impl Fn(usize) -> u32,
        random: u64,
    ) -> Option<usize> {
        if self.columns.is_empty() {
            return None;
        }
        let index = self.draw(random);
        let mut rng = Rng::with_seed(random);
        if takes(fit(&endpoints[index]), &mut rng) {
            return Some(index);
        }
        // Whatever the first draw was, this one has the right distribution: so have both together.
        let weight = |index: usize| f64::from(weight(index)) * fit(&endpoints[index]);
        draw(endpoints.len(), weight, &mut rng)
    }

    fn draw(&self, random: u64) -> usize {
        let index = below(random, self.columns.len());
        let column = self.columns[index];
        match random >> 32 < column.own {
            true => index,
            false => column.alias as usize,
        }
    }
}
