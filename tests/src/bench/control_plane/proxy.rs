//! What a simulated proxy says to the control plane, and what it makes of the answers: everything but the bytes.

use super::world::{self, World};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};
use weft_xds_proto::{
    delta,
    envoy::envoy::{
        config::{
            core::v3::{Node, address::Address, socket_address::PortSpecifier},
            endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier},
        },
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    },
    exchange::UnknownType,
    names,
    resource::ResourceType,
};

/// A proxy that applies whatever it is given, and forgets all of it but versions.
#[derive(Debug)]
pub struct Proxy {
    machine: delta::Client,
    versions: Versions,
    /// By service that it follows, the last change that it knows of; `None` while it has no endpoints.
    endpoints: BTreeMap<u32, Option<u32>>,
    /// What it has not been given yet.
    missing: usize,
}

/// The change that brought a version of endpoints. Shared by all proxies, so that each version is looked into once.
#[derive(Debug, Clone, Default)]
pub struct Versions(Arc<Mutex<HashMap<String, u32>>>);

/// What a response brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The services whose endpoints came, with the last change known before and now.
    pub endpoints: Vec<(u32, u32, u32)>,
    /// Resources in it.
    pub resources: usize,
    /// Resources in it that the proxy does not follow, or held like this already.
    pub astray: usize,
}

impl Proxy {
    /// A proxy of a world that has said nothing yet.
    pub fn new(world: World, number: u32, versions: Versions) -> Self {
        let (namespace, _, pod) = world::proxy_pod(number);
        let mut machine = delta::Client::new(Node {
            id: names::node_id(&namespace, &pod),
            user_agent_name: names::PROXY_USER_AGENT.to_owned(),
            ..Node::default()
        });
        let endpoints: BTreeMap<_, _> = world
            .followed(number)
            .into_iter()
            .map(|service| (service, None))
            .collect();
        machine.subscribe(ResourceType::Secret, names::ROOT_SECRET);
        machine.subscribe(ResourceType::Listener, &names::inbound(&namespace, &pod));
        for service in endpoints.keys() {
            machine.subscribe(ResourceType::Listener, &world::listener(*service));
        }
        Self {
            machine,
            versions,
            missing: 2 + 4 * endpoints.len(),
            endpoints,
        }
    }

    /// The services that it follows.
    pub fn followed(&self) -> impl Iterator<Item = u32> {
        self.endpoints.keys().copied()
    }

    /// Whether it has everything that it follows.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// The next request to send, if there is one.
    pub fn next_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        self.machine.next_request()
    }

    /// Says that the stream is gone. What it holds it keeps.
    pub fn disconnected(&mut self) {
        self.machine.disconnected();
    }

    /// Applies a response and acknowledges it; follows what it leads to.
    pub fn receive(&mut self, response: DeltaDiscoveryResponse) -> Result<Applied, UnknownType> {
        let resources = response.resources.len();
        let update = self.machine.receive(response)?;
        let ty = update.pending.ty();
        let mut applied = Applied {
            resources,
            astray: resources - update.resources.len(),
            endpoints: Vec::new(),
        };
        for resource in &update.resources {
            match self.machine.version(ty, &resource.name) {
                None => self.missing -= 1,
                Some(held) if held == resource.version => applied.astray += 1,
                Some(_) => {}
            }
            self.apply(ty, resource, &mut applied);
        }
        self.machine.answer(update.pending, &[]);
        Ok(applied)
    }

    /// A destination is a chain: the listener leads to routes, those to a cluster, that to its endpoints.
    fn apply(&mut self, ty: ResourceType, resource: &Resource, applied: &mut Applied) {
        match ty {
            ResourceType::Listener => {
                if let Some(service) = world::service_of_listener(&resource.name) {
                    let name = world::cluster(service);
                    self.machine.subscribe(ResourceType::Route, &name);
                }
            }
            ResourceType::Route => {
                self.machine
                    .subscribe(ResourceType::Cluster, &resource.name);
            }
            ResourceType::Cluster => {
                self.machine
                    .subscribe(ResourceType::Endpoints, &resource.name);
            }
            ResourceType::Endpoints => {
                let service = world::service_of_cluster(&resource.name);
                if let Some((service, last)) =
                    service.and_then(|service| Some((service, self.endpoints.get_mut(&service)?)))
                {
                    let change = self.versions.change(resource);
                    let before = last.replace(change).unwrap_or(change);
                    applied.endpoints.push((service, before, change));
                }
            }
            ResourceType::Secret => {}
        }
    }
}

