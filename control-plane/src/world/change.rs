//! What differs between two worlds.

use super::{object::ObjectKey, route::RouteRef};
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// What changed from one world to a later one, and since when it has been known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When the oldest of the changes became known to the control plane.
    pub at: Instant,
    /// Services themselves: ports, addresses, existence.
    pub services: BTreeSet<ObjectKey>,
    /// Services whose endpoint slices changed.
    pub endpoints: BTreeSet<ObjectKey>,
    /// Workloads.
    pub workloads: BTreeSet<ObjectKey>,
    /// Namespaces.
    pub namespaces: BTreeSet<Arc<str>>,
    /// Traffic policies. What is about their targets may be other than before.
    pub policies: BTreeSet<ObjectKey>,
    /// Routes. What is about their parents may be other than before.
    pub routes: BTreeSet<RouteRef>,
    /// Namespaces whose reference grants changed. References to their services may be other than before.
    pub grants: BTreeSet<Arc<str>>,
    /// The settings of the mesh.
    pub mesh: bool,
    /// The roots of the trust domain.
    pub roots: bool,
}

impl Change {
    /// Nothing, as of an instant.
    pub fn none(at: Instant) -> Self {
        Self {
            at,
            services: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            workloads: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            policies: BTreeSet::new(),
            routes: BTreeSet::new(),
            grants: BTreeSet::new(),
            mesh: false,
            roots: false,
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::none(self.at)
    }

    /// Adds a later change.
    pub fn merge(&mut self, later: &Self) {
        let Self {
            at,
            services,
            endpoints,
            workloads,
            namespaces,
            policies,
            routes,
            grants,
            mesh,
            roots,
        } = later;
        self.at = self.at.min(*at);
        self.services.extend(services.iter().cloned());
        self.endpoints.extend(endpoints.iter().cloned());
        self.workloads.extend(workloads.iter().cloned());
        self.namespaces.extend(namespaces.iter().cloned());
        self.policies.extend(policies.iter().cloned());
        self.routes.extend(routes.iter().cloned());
        self.grants.extend(grants.iter().cloned());
        self.mesh |= mesh;
        self.roots |= roots;
    }
}
