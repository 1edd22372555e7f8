//! The last refusals, for whoever wonders why a proxy does not do what it was told.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use serde::Serialize;

/// How many are kept.
const KEPT: usize = 100;

/// One refusal of a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NackRecord {
    /// When it came, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The proxy's `node.id`.
    pub node: String,
    /// The type of the resources.
    pub resource_type: &'static str,
    /// The resources refused, with field and reason; empty when the client did not name them.
    pub resources: Vec<(String, String)>,
    /// What the client said.
    pub message: String,
}

/// The last refusals, oldest first. Clones share one list.
#[derive(Debug, Clone, Default)]
pub struct Nacks(Arc<Mutex<VecDeque<NackRecord>>>);

impl Nacks {
    /// All that are kept.
    pub fn list(&self) -> Vec<NackRecord> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().cloned().collect()
    }

    /// Keeps one more, at the cost of the oldest.
    pub(super) fn push(&self, record: NackRecord) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(record);
    }
}

/// Now, as records tell time.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
