//! Maglev: a table of indices in which every endpoint has its share of places, at which the hash of a request looks.
//! An endpoint that comes or goes moves little more than the requests of its own places.

use std::net::SocketAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The lookup table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", section 3.4),
/// with weights as Envoy has them.
#[derive(Debug)]
pub(super) struct Maglev {
    table: Box<[u32]>,
}

/// The order in which an endpoint would like to have the places.
struct Wishes {
    owner: u32,
    weight: u64,
    next: u64,
    skip: u64,
    /// Has its turn when the sum of its weights has come so far.
    due: u64,
}

const FREE: u32 = u32::MAX;

impl Maglev {
    /// A table of `size` places, which is a prime.
    pub(super) fn new(endpoints: &[(SocketAddr, u32)], size: u64) -> Self {
        if endpoints.is_empty() {
            return Self {
                table: Box::default(),
            };
        }
        let mut wishes: Vec<_> = (0..)
            .zip(endpoints)
            .map(|(owner, &(address, weight))| {
                let name = address.to_string();
                let hash = |seed| xxh3_64_with_seed(name.as_bytes(), seed);
                Wishes {
                    owner,
                    weight: weight.into(),
                    next: hash(0) % size,
                    // Prime to the size, so that every place comes in turn.
                    skip: hash(1) % (size - 1) + 1,
                    due: 0,
                }
            })
            .collect();
        // Who chooses first must not depend on the order in which endpoints were told.
        wishes.sort_unstable_by_key(|wish| endpoints[wish.owner as usize].0);
        let heaviest = wishes.iter().map(|wish| wish.weight).max().unwrap_or(1);

        let mut table = vec![FREE; size as usize].into_boxed_slice();
        let mut free = size;
        let mut round = 0;
        while free > 0 {
            round += 1;
            for wish in &mut wishes {
                if free == 0 || round * wish.weight <= wish.due {
                    continue;
                }
                wish.due += heaviest;
                while table[wish.next as usize] != FREE {
                    wish.next = (wish.next + wish.skip) % size;
                }
                table[wish.next as usize] = wish.owner;
                free -= 1;
            }
        }
        Self { table }
    }

    /// The owners of all places, from the one that a hash belongs to onwards.
    pub(super) fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = hash
            .checked_rem(self.table.len() as u64)
            .unwrap_or_default();
        let (before, after) = self.table.split_at(start as usize);
        after.iter().chain(before).map(|&owner| owner as usize)
    }
}