impl Versions {
    /// The change that brought these endpoints; 0 before the first.
    fn change(&self, endpoints: &Resource) -> u32 {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(change) = known.get(&endpoints.version) {
            return *change;
        }
        let change = addresses(endpoints)
            .iter()
            .filter_map(|address| world::change_of_endpoint(address))
            .max();
        let change = change.unwrap_or(0);
        known.insert(endpoints.version.clone(), change);
        change
    }
}

fn addresses(endpoints: &Resource) -> Vec<String> {
    let body = endpoints.resource.as_ref();
    let body = body.map(|body| body.value.as_ref()).unwrap_or_default();
    let message: ClusterLoadAssignment = prost::Message::decode(body).unwrap_or_default();
    let endpoints = message.endpoints.into_iter().flat_map(|l| l.lb_endpoints);
    endpoints
        .filter_map(|endpoint| match endpoint.host_identifier? {
            HostIdentifier::Endpoint(endpoint) => endpoint.address?.address,
            HostIdentifier::EndpointName(_) => None,
        })
        .filter_map(|address| match address {
            Address::SocketAddress(at) => match at.port_specifier {
                Some(PortSpecifier::PortValue(_)) => Some(at.address),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_xds_proto::envoy::{
        envoy::config::{
            core::v3::{Address as AddressMessage, SocketAddress},
            endpoint::v3::{Endpoint, LbEndpoint, LocalityLbEndpoints},
        },
        google::protobuf::Any,
    };

    fn response(
        ty: ResourceType,
        nonce: &str,
        name: &str,
        version: &str,
        address: &str,
    ) -> DeltaDiscoveryResponse {
        let address = AddressMessage {
            address: Some(Address::SocketAddress(SocketAddress {
                address: address.to_owned(),
                port_specifier: Some(PortSpecifier::PortValue(8080)),
                ..SocketAddress::default()
            })),
        };
        let endpoint = LbEndpoint {
            host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
                address: Some(address),
                ..Endpoint::default()
            })),
            ..LbEndpoint::default()
        };
        let body = ClusterLoadAssignment {
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![endpoint],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        };
        DeltaDiscoveryResponse {
            type_url: ty.url().to_owned(),
            nonce: nonce.to_owned(),
            resources: vec![Resource {
                name: name.to_owned(),
                version: version.to_owned(),
                resource: Some(Any {
                    type_url: ty.url().to_owned(),
                    value: prost::Message::encode_to_vec(&body),
                }),
                ..Resource::default()
            }],
            ..DeltaDiscoveryResponse::default()
        }
    }

    fn requests(proxy: &mut Proxy) -> Vec<(String, Vec<String>)> {
        std::iter::from_fn(|| proxy.next_request())
            .map(|request| (request.response_nonce, request.resource_names_subscribe))
            .collect()
    }

    #[test]
    fn a_listener_leads_to_endpoints_and_endpoints_to_the_change_they_come_from() {
        let world = World::new(1000, 5000).unwrap();
        let mut proxy = Proxy::new(world, 3, Versions::default());
        let first = requests(&mut proxy);
        assert_eq!(first.len(), 2, "{first:?}");
        let name = world::cluster(world::SHARED);
        let chain = [
            (ResourceType::Listener, world::listener(world::SHARED)),
            (ResourceType::Route, name.clone()),
            (ResourceType::Cluster, name.clone()),
        ];
        for (ty, resource) in chain {
            let applied = proxy.receive(response(ty, "1", &resource, "a", "10.128.0.1"));
            assert_eq!(applied.unwrap().astray, 0);
            assert_eq!(requests(&mut proxy).len(), 2);
        }
        let mut endpoints = |version: &str, address: &str| {
            let response = response(ResourceType::Endpoints, "1", &name, version, address);
            proxy.receive(response).unwrap()
        };
        assert_eq!(endpoints("a", "10.128.0.1").endpoints, [(0, 0, 0)]);
        assert_eq!(endpoints("b", "10.192.0.7").endpoints, [(0, 0, 7)]);
        assert_eq!(endpoints("c", "10.192.0.9").endpoints, [(0, 7, 9)]);
        assert_eq!(endpoints("c", "10.192.0.9").astray, 1);
        assert!(!proxy.is_complete());
    }

    #[test]
    fn what_is_not_followed_is_astray() {
        let world = World::new(1000, 5000).unwrap();
        let mut proxy = Proxy::new(world, 3, Versions::default());
        requests(&mut proxy);
        let foreign = response(ResourceType::Cluster, "1", "x", "a", "10.0.0.1");
        let applied = proxy.receive(foreign).unwrap();
        assert_eq!((applied.resources, applied.astray), (1, 1));
    }
}
