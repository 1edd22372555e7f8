//! Shares of a whole: percentages that configuration gives.

/// A part of a whole, exact to a millionth, at most all of it (`envoy.type.v3.FractionalPercent`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share {
    millionths: u32,
}

impl Share {
    /// Nothing.
    pub const NONE: Self = Self { millionths: 0 };
    /// The whole.
    pub const ALL: Self = Self {
        millionths: 1_000_000,
    };

    /// So many percent; all for more than 100.
    pub const fn percent(percent: u32) -> Self {
        Self::millionths(percent.saturating_mul(10_000))
    }

    /// So many millionths; all for more than a million.
    pub const fn millionths(millionths: u32) -> Self {
        match millionths {
            0..1_000_000 => Self { millionths },
            _ => Self::ALL,
        }
    }

    /// Between 0 and 1.
    pub fn as_f64(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }

    /// Whether one of many, picked by 64 uniform bits, belongs to the share.
    pub fn includes(self, random: u64) -> bool {
        // Multiply-shift (Lemire): the bias is one in 2^44.
        let picked = (u128::from(random) * 1_000_000) >> 64;
        picked < u128::from(self.millionths)
    }

    /// Whether `part` is at least this share of `whole`.
    pub fn is_reached_by(self, part: u32, whole: u32) -> bool {
        u64::from(part) * 1_000_000 >= u64::from(whole) * u64::from(self.millionths)
    }

    /// The share of so many things, rounded down.
    pub fn of(self, whole: usize) -> usize {
        (whole as u128 * u128::from(self.millionths) / 1_000_000) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_its_part_of_all_random_numbers() {
        let steps = 1_000u64;
        for percent in [0, 1, 20, 50, 99, 100, 150] {
            let share = Share::percent(percent);
            let hits = (0..steps).filter(|step| share.includes(step * (u64::MAX / steps)));
            let expected = u64::from(percent.min(100)) * steps / 100;
            assert!(hits.count().abs_diff(expected as usize) <= 1, "{percent} %");
        }
    }

    #[test]
    fn a_share_is_reached_by_no_less_than_itself() {
        let share = Share::percent(7);
        let reached = [6, 7, 8].map(|part| share.is_reached_by(part, 100));
        assert_eq!(reached, [false, true, true]);
        assert!(Share::ALL.is_reached_by(u32::MAX, u32::MAX));
        assert!(!Share::ALL.is_reached_by(u32::MAX - 1, u32::MAX));
    }

    #[test]
    fn the_share_of_a_number_is_rounded_down() {
        assert_eq!(Share::percent(50).of(3), 1);
        assert_eq!(Share::ALL.of(3), 3);
        assert_eq!(Share::NONE.of(3), 0);
    }
}
