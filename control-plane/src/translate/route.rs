//! Routes: what becomes of the requests to a destination, by their host and by what they are.

mod change;
mod entry;
mod fault;
mod fit;
mod forward;
mod retry;

pub(super) use entry::rule_name;
pub(super) use fault::fault_filter;
pub(super) use fit::{authority_of, fit};

use super::{
    dialect::{Dialect, Form},
    name::{self, Destination, canonical, short_hosts},
    proto::limit,
};
use crate::world::{Protocol, Service, ServicePort, World, route::Hostname};
use entry::Entry;
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, VirtualHost as VirtualHostMessage, route::Action,
    route_action::ClusterSpecifier,
};
use std::{collections::BTreeMap, sync::Arc};
use weft_xds_proto::names::authority;

/// The name of Envoy's outbound listener and of its routes.
pub(super) const OUTBOUND: &str = "outbound";

/// The routes of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Routes {
    /// Its own name and its cluster's.
    name: Arc<str>,
    form: Form,
    hosts: Vec<VirtualHost>,
}

/// The routes of some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct VirtualHost {
    name: Arc<str>,
    domains: Vec<String>,
    /// In order: the first that fits a request counts. A request that none fits is answered with 404.
    entries: Vec<Entry>,
}

impl Routes {
    pub(super) fn plan(world: &World, dialect: &Dialect, name: &str) -> Option<Self> {
        let destination = name::cluster(world, name)?;
        let name = destination.cluster(world);
        let form = dialect.form();
        Some(Self {
            hosts: hosts(world, form, &destination, &name),
            name,
            form,
        })
    }

    pub(super) fn message(&self) -> RouteConfiguration {
        configuration(&self.name, &self.hosts, self.form)
    }
}

/// The routes of everything, for an Envoy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AllRoutes {
    hosts: Vec<VirtualHost>,
}

impl AllRoutes {
    pub(super) fn plan(world: &World, name: &str) -> Option<Self> {
        (name == OUTBOUND).then(|| Self {
            hosts: world
                .services()
                .into_iter()
                .flat_map(|service| hosts_of_service(world, service))
                .collect(),
        })
    }

    pub(super) fn message(&self) -> RouteConfiguration {
        configuration(OUTBOUND, &self.hosts, Form::Envoy)
    }
}

/// The routes of an inbound listener: everything to the application, which ends requests in its own time.
pub(super) fn to_local_cluster(cluster: &str) -> RouteConfiguration {
    let everything = Route {
        name: entry::DEFAULT.to_owned(),
        r#match: Some(fit::everything()),
        action: Some(Action::Route(RouteAction {
            timeout: limit(None),
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
            ..RouteAction::default()
        })),
        ..Route::default()
    };
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![VirtualHostMessage {
            name: cluster.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![everything],
            ..VirtualHostMessage::default()
        }],
        ..RouteConfiguration::default()
    }
}

fn configuration(name: &str, hosts: &[VirtualHost], form: Form) -> RouteConfiguration {
    let virtual_host = |host: &VirtualHost| VirtualHostMessage {
        name: host.name.to_string(),
        domains: host.domains.clone(),
        routes: host
            .entries
            .iter()
            .flat_map(|entry| entry.messages(form))
            .collect(),
        ..VirtualHostMessage::default()
    };
    RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: hosts.iter().map(virtual_host).collect(),
        ..RouteConfiguration::default()
    }
}

