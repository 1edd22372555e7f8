//! How an update changes a world and its indices.

use super::{
    Change, EndpointSlice, Kind, Object, ObjectKey, ObjectRef, Update, World,
    map::SharedMap,
    policy::TrafficPolicy,
    route::{ReferenceGrant, Route, RouteRef},
};
use std::{collections::BTreeSet, hash::Hash, net::IpAddr, sync::Arc};

/// Who is at, on or for something.
pub(super) type Index<K, V> = SharedMap<K, Arc<BTreeSet<V>>>;

impl World {
    /// Applies an update, and notes in `change` what it changed: nothing, if it says what is known.
    pub fn apply(&mut self, update: Update, change: &mut Change) {
        match update {
            Update::Set(object) => self.set(object, change),
            Update::Remove(reference) => self.remove(&reference, change),
        }
    }

    /// Sets the roots of the trust domain, as PEM.
    pub fn set_roots(&mut self, roots: Arc<str>, change: &mut Change) {
        if self.roots.as_ref() != Some(&roots) {
            self.roots = Some(roots);
            change.roots = true;
        }
    }

    fn set(&mut self, object: Object, change: &mut Change) {
        match object {
            Object::Namespace(namespace) => {
                if self.namespaces.get(&namespace.name) != Some(&namespace) {
                    change.namespaces.insert(namespace.name.clone());
                    self.namespaces.insert(namespace.name.clone(), namespace);
                }
            }
            Object::Service(service) => {
                let key = service.key.clone();
                if self.services.get(&key) != Some(&service) {
                    let addresses = service.addresses.clone();
                    let old = self.services.insert(key.clone(), service);
                    let old = old.map(|old| old.addresses.clone()).unwrap_or_default();
                    reindex(&mut self.services_at, &key, old, addresses);
                    change.services.insert(key);
                }
            }
            Object::EndpointSlice(slice) => {
                if self.slices.get(&slice.key) != Some(&slice) {
                    self.replace_slice(slice.key.clone(), Some(slice), change);
                }
            }
            Object::Workload(workload) => {
                let key = workload.key.clone();
                if self.workloads.get(&key) != Some(&workload) {
                    let addresses = workload.addresses.clone();
                    let old = self.workloads.insert(key.clone(), workload);
                    let old = old.map(|old| old.addresses.clone()).unwrap_or_default();
                    reindex(&mut self.workloads_at, &key, old, addresses);
                    change.workloads.insert(key);
                }
            }
            Object::Mesh(mesh) => {
                change.mesh |= self.mesh != mesh;
                self.mesh = mesh;
            }
            Object::TrafficPolicy(policy) => {
                if self.policies.get(&policy.key) != Some(&policy) {
                    self.replace_policy(policy.key.clone(), Some(policy), change);
                }
            }
            Object::Route(route) => {
                if self.routes.get(&route.reference) != Some(&route) {
                    self.replace_route(route.reference.clone(), Some(route), change);
                }
            }
            Object::ReferenceGrant(grant) => {
                if self.grants.get(&grant.key) != Some(&grant) {
                    self.replace_grant(grant.key.clone(), Some(grant), change);
                }
            }
        }
    }

    fn remove(&mut self, reference: &ObjectRef, change: &mut Change) {
        let key = &reference.key;
        match reference.kind {
            Kind::Namespace => {
                if self.namespaces.remove(&key.name).is_some() {
                    change.namespaces.insert(key.name.clone());
                }
            }
            Kind::Service => {
                if let Some(old) = self.services.remove(key) {
                    reindex(&mut self.services_at, key, old.addresses.clone(), []);
                    change.services.insert(key.clone());
                }
            }
            Kind::EndpointSlice => self.replace_slice(key.clone(), None, change),
            Kind::Workload => {
                if let Some(old) = self.workloads.remove(key) {
                    reindex(&mut self.workloads_at, key, old.addresses.clone(), []);
                    change.workloads.insert(key.clone());
                }
            }
            Kind::Mesh => {
                let default = Arc::default();
                change.mesh |= self.mesh != default;
                self.mesh = default;
            }
            Kind::TrafficPolicy => self.replace_policy(key.clone(), None, change),
            Kind::Route(kind) => {
                let route = RouteRef {
                    kind,
                    key: key.clone(),
                };
                self.replace_route(route, None, change);
            }
            Kind::ReferenceGrant => self.replace_grant(key.clone(), None, change),
        }
    }

