//! What the names of resources mean in a world, and which names a service has.

use crate::world::{
    Endpoint, ObjectKey, PortPolicy, Service, ServicePort, Workload, World, policy::ServiceRef,
};
use std::{net::SocketAddr, sync::Arc};
use weft_xds_proto::names::{address, authority, service_host};

/// The names of the resources of a service port.
pub(super) struct ServiceNames {
    /// Of its cluster, endpoints and routes: the fully qualified authority.
    pub(super) canonical: Arc<str>,
    /// Of its listeners besides: `user.demo.svc:80`, `user.demo:80`.
    short: [Arc<str>; 2],
    /// Of its listeners, too: `10.96.3.4:80`.
    addresses: Vec<Arc<str>>,
}

impl ServiceNames {
    /// Every name that its listener has.
    pub(super) fn listeners(&self) -> impl Iterator<Item = Arc<str>> {
        std::iter::once(&self.canonical)
            .chain(&self.short)
            .chain(&self.addresses)
            .cloned()
    }
}

pub(super) fn service_names(world: &World, service: &Service, port: &ServicePort) -> ServiceNames {
    ServiceNames {
        canonical: canonical(world, service, port),
        short: short_hosts(service).map(|host| authority(&host, port.port).into()),
        addresses: service
            .addresses
            .iter()
            .map(|ip| address(SocketAddr::new(*ip, port.port)).into())
            .collect(),
    }
}

/// What a service is called for short: `user.demo.svc`, `user.demo`.
pub(super) fn short_hosts(service: &Service) -> [String; 2] {
    let ObjectKey { namespace, name } = &service.key;
    [
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}"),
    ]
}

/// The name that the cluster, endpoints and routes of a service port share.
pub(super) fn canonical(world: &World, service: &Service, port: &ServicePort) -> Arc<str> {
    let ObjectKey { namespace, name } = &service.key;
    authority(
        &service_host(name, namespace, world.cluster_domain()),
        port.port,
    )
    .into()
}

/// The name that the cluster of a service port has that something else names.
pub(super) fn referred(world: &World, reference: &ServiceRef) -> Arc<str> {
    let ObjectKey { namespace, name } = &reference.service;
    let host = service_host(name, namespace, world.cluster_domain());
    authority(&host, reference.port.get()).into()
}

/// What a name of a listener stands for.
pub(super) enum Destination<'a> {
    /// A port of a service.
    Service(&'a Arc<Service>, &'a ServicePort),
    /// A port of one workload, whether declared or not.
    Workload(&'a Arc<Workload>, SocketAddr),
}

impl Destination<'_> {
    /// The name of its cluster, endpoints and routes.
    pub(super) fn cluster(&self, world: &World) -> Arc<str> {
        match self {
            Self::Service(service, port) => canonical(world, service, port),
            Self::Workload(_, at) => address(*at).into(),
        }
    }

    /// What is in force for calls to it. A headless service is called by the addresses of its workloads, which for
    /// that reason have its policy; other services are called by their own, and their workloads have the mesh's.
    pub(super) fn policy(&self, world: &World) -> PortPolicy {
        let front = match self {
            Self::Service(service, port) => Some((*service, *port)),
            Self::Workload(workload, address) => headless_front(world, workload, address.port()),
        };
        match front {
            Some((service, port)) => world.policy(service, port),
            None => world.default_policy(),
        }
    }

    /// Where it is served.
    pub(super) fn endpoints(&self, world: &World) -> Vec<Endpoint> {
        match self {
            Self::Service(service, port) => world.endpoints(service, port),
            Self::Workload(workload, address) => vec![Endpoint {
                address: *address,
                workload: Some(Arc::clone(workload)),
                zone: workload.zone.clone(),
            }],
        }
    }
}

/// The only headless service in front of a port of a workload.
fn headless_front<'a>(
    world: &'a World,
    workload: &Workload,
    port: u16,
) -> Option<(&'a Arc<Service>, &'a ServicePort)> {
    let fronts = world.fronts(workload).remove(&port)?;
    let mut headless = fronts
        .into_iter()
        .filter(|(service, _)| service.addresses.is_empty());
    headless.next().filter(|_| headless.next().is_none())
}

/// The destination that a listener of this name leads to.
pub(super) fn listener<'a>(world: &'a World, name: &str) -> Option<Destination<'a>> {
    if let Some(address) = parse_address(name) {
        return match world.service_at(address) {
            Some((service, port)) => Some(Destination::Service(service, port)),
            None => workload(world, address),
        };
    }
    let (host, port) = parse_authority(name)?;
    // `user.svc` may be short for nothing or name the service `user` of a namespace `svc`.
    let suffix = format!(".svc.{}", world.cluster_domain());
    [suffix.as_str(), ".svc", ""]
        .iter()
        .filter_map(|suffix| host.strip_suffix(suffix))
        .find_map(|host| {
            let service = service_of_host(world, host)?;
            Some(Destination::Service(service, service.port(port)?))
        })
}

/// The destination that a route, cluster or endpoints of this name belong to.
pub(super) fn cluster<'a>(world: &'a World, name: &str) -> Option<Destination<'a>> {
    if let Some(address) = parse_address(name) {
        return workload(world, address);
    }
    let (host, port) = parse_authority(name)?;
    let host = host
        .strip_suffix(&**world.cluster_domain())?
        .strip_suffix(".svc.")?;
    let service = service_of_host(world, host)?;
    Some(Destination::Service(service, service.port(port)?))
}

/// The workload that the inbound listener of this name belongs to.
pub(super) fn inbound<'a>(world: &'a World, name: &str) -> Option<&'a Arc<Workload>> {
    let (namespace, pod) = name.strip_prefix("inbound/")?.split_once('/')?;
    world.workload(&ObjectKey::new(namespace, pod))
}

fn workload(world: &World, address: SocketAddr) -> Option<Destination<'_>> {
    let workload = world.workload_at(address)?;
    Some(Destination::Workload(workload, address))
}

/// Takes a name in its one form only: a second form would be a second resource with live state of its own.
fn parse_address(name: &str) -> Option<SocketAddr> {
    let parsed: SocketAddr = name.parse().ok()?;
    (address(parsed) == name).then_some(parsed)
}

fn parse_authority(name: &str) -> Option<(&str, u16)> {
    let (host, port) = name.rsplit_once(':')?;
    let number: u16 = port.parse().ok()?;
    (number.to_string() == port).then_some((host, number))
}

fn service_of_host<'a>(world: &'a World, host: &str) -> Option<&'a Arc<Service>> {
    let (service, namespace) = host.split_once('.')?;
    world.service(&ObjectKey::new(namespace, service))
}
