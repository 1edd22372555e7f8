//! Routes: which cluster serves a request, and within which time.

use super::{
    name::{self, canonical, short_hosts},
    proto::limit,
};
use crate::world::{Protocol, Service, ServicePort, World};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
    route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use std::{sync::Arc, time::Duration};
use weft_xds_proto::names::authority;

/// The name of Envoy's outbound listener and of its routes.
pub(super) const OUTBOUND: &str = "outbound";

/// The routes of one destination.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Routes {
    /// Its own name and its cluster's.
    name: Arc<str>,
    timeout: Option<Duration>,
}

impl Routes {
    pub(super) fn plan(world: &World, name: &str) -> Option<Self> {
        Some(Self {
            name: name::cluster(world, name)?.cluster(world),
            timeout: world.mesh().request_timeout,
        })
    }

    pub(super) fn message(&self) -> RouteConfiguration {
        RouteConfiguration {
            name: self.name.to_string(),
            // The destination is known by what was dialled: the Host header may say what it likes.
            virtual_hosts: vec![virtual_host(&self.name, vec!["*".to_owned()], self.timeout)],
            ..RouteConfiguration::default()
        }
    }
}

/// The routes of everything, for an Envoy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AllRoutes {
    timeout: Option<Duration>,
    hosts: Vec<Host>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Host {
    cluster: Arc<str>,
    domains: Vec<String>,
}

impl AllRoutes {
    pub(super) fn plan(world: &World, name: &str) -> Option<Self> {
        (name == OUTBOUND).then(|| Self {
            timeout: world.mesh().request_timeout,
            hosts: world
                .services()
                .into_iter()
                .flat_map(|service| hosts(world, service))
                .collect(),
        })
    }

    pub(super) fn message(&self) -> RouteConfiguration {
        RouteConfiguration {
            name: OUTBOUND.to_owned(),
            virtual_hosts: self
                .hosts
                .iter()
                .map(|host| virtual_host(&host.cluster, host.domains.clone(), self.timeout))
                .collect(),
            ..RouteConfiguration::default()
        }
    }
}

/// The routes of an inbound listener: everything to the application, which ends requests in its own time.
pub(super) fn to_local_cluster(cluster: &str) -> RouteConfiguration {
    RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![virtual_host(cluster, vec!["*".to_owned()], None)],
        ..RouteConfiguration::default()
    }
}

/// The virtual hosts of a service, one per port that may be HTTP.
fn hosts(world: &World, service: &Service) -> Vec<Host> {
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
        .map(|port| Host {
            cluster: canonical(world, service, port),
            domains: domains(world, service, port, Some(port) == without_port),
        })
        .collect()
}

fn domains(
    world: &World,
    service: &Service,
    port: &ServicePort,
    without_port: bool,
) -> Vec<String> {
    let cluster = canonical(world, service, port);
    let host = cluster.trim_end_matches(|c: char| c.is_ascii_digit());
    let host = host.strip_suffix(':').unwrap_or(host);
    let hosts = std::iter::once(host.to_owned()).chain(short_hosts(service));
    hosts
        .flat_map(|host| {
            let with_port = authority(&host, port.port);
            [Some(with_port), without_port.then_some(host)]
        })
        .flatten()
        .collect()
}

fn virtual_host(cluster: &str, domains: Vec<String>, timeout: Option<Duration>) -> VirtualHost {
    VirtualHost {
        name: cluster.to_owned(),
        domains,
        routes: vec![Route {
            name: "default".to_owned(),
            r#match: Some(RouteMatch {
                path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                ..RouteMatch::default()
            }),
            action: Some(Action::Route(RouteAction {
                timeout: limit(timeout),
                cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
                ..RouteAction::default()
            })),
            ..Route::default()
        }],
        ..VirtualHost::default()
    }
}