/// The virtual hosts of one destination. It is known by what was dialled: unless routes are for certain hosts only,
/// the Host header may say what it likes.
fn hosts(
    world: &World,
    form: Form,
    destination: &Destination<'_>,
    name: &Arc<str>,
) -> Vec<VirtualHost> {
    let everything = |entries| VirtualHost {
        name: name.clone(),
        domains: vec!["*".to_owned()],
        entries,
    };
    let Destination::Service(service, port) = *destination else {
        let policy = destination.policy(world).requests;
        return vec![everything(vec![Entry::everything(
            world, name, policy, None,
        )])];
    };
    // What a gRPC client calls a target by is the service itself.
    if form == Form::Grpc {
        let resolved = Resolved::of(world, service, port);
        return vec![everything(
            resolved.entries(resolved.position(host_of(name))),
        )];
    }
    let Resolved { hosts, .. } = Resolved::of(world, service, port);
    hosts
        .into_iter()
        .map(|(hostname, entries)| match hostname {
            None => everything(entries),
            Some(hostname) => VirtualHost {
                name: format!("{name}/{hostname}").into(),
                domains: vec![hostname.to_string()],
                entries,
            },
        })
        .collect()
}

/// The virtual hosts of a service, for an Envoy, which knows a service by the authority it is called by: one for each
/// port that may be HTTP, or several where routes tell apart the names that the service has.
///
/// Hosts of routes that are not names of the service are left out: it could take those of another one.
fn hosts_of_service(world: &World, service: &Service) -> Vec<VirtualHost> {
    let ports = || {
        service
            .ports
            .iter()
            .filter(|port| port.protocol != Protocol::Tcp)
    };
    // No domain may stand in two virtual hosts. Without a port, a host means port 80, as in a URL; a
    // service that does not have it is taken to mean its first.
    let without_port = service
        .port(80)
        .filter(|port| port.protocol != Protocol::Tcp)
        .or_else(|| ports().next());
    ports()
        .flat_map(|port| {
            let cluster = canonical(world, service, port);
            let resolved = Resolved::of(world, service, port);
            // By which of the hosts of routes the names are among.
            let mut names: BTreeMap<Option<usize>, Vec<String>> = BTreeMap::new();
            for host in [host_of(&cluster).to_owned()]
                .into_iter()
                .chain(short_hosts(service))
            {
                let names = names.entry(resolved.position(&host)).or_default();
                names.push(authority(&host, port.port));
                names.extend((Some(port) == without_port).then_some(host));
            }
            let entries = move |position| resolved.entries(position);
            names
                .into_iter()
                .map(move |(position, domains)| VirtualHost {
                    name: domains[0].as_str().into(),
                    domains,
                    entries: entries(position),
                })
        })
        .collect()
}

/// What becomes of requests to a port of a service, by host.
struct Resolved {
    /// As [`World::virtual_hosts`] orders them; `None` is for every other host.
    hosts: Vec<(Option<Hostname>, Vec<Entry>)>,
}

impl Resolved {
    fn of(world: &World, service: &Service, port: &ServicePort) -> Self {
        let hosts = world.virtual_hosts(service, port);
        if hosts.is_empty() {
            let name = canonical(world, service, port);
            let policy = world.policy(service, port);
            let hash = policy.algorithm.hash().map(|hash| hash.key.clone());
            let everything = Entry::everything(world, &name, policy.requests, hash);
            return Self {
                hosts: vec![(None, vec![everything])],
            };
        }
        let entry = |candidate| Entry::of(world, service, port, candidate);
        Self {
            hosts: hosts
                .iter()
                .map(|host| {
                    let entries = host.candidates.iter().map(entry).collect();
                    (host.hostname.clone(), entries)
                })
                .collect(),
        }
    }

    /// Where a host stands among [`Self::hosts`], if anywhere.
    fn position(&self, host: &str) -> Option<usize> {
        let host = Hostname {
            name: host.into(),
            wildcard: false,
        };
        self.hosts.iter().position(|(hostname, _)| match hostname {
            None => true,
            Some(hostname) => hostname.covers(&host),
        })
    }

    /// What becomes of requests to hosts at a position.
    fn entries(&self, position: Option<usize>) -> Vec<Entry> {
        position
            .map(|position| self.hosts[position].1.clone())
            .unwrap_or_default()
    }
}

/// The host of an authority that has a port.
fn host_of(authority: &str) -> &str {
    authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host)
}
