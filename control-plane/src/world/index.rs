//! How an update changes a world and its indices.

use super::{
    Change, EndpointSlice, Kind, Object, ObjectKey, ObjectRef, Update, World, map::SharedMap,
};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

type Index = SharedMap<IpAddr, Arc<BTreeSet<ObjectKey>>>;

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

    fn endpoint_addresses(&self, service: &ObjectKey) -> BTreeSet<IpAddr> {
        self.slices(service)
            .flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.address))
            .collect()
    }
}

/// Moves a key from the addresses it had to those it has.
fn reindex(
    index: &mut Index,
    key: &ObjectKey,
    old: impl IntoIterator<Item = IpAddr>,
    new: impl IntoIterator<Item = IpAddr>,
) {
    let old: BTreeSet<_> = old.into_iter().collect();
    let new: BTreeSet<_> = new.into_iter().collect();
    for address in old.symmetric_difference(&new) {
        index.update(
            *address,
            |keys| {
                let keys = Arc::make_mut(keys);
                if new.contains(address) {
                    keys.insert(key.clone());
                } else {
                    keys.remove(key);
                }
            },
            |keys| keys.is_empty(),
        );
    }
}
