//! Round robin: every endpoint in turn.

/// The turn of a round robin.
#[derive(Debug)]
pub(crate) struct RoundRobin {
    next: usize,
}

impl RoundRobin {
    /// Begins with any endpoint, so that proxies started together do not all call the same one.
    pub(crate) fn starting_at(random: u64) -> Self {
        // The low half: the whole would be within one step of overflow once in 2^64 / len starts.
        Self {
            next: random as u32 as usize,
        }
    }

    /// The index whose turn it is, of `len`. After a change of the endpoints the turns go on from there.
    pub(crate) fn pick(&mut self, len: usize) -> Option<usize> {
        let index = self.next.checked_rem(len)?;
        self.next = index + 1;
        Some(index)
    }
}
