//! Which resources a change may affect: a superset, so that the rest need not be looked at.

use super::{inbound::Limits, name::service_names};
use crate::world::{
    Change, ObjectKey, Service, World,
    policy::{Target, TrafficPolicy},
    route::Route,
};
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
    Terms::of(old, new, change).add_to(&mut affected, old, new);
    for key in &change.endpoints {
        for address in moved(old, new, key) {
            for world in [old, new] {
                at_address(world, address, &mut affected);
            }
        }
    }
    affected
}

/// The services whose terms may differ: what policies and routes say of calls to them.
#[derive(Default)]
struct Terms {
    /// Those that a policy is for.
    policies: BTreeSet<ObjectKey>,
    /// Those that a route is for, or whose requests go elsewhere than before, or otherwise.
    routes: BTreeSet<ObjectKey>,
}

impl Terms {
    fn of(old: &World, new: &World, change: &Change) -> Self {
        let mut terms = Self::default();
        for world in [old, new] {
            for key in &change.policies {
                if let Some(policy) = world.traffic_policy(key) {
                    terms.of_policy(world, policy);
                }
            }
            let routes = change.routes.iter();
            for route in routes.filter_map(|reference| world.route(reference)) {
                terms.of_route(route);
            }
            let granted = || {
                let services = world.services().into_iter().map(|service| &service.key);
                services.filter(|key| change.grants.contains(&key.namespace))
            };
            // Grants are rare, and without a change of one the services need not be gone through.
            let granted = (!change.grants.is_empty()).then(granted);
            for key in change.services.iter().chain(granted.into_iter().flatten()) {
                world.routes_to(key).for_each(|route| terms.of_route(route));
                let mirroring = world.policies_to(key);
                mirroring.for_each(|policy| terms.of_requests(world, policy));
            }
        }
        terms
    }

    fn of_policy(&mut self, world: &World, policy: &TrafficPolicy) {
        self.of_requests(world, policy);
        for target in &policy.targets {
            if let Target::Service { service, .. } = target {
                self.policies.insert(service.clone());
                // Routes say by what their backends' balancers hash.
                let routes = world.routes_to(service);
                routes.for_each(|route| self.of_route(route));
            }
        }
    }

    /// What a policy says of requests, not of connections and endpoints.
    fn of_requests(&mut self, world: &World, policy: &TrafficPolicy) {
        for target in &policy.targets {
            match target {
                Target::Service { service, .. } => {
                    self.routes.insert(service.clone());
                }
                Target::Route { route, .. } => {
                    let route = world.route(route).into_iter();
                    route.for_each(|route| self.of_route(route));
                }
            }
        }
    }

    fn of_route(&mut self, route: &Route) {
        let parents = route.parents.iter().map(|parent| &parent.service);
        self.routes.extend(parents.cloned());
    }

    fn add_to(&self, affected: &mut Affected, old: &World, new: &World) {
        for key in self.policies.union(&self.routes) {
            let limits_differ = limits(old, key) != limits(new, key);
            for world in [old, new] {
                let Some(service) = world.service(key) else {
                    continue;
                };
                routes(world, service, affected);
                if self.policies.contains(key) {
                    endpoints(world, key, affected);
                }
                // The addresses behind a headless service have its policy.
                if limits_differ || service.addresses.is_empty() {
                    for endpoint in world.slices(key).flat_map(|slice| &slice.endpoints) {
                        at_address(world, endpoint.address, affected);
                    }
                }
            }
        }
    }
}

/// What workloads behind a service limit because of it, by its ports.
fn limits(world: &World, key: &ObjectKey) -> Vec<Limits> {
    let service = world.service(key).into_iter();
    service
        .flat_map(|service| service.ports.iter().map(move |port| (service, port)))
        .map(|front| Limits::plan(world, &[front]))
        .collect()
}

/// The routes of a service.
fn routes(world: &World, service: &Service, affected: &mut Affected) {
    for port in &service.ports {
        let name = service_names(world, service, port).canonical;
        affected.add(ResourceType::Route, &name);
    }
    affected.add(ResourceType::Route, &super::route::OUTBOUND.into());
}

/// The resources of a service, as far as its endpoints do not decide them.
fn service_itself(world: &World, service: &Service, affected: &mut Affected) {
    for port in &service.ports {
        let names = service_names(world, service, port);
        for ty in [ResourceType::Cluster, ResourceType::Endpoints] {
            affected.add(ty, &names.canonical);
        }
        for name in names.listeners() {
            affected.add(ResourceType::Listener, &name);
        }
    }
    routes(world, service, affected);
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
        // A port of the workload is declared for all of its addresses by a slice that has one.
        let workload = world.workload(key).into_iter();
        affected
            .addresses
            .extend(workload.flat_map(|workload| workload.addresses.iter()));
        affected.add(
            ResourceType::Listener,
            &names::inbound(&key.namespace, &key.name).into(),
        );
    }
}

/// The addresses that a service newly fronts, no longer fronts, or fronts with other ports or in another zone.
fn moved(old: &World, new: &World, key: &ObjectKey) -> BTreeSet<IpAddr> {
    let fronted = |world: &World| -> BTreeSet<_> {
        world
            .slices(key)
            .flat_map(|slice| {
                slice.endpoints.iter().flat_map(|endpoint| {
                    let (workload, zone) = (&endpoint.workload, &endpoint.zone);
                    slice.ports.iter().map(move |port| {
                        (
                            endpoint.address,
                            workload.clone(),
                            zone.clone(),
                            port.clone(),
                        )
                    })
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
