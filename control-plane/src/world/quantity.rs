//! Numbers with a unit of their own, which compare and hash exactly.

use std::fmt;

/// A part of a whole, exact to a millionth, at most all of it.
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
        Self::from_millionths(percent.saturating_mul(10_000))
    }

    /// So many millionths; all for more than a million.
    pub const fn from_millionths(millionths: u32) -> Self {
        match millionths {
            0..1_000_000 => Self { millionths },
            _ => Self::ALL,
        }
    }

    /// In millionths, 0 to 1,000,000: the numerator of an `envoy.type.v3.FractionalPercent` over `MILLION`.
    pub const fn millionths(self) -> u32 {
        self.millionths
    }

    /// In percent, 0 to 100.
    pub fn as_percent(self) -> f64 {
        f64::from(self.millionths) / 1e4
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.as_percent())
    }
}

/// A factor or exponent, exact to a thousandth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Factor {
    thousandths: u32,
}

impl Factor {
    /// So many thousandths.
    pub const fn from_thousandths(thousandths: u32) -> Self {
        Self { thousandths }
    }

    /// In thousandths.
    pub const fn thousandths(self) -> u32 {
        self.thousandths
    }

    /// As a number.
    pub fn as_f64(self) -> f64 {
        f64::from(self.thousandths) / 1e3
    }
}

/// When an object was created, in seconds since 1970. Of several that contradict each other the older counts; one
/// that does not say is the youngest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Created(Option<i64>);

impl Created {
    /// It does not say.
    pub const UNKNOWN: Self = Self(None);

    /// At so many seconds since 1970.
    pub const fn at(seconds: i64) -> Self {
        Self(Some(seconds))
    }
}

impl Ord for Created {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |created: &Self| (created.0.is_none(), created.0);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Created {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
