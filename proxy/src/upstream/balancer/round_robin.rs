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

    /// The index of the usable endpoint whose turn it is. After a change of the endpoints the turns go on from
    /// there.
    pub(crate) fn pick<E>(
        &mut self,
        endpoints: &[E],
        usable: impl Fn(&E) -> bool,
    ) -> Option<usize> {
        let mut index = self.next.checked_rem(endpoints.len())?;
        for _ in 0..endpoints.len() {
            let turn = index;
            index += 1;
            self.next = index;
            if usable(&endpoints[turn]) {
                return Some(turn);
            }
            if index == endpoints.len() {
                index = 0;
            }
        }
        None
    }
}