    /// Puts a slice in the place of the one of the same name, which may have been of another service.
    fn replace_slice(
        &mut self,
        key: ObjectKey,
        new: Option<Arc<EndpointSlice>>,
        change: &mut Change,
    ) {
        let old = match &new {
            Some(new) => self.slices.insert(key.clone(), new.clone()),
            None => self.slices.remove(&key),
        };
        let services: BTreeSet<_> = [&old, &new]
            .into_iter()
            .flatten()
            .map(|slice| slice.service_key())
            .collect();
        for service in services {
            let before = self.endpoint_addresses(&service);
            let slice = new.as_ref().filter(|new| new.service_key() == service);
            self.slices_of.update(
                service.clone(),
                |slices| {
                    let slices = Arc::make_mut(slices);
                    match slice {
                        Some(slice) => slices.insert(key.clone(), slice.clone()),
                        None => slices.remove(&key),
                    };
                },
                |slices| slices.is_empty(),
            );
            let after = self.endpoint_addresses(&service);
            reindex(&mut self.services_behind, &service, before, after);
            change.endpoints.insert(service);
        }
    }

    fn replace_policy(
        &mut self,
        key: ObjectKey,
        new: Option<Arc<TrafficPolicy>>,
        change: &mut Change,
    ) {
        let old = replace(&mut self.policies, &key, new.clone());
        let entries = |policy: &Option<Arc<TrafficPolicy>>| -> Vec<_> {
            let policy = policy.iter();
            policy
                .flat_map(|policy| {
                    let value = (policy.created, policy.key.clone());
                    policy
                        .targets
                        .iter()
                        .map(move |target| (target.clone(), value.clone()))
                })
                .collect()
        };
        reindex_pairs(&mut self.policies_on, entries(&old), entries(&new));
        let services = |policy: &Option<Arc<TrafficPolicy>>| -> Vec<_> {
            let mirrors = policy.iter().filter_map(|p| p.settings.mirror.as_ref());
            mirrors
                .map(|mirror| (mirror.backend.service.clone(), key.clone()))
                .collect()
        };
        reindex_pairs(&mut self.policies_to, services(&old), services(&new));
        if old.is_some() || new.is_some() {
            change.policies.insert(key);
        }
    }

    fn replace_route(&mut self, key: RouteRef, new: Option<Arc<Route>>, change: &mut Change) {
        let old = replace(&mut self.routes, &key, new.clone());
        let parents = |route: &Option<Arc<Route>>| -> Vec<_> {
            let parents = route.iter().flat_map(|route| &route.parents);
            parents
                .map(|parent| (parent.service.clone(), key.clone()))
                .collect()
        };
        reindex_pairs(&mut self.routes_of, parents(&old), parents(&new));
        let services = |route: &Option<Arc<Route>>| -> Vec<_> {
            let services = route.iter().flat_map(|route| route.services());
            services
                .map(|service| (service.service.clone(), key.clone()))
                .collect()
        };
        reindex_pairs(&mut self.routes_to, services(&old), services(&new));
        if old.is_some() || new.is_some() {
            change.routes.insert(key);
        }
    }

    fn replace_grant(
        &mut self,
        key: ObjectKey,
        new: Option<Arc<ReferenceGrant>>,
        change: &mut Change,
    ) {
        let old = replace(&mut self.grants, &key, new.clone());
        let entry = |grant: &Option<_>| {
            let entry = (key.namespace.clone(), key.clone());
            Vec::from_iter(grant.is_some().then_some(entry))
        };
        reindex_pairs(&mut self.grants_in, entry(&old), entry(&new));
        if old.is_some() || new.is_some() {
            change.grants.insert(key.namespace);
        }
    }

    fn endpoint_addresses(&self, service: &ObjectKey) -> BTreeSet<IpAddr> {
        self.slices(service)
            .flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.address))
            .collect()
    }
}

/// Puts an object in the place of the one of the same name, and gives that.
fn replace<K: Hash + Eq + Clone, V: Clone>(
    map: &mut SharedMap<K, V>,
    key: &K,
    new: Option<V>,
) -> Option<V> {
    match new {
        Some(new) => map.insert(key.clone(), new),
        None => map.remove(key),
    }
}

/// Moves a key from the addresses it had to those it has.
fn reindex(
    index: &mut Index<IpAddr, ObjectKey>,
    key: &ObjectKey,
    old: impl IntoIterator<Item = IpAddr>,
    new: impl IntoIterator<Item = IpAddr>,
) {
    let entry = |address| (address, key.clone());
    reindex_pairs(
        index,
        old.into_iter().map(entry),
        new.into_iter().map(entry),
    );
}

/// Takes entries out of an index and puts others in.
fn reindex_pairs<K: Hash + Eq + Ord + Clone, V: Ord + Clone>(
    index: &mut Index<K, V>,
    old: impl IntoIterator<Item = (K, V)>,
    new: impl IntoIterator<Item = (K, V)>,
) {
    let old: BTreeSet<_> = old.into_iter().collect();
    let new: BTreeSet<_> = new.into_iter().collect();
    for entry in old.symmetric_difference(&new) {
        let (key, value) = entry;
        index.update(
            key.clone(),
            |values| {
                let values = Arc::make_mut(values);
                if new.contains(entry) {
                    values.insert(value.clone());
                } else {
                    values.remove(value);
                }
            },
            |values| values.is_empty(),
        );
    }
}
