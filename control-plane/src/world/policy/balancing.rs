//! How endpoints are chosen.

use crate::world::quantity::{Factor, Share};
use std::{num::NonZeroU32, sync::Arc, time::Duration};

/// How endpoints are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoadBalancing {
    /// Absent: that of the mesh.
    pub algorithm: Option<Algorithm>,
    /// How an endpoint that is new comes to its full share. Absent: at once.
    pub slow_start: Option<SlowStart>,
    /// Whether endpoints of the caller's zone are preferred.
    pub zone: Zone,
    /// With a smaller share of endpoints admitted, breakers are ignored.
    pub panic_threshold: Share,
}

impl Default for LoadBalancing {
    fn default() -> Self {
        Self {
            algorithm: None,
            slow_start: None,
            zone: Zone::Off,
            panic_threshold: Share::percent(50),
        }
    }
}

/// How an endpoint is chosen for a request or connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// Of two at random, the lower latency times load.
    PeakEwma {
        /// The time in which an old peak loses all but 1/e of its weight.
        decay: Duration,
        /// The latency assumed of an endpoint never used.
        default_rtt: Duration,
    },
    /// Of two at random, the fewer requests in flight.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// In turn, each as often as its weight says, spread evenly.
    WeightedRoundRobin,
    /// At random, by weight.
    Random,
    /// By the hash of a key, over a ring.
    RingHash {
        /// What is hashed.
        hash: ConsistentHash,
        /// Points on the ring, at least: 1 to 8,388,608.
        minimum_size: NonZeroU32,
        /// Points on the ring, at most.
        maximum_size: NonZeroU32,
    },
    /// By the hash of a key, over a table (Maglev).
    Maglev {
        /// What is hashed.
        hash: ConsistentHash,
        /// Entries of the table: a prime up to 5,000,011.
        table_size: NonZeroU32,
    },
}

impl Algorithm {
    /// [`Self::PeakEwma`] with its defaults.
    pub const PEAK_EWMA: Self = Self::PeakEwma {
        decay: Duration::from_secs(10),
        default_rtt: Duration::from_millis(30),
    };

    /// Whether the weights of endpoints count.
    pub fn is_weighted(&self) -> bool {
        match self {
            Self::WeightedRoundRobin
            | Self::Random
            | Self::RingHash { .. }
            | Self::Maglev { .. } => true,
            Self::PeakEwma { .. } | Self::LeastRequest | Self::RoundRobin => false,
        }
    }

    /// What is hashed, if anything is.
    pub fn hash(&self) -> Option<&ConsistentHash> {
        match self {
            Self::RingHash { hash, .. } | Self::Maglev { hash, .. } => Some(hash),
            Self::PeakEwma { .. }
            | Self::LeastRequest
            | Self::RoundRobin
            | Self::WeightedRoundRobin
            | Self::Random => None,
        }
    }
}

/// What a consistent hash is made of, and how far it binds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsistentHash {
    /// What is hashed. A request without it goes anywhere.
    pub key: HashKey,
    /// No endpoint gets more than this many percent of the mean load, 101 or more: what is above goes to the next.
    /// Absent: no bound.
    pub bounded_load: Option<NonZeroU32>,
}

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HashKey {
    /// The value of a header, by its name in lower case.
    Header(Arc<str>),
    /// The value of a cookie.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// A request without it is given one, for so long; zero: for the session. Absent: it is not.
        ttl: Option<Duration>,
        /// The path of a cookie that is given.
        path: Option<Arc<str>>,
    },
    /// The value of a query parameter.
    QueryParameter(Arc<str>),
    /// The address of the caller.
    SourceAddress,
}

/// How an endpoint that is new comes to its full share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlowStart {
    /// How long that takes.
    pub window: Duration,
    /// The exponent of the growth; 1 is linear.
    pub aggression: Factor,
    /// What it begins with.
    pub minimum: Share,
}

/// Whether endpoints of the caller's zone are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Zone {
    /// Zones play no part.
    Off,
    /// Own zone first; others take, in proportion, what it lacks.
    Prefer,
    /// Own zone only, unless it has no endpoint at all.
    Strict,
}
