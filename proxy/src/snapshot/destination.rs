//! Destinations: what an application dialled, and everything needed to serve it.

use super::{Cluster, RouteTable};
use arc_swap::ArcSwap;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// One destination as the control plane configured it: a listener with its routes and clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct Destination {
    /// The name of its listener: an authority or an address.
    pub name: Arc<str>,
    /// What its connections speak.
    pub protocol: Protocol,
    /// Where HTTP requests go. Absent for an opaque destination.
    pub routes: Option<Arc<RouteTable>>,
    /// Where opaque connections go. Absent for a destination that is HTTP by declaration.
    pub tcp: Option<Arc<Cluster>>,
}

/// What the connections to a port speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2, told apart by the preface.
    Http,
    /// HTTP/2 with prior knowledge, which gRPC is too.
    Http2,
    /// Opaque bytes.
    Tcp,
    /// Not declared: detect.
    Detect,
}

/// A destination that workers hold on to: its configuration changes underneath, the handle stays.
#[derive(Debug)]
pub struct DestinationHandle {
    current: ArcSwap<Destination>,
    epoch: Instant,
    last_used: AtomicU64,
}

impl DestinationHandle {
    /// A handle in use as of now.
    pub fn new(destination: Destination) -> Self {
        Self {
            current: ArcSwap::from_pointee(destination),
            epoch: Instant::now(),
            last_used: AtomicU64::new(0),
        }
    }

    /// The configuration as of now. A request calls this once and keeps the answer to its end.
    pub fn load(&self) -> Arc<Destination> {
        self.current.load_full()
    }

    /// Replaces the configuration.
    pub fn store(&self, destination: Destination) {
        self.current.store(Arc::new(destination));
    }

    /// Notes that the destination is in use, in whole seconds. `now` is the worker's coarse clock.
    pub fn touch(&self, now: Instant) {
        let seconds = now.saturating_duration_since(self.epoch).as_secs();
        if self.last_used.load(Ordering::Relaxed) != seconds {
            self.last_used.store(seconds, Ordering::Relaxed);
        }
    }

    /// How long the destination has not been used.
    pub fn idle(&self, now: Instant) -> Duration {
        let last = Duration::from_secs(self.last_used.load(Ordering::Relaxed));
        now.saturating_duration_since(self.epoch + last)
    }
}
