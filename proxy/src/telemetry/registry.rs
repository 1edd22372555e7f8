//! Where the counters of all workers are found at a scrape.

use super::{
    connections::{Connections, MergedConnections},
    edge::{Direction, Edge, EdgeKey, MergedEdge},
    mirrors::{Mirrored, Mirrors},
};
use crate::snapshot::WorkloadName;
use std::{
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Edges kept at most, over all workers. What comes after is counted under one edge named `overflow`.
pub const DEFAULT_MAX_EDGES: NonZeroUsize = NonZeroUsize::new(2_000).expect("2000 is not zero");
/// How long an edge nobody uses is still shown.
pub const DEFAULT_EDGE_IDLE: Duration = Duration::from_secs(15 * 60);

/// All counters of the proxy. Cloning shares them.
#[derive(Debug, Clone)]
pub struct Registry(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max_edges: NonZeroUsize,
    edge_idle: Duration,
    workers: Vec<Arc<Shard>>,
    seen: Mutex<HashMap<EdgeKey, Seen>>,
}

/// What the last scrape saw of an edge, to notice that it is idle.
#[derive(Debug)]
struct Seen {
    edge: MergedEdge,
    since: Instant,
}

#[derive(Debug, Default)]
struct Shard {
    edges: Mutex<HashMap<EdgeKey, Arc<Edge>>>,
    connections: [Connections; Direction::ALL.len()],
    mirrors: Mirrors,
}

/// The counters of one worker.
#[derive(Debug, Clone)]
pub struct Worker {
    shard: Arc<Shard>,
    max_edges: usize,
}

impl Registry {
    /// A registry for so many workers.
    pub fn new(workers: NonZeroUsize, max_edges: NonZeroUsize, edge_idle: Duration) -> Self {
        Self(Arc::new(Inner {
            max_edges,
            edge_idle,
            workers: (0..workers.get()).map(|_| Arc::default()).collect(),
            seen: Mutex::default(),
        }))
    }

    /// The counters of a worker, by its number.
    pub fn worker(&self, index: usize) -> Worker {
        Worker {
            shard: Arc::clone(&self.0.workers[index]),
            max_edges: self.0.max_edges.get().div_ceil(self.0.workers.len()),
        }
    }

    /// The connections of a direction over all workers.
    pub fn connections(&self, direction: Direction) -> MergedConnections {
        let mut merged = MergedConnections::default();
        for shard in &self.0.workers {
            shard.connections[direction as usize].merge_into(&mut merged);
        }
        merged
    }

    /// How many requests that were to be mirrored ended so, over all workers.
    pub fn mirrored(&self, mirrored: Mirrored) -> u64 {
        let workers = self.0.workers.iter();
        workers.map(|shard| shard.mirrors.read(mirrored)).sum()
    }

    /// Every edge over all workers. Edges that did not move for the idle time, and that no worker holds,
    /// are forgotten by all workers at once: one worker alone would make the sum go backwards.
    pub fn edges(&self, now: Instant) -> Vec<(EdgeKey, MergedEdge)> {
        let mut shards: Vec<_> = self.0.workers.iter().map(|w| lock(&w.edges)).collect();
        let mut merged: BTreeMap<usize, (EdgeKey, MergedEdge, bool)> = BTreeMap::new();
        let mut position: HashMap<EdgeKey, usize> = HashMap::new();
        for shard in &shards {
            for (key, edge) in shard.iter() {
                let next = position.len();
                let at = *position.entry(key.clone()).or_insert(next);
                let (_, sum, held) = merged
                    .entry(at)
                    .or_insert_with(|| (key.clone(), MergedEdge::default(), false));
                edge.merge_into(sum);
                *held |= Arc::strong_count(edge) > 1;
            }
        }
        let mut seen = lock(&self.0.seen);
        seen.retain(|key, _| position.contains_key(key));
        let mut shown = Vec::with_capacity(merged.len());
        for (key, edge, held) in merged.into_values() {
            let last = seen.entry(key.clone()).or_insert_with(|| Seen {
                edge: MergedEdge::default(),
                since: now,
            });
            if held || last.edge != edge {
                *last = Seen {
                    edge: edge.clone(),
                    since: now,
                };
            } else if now.saturating_duration_since(last.since) >= self.0.edge_idle {
                seen.remove(&key);
                for shard in &mut shards {
                    shard.remove(&key);
                }
                continue;
            }
            shown.push((key, edge));
        }
        shown
    }
}

impl Worker {
    /// The counters of an edge. To be resolved once and kept, not per request.
    pub fn edge(&self, key: &EdgeKey) -> Arc<Edge> {
        let mut edges = lock(&self.shard.edges);
        if let Some(edge) = edges.get(key) {
            return Arc::clone(edge);
        }
        let key = if edges.len() < self.max_edges {
            key.clone()
        } else {
            overflow(key)
        };
        Arc::clone(edges.entry(key).or_default())
    }

    /// Counts a request that was to be mirrored.
    pub fn mirrored(&self, mirrored: Mirrored) {
        self.shard.mirrors.count(mirrored);
    }

    /// The counters of connections of a direction.
    pub fn connections(&self, direction: Direction) -> &Connections {
        &self.shard.connections[direction as usize]
    }
}

fn overflow(key: &EdgeKey) -> EdgeKey {
    let name: Arc<str> = "overflow".into();
    let workload = WorkloadName {
        name: Arc::clone(&name),
        namespace: Arc::clone(&name),
    };
    EdgeKey {
        direction: key.direction,
        source: workload.clone(),
        destination: workload,
        service: Arc::clone(&name),
        route: name,
        mtls: key.mtls,
    }
}

/// Counters have no invariant that a panic elsewhere could break.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(route: &str) -> EdgeKey {
        EdgeKey {
            direction: Direction::Outbound,
            source: WorkloadName::unknown(),
            destination: WorkloadName::unknown(),
            service: "user".into(),
            route: route.into(),
            mtls: true,
        }
    }

    fn registry(workers: usize, max_edges: usize) -> Registry {
        Registry::new(
            workers.try_into().unwrap(),
            max_edges.try_into().unwrap(),
            Duration::from_secs(60),
        )
    }

    #[test]
    fn a_scrape_sums_over_workers() {
        let registry = registry(2, 10);
        for worker in 0..2 {
            registry.worker(worker).edge(&key("a")).tcp_opened();
        }
        let edges = registry.edges(Instant::now());
        assert_eq!(edges.len(), 1);
        assert_eq!(edges[0].1.tcp_opened, 2);
    }

    #[test]
    fn an_idle_edge_is_forgotten_by_all_workers_at_once() {
        let registry = registry(2, 10);
        let start = Instant::now();
        registry.worker(0).edge(&key("a")).tcp_opened();
        let held = registry.worker(1).edge(&key("a"));
        registry.edges(start);
        let later = start + Duration::from_secs(120);
        assert_eq!(registry.edges(later).len(), 1, "a worker still holds it");
        drop(held);
        assert_eq!(registry.edges(later + Duration::from_secs(59)).len(), 1);
        assert_eq!(registry.edges(later + Duration::from_secs(60)).len(), 0);
    }

    #[test]
    fn edges_past_the_cap_are_counted_under_one_name() {
        let registry = registry(1, 2);
        for route in ["a", "b", "c", "d"] {
            registry.worker(0).edge(&key(route)).tcp_opened();
        }
        let edges = registry.edges(Instant::now());
        assert_eq!(edges.len(), 3);
        let overflow = edges.iter().find(|(key, _)| &*key.route == "overflow");
        assert_eq!(overflow.map(|(_, edge)| edge.tcp_opened), Some(2));
    }
}
