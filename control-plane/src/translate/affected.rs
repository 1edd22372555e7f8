//! Which resources a change may affect: a superset, so that the rest need not be looked at.

use super::name::service_names;
use crate::world::{Change, ObjectKey, Service, World};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};
use weft_xds_proto::{
    names::{self, ROOT_SECRET},
    resource::ResourceType,
};

/// The resources that a change may affect, in any dialect. What is not covered is as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// Every resource that exists.
    pub everything: bool,
    /// These, which may have come, changed or gone.
    pub names: BTreeSet<(ResourceType, Arc<str>)>,
    /// Those of every type named `<address>:<port>`, for any port.
    pub addresses: BTreeSet<IpAddr>,
}

impl Affected {
    /// Whether a resource may be affected.
    pub fn covers(&self, ty: ResourceType, name: &str) -> bool {
        self.everything
            || self.names.contains(&(ty, Arc::from(name)))
            || (!self.addresses.is_empty()
                && name.parse().is_ok_and(|address: std::net::SocketAddr| {
                    self.addresses.contains(&address.ip())
                }))
    }

    /// The entries of a map by resource that may be affected. Costs what is affected, not what is known,
    /// unless everything is.
    pub fn of<'a, V>(
        &'a self,
        known: &'a BTreeMap<(ResourceType, Arc<str>), V>,
    ) -> impl Iterator<Item = (&'a (ResourceType, Arc<str>), &'a V)> {
        let all = known.iter().filter(|_| self.everything);
        let partial = !self.everything;
        let named = self
            .names
            .iter()
            .filter(move |_| partial)
            .filter_map(|name| known.get_key_value(name));
        let addressed = self
            .addresses
            .iter()
            .filter(move |_| partial)
            .flat_map(|address| ResourceType::ALL.map(|ty| (ty, *address)))
            .flat_map(move |(ty, address)| {
                let prefix = address_prefix(address);
                known
                    .range((ty, prefix.clone())..)
                    .take_while(move |((found, name), _)| {
                        *found == ty && name.starts_with(&*prefix)
                    })
            })
            .filter(|(key, _)| !self.names.contains(*key));
        all.chain(named).chain(addressed)
    }

    fn add(&mut self, ty: ResourceType, name: &Arc<str>) {
        self.names.insert((ty, name.clone()));
    }
}

/// The resources that the change between two worlds may affect.
pub fn affected(old: &World, new: &World, change: &Change) -> Affected {
    let mut affected = Affected {
        everything: change.mesh,
        ..Affected::default()
    };
    if change.roots {
        affected.add(ResourceType::Secret, &ROOT_SECRET.into());
    }
    for world in [old, new] {
        for key in &change.services {
            if let Some(service) = world.service(key) {
                service_itself(world, service, &mut affected);
            }
            // What a service declares of its ports is what the workloads behind it expect.
            for address in world.slices(key).flat_map(|slice| &slice.endpoints) {
                at_address(world, address.address, &mut affected);
            }
        }
        for key in &change.endpoints {
            endpoints(world, key, &mut affected);
        }
        for key in &change.workloads {
            affected.add(
                ResourceType::Listener,
                &names::inbound(&key.namespace, &key.name).into(),
            );
            if let Some(workload) = world.workload(key) {
                for address in &workload.addresses {
                    affected.addresses.insert(*address);
                    for service in world.services_behind(*address) {
                        endpoints(world, service, &mut affected);
                    }
                }
            }
        }
        for namespace in &change.namespaces {
            for workload in world.workloads_in(namespace) {
                affected.add(
                    ResourceType::Listener,
                    &names::inbound(&workload.key.namespace, &workload.key.name).into(),
                );
            }
        }
    }
    for key in &change.endpoints {
        for address in moved(old, new, key) {
            for world in [old, new] {
                at_address(world, address, &mut affected);
            }
        }
    }
    affected
}

/// The resources of a service, as far as its endpoints do not decide them.
fn service_itself(world: &World, service: &Service, affected: &mut Affected) {
    for port in &service.ports {
        let names = service_names(world, service, port);
        for ty in [
            ResourceType::Cluster,
            ResourceType::Endpoints,
            ResourceType::Route,
        ] {
            affected.add(ty, &names.canonical);
        }
        for name in names.listeners() {
            affected.add(ResourceType::Listener, &name);
        }
    }
    affected.add(ResourceType::Route, &super::route::OUTBOUND.into());
}

/// The resources that the endpoints of a service decide. The cluster is among them as Envoy's holds the
/// identities of its endpoints.
fn endpoints(world: &World, key: &ObjectKey, affected: &mut Affected) {
    let Some(service) = world.service(key) else {
        return;
    };
    for port in &service.ports {
        let name = service_names(world, service, port).canonical;
        affected.add(ResourceType::Endpoints, &name);
        affected.add(ResourceType::Cluster, &name);
    }
}

/// The resources of whoever is at an address: the services in front of it declare its protocols.
fn at_address(world: &World, address: IpAddr, affected: &mut Affected) {
    for key in world.workload_keys_at(address) {
        affected.addresses.insert(address);
        affected.add(
            ResourceType::Listener,
            &names::inbound(&key.namespace, &key.name).into(),
        );
    }
}

/// The addresses that a service newly fronts, no longer fronts, or fronts with other ports.
fn moved(old: &World, new: &World, key: &ObjectKey) -> BTreeSet<IpAddr> {
    let fronted = |world: &World| -> BTreeSet<_> {
        world
            .slices(key)
            .flat_map(|slice| {
                slice.endpoints.iter().flat_map(|endpoint| {
                    slice
                        .ports
                        .iter()
                        .map(|port| (endpoint.address, endpoint.workload.clone(), port.clone()))
                })
            })
            .collect()
    };
    fronted(old)
        .symmetric_difference(&fronted(new))
        .map(|(address, ..)| *address)
        .collect()
}

/// What the names of all ports of an address begin with: `10.0.0.1:`, `[fd00::1]:`.
fn address_prefix(address: IpAddr) -> Arc<str> {
    match address.to_canonical() {
        IpAddr::V4(address) => format!("{address}:"),
        IpAddr::V6(address) => format!("[{address}]:"),
    }
    .into()
}
