//! The counters of outbound edges, found without building their key for every request.

use crate::{
    exchange::Known,
    snapshot::{Cluster, Route, WorkloadName},
    telemetry::{self, Direction, EdgeKey},
    upstream::LiveEndpoint,
};
use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    rc::Rc,
    sync::Arc,
};

/// The edges that a worker has used lately, by route and endpoint.
#[derive(Debug)]
pub(crate) struct Edges {
    telemetry: telemetry::Worker,
    source: WorkloadName,
    known: RefCell<HashMap<Key, Entry, BuildHasherDefault<PointerHasher>>>,
}

/// A route and, as they are never in one place, either the endpoint that answers or the backend that was chosen.
type Key = (*const Route, *const ());

/// Holds what the pointers of its key point to, so that they can't come to mean something else.
#[derive(Debug)]
struct Entry {
    known: Rc<Known>,
    _route: Arc<Route>,
    _endpoint: Option<Rc<LiveEndpoint>>,
}

impl Edges {
    /// Edges that begin at `source`, counted by this worker.
    pub(crate) fn new(telemetry: telemetry::Worker, source: WorkloadName) -> Self {
        Self {
            telemetry,
            source,
            known: RefCell::default(),
        }
    }

    /// The edge of a request on `route` that `endpoint` of its backend answers, if one was chosen.
    pub(crate) fn request(
        &self,
        route: &Arc<Route>,
        backend: usize,
        endpoint: Option<&Rc<LiveEndpoint>>,
    ) -> Rc<Known> {
        let answers = match endpoint {
            Some(endpoint) => Rc::as_ptr(endpoint).cast(),
            None => match route.backend(backend) {
                Some(backend) => std::ptr::from_ref(backend).cast(),
                None => std::ptr::null(),
            },
        };
        let key = (Arc::as_ptr(route), answers);
        if let Some(entry) = self.known.borrow().get(&key) {
            return entry.known.clone();
        }
        let cluster = route.backend(backend).map(|backend| &*backend.cluster);
        let known = Rc::new(self.resolve(&route.name, cluster, endpoint));
        let entry = Entry {
            known: known.clone(),
            _route: route.clone(),
            _endpoint: endpoint.cloned(),
        };
        self.known.borrow_mut().insert(key, entry);
        known
    }

    /// The edge of an opaque connection.
    pub(crate) fn tcp(&self, cluster: &Cluster, endpoint: Option<&Rc<LiveEndpoint>>) -> Known {
        self.resolve(&"tcp".into(), Some(cluster), endpoint)
    }

    /// The edge of what goes nowhere that the mesh knows.
    pub(crate) fn unknown(&self, route: &str) -> Known {
        let route: Arc<str> = route.into();
        Known {
            edge: self.telemetry.edge(&EdgeKey {
                direction: Direction::Outbound,
                source: self.source.clone(),
                destination: WorkloadName::unknown(),
                service: "unknown".into(),
                route: route.clone(),
                mtls: false,
            }),
            route,
            destination: WorkloadName::unknown(),
            peer: None,
            endpoint: None,
        }
    }

    /// Forgets what was looked up. Whoever still counts keeps its own hold.
    pub(crate) fn release(&self) {
        self.known.borrow_mut().clear();
    }

    fn resolve(
        &self,
        route: &Arc<str>,
        cluster: Option<&Cluster>,
        endpoint: Option<&Rc<LiveEndpoint>>,
    ) -> Known {
        let (service, namespace) = match cluster {
            Some(cluster) => (cluster.service.clone(), cluster.namespace.clone()),
            None => ("unknown".into(), "unknown".into()),
        };
        let destination = match endpoint {
            Some(endpoint) => endpoint.config().workload.clone(),
            None => WorkloadName {
                name: "unknown".into(),
                namespace,
            },
        };
        let peer = endpoint.and_then(|endpoint| endpoint.identity().cloned());
        Known {
            edge: self.telemetry.edge(&EdgeKey {
                direction: Direction::Outbound,
                source: self.source.clone(),
                destination: destination.clone(),
                service,
                route: route.clone(),
                mtls: peer.is_some(),
            }),
            route: route.clone(),
            destination,
            peer,
            endpoint: endpoint.map(|endpoint| endpoint.address()),
        }
    }
}

/// Addresses need no defence against collisions, which the standard hasher pays for with every request.
#[derive(Debug, Default)]
struct PointerHasher(u64);

impl Hasher for PointerHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_usize(usize::from(*byte));
        }
    }

    fn write_usize(&mut self, address: usize) {
        // Fibonacci hashing: the high bits, by which the map tells apart what shares a bucket, depend on all.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0.rotate_left(26) ^ address as u64).wrapping_mul(GOLDEN);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}
