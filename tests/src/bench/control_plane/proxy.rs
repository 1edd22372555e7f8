//! What a simulated proxy says to the control plane, and what it makes of the answers: everything but the bytes.

use super::world::{self, World};
use prost::Message as _;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    names,
    resource::ResourceType,
};

/// A proxy that applies whatever it is given, and forgets all of it but versions.
#[derive(Debug)]
pub struct Proxy {
    machine: delta::Client,
    memory: Memory,
    /// Endpoints that are newer than the machine knows.
    news: BTreeMap<u32, Arc<Update>>,
    /// Requests that are not the machine's.
    acks: VecDeque<Arc<Update>>,
    /// By service that it follows, the last change that it knows of; `None` while it has no endpoints.
    endpoints: BTreeMap<u32, Option<u32>>,
    /// What it has not been given yet.
    missing: usize,
}

/// What is shared by all proxies, so that they cost the machine little: each version and each response is looked into
/// once.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// The change that brought a version of endpoints.
    changes: HashMap<String, u32>,
    /// The last responses that were an update, the newest first.
    updates: VecDeque<Arc<Update>>,
}

/// A response that brings the endpoints of one service and nothing else.
#[derive(Debug)]
struct Update {
    message: Vec<u8>,
    service: u32,
    name: String,
    version: String,
    change: u32,
    /// The request that acknowledges it, encoded.
    ack: Vec<u8>,
}

/// More than are on their way at a time.
const REMEMBERED: usize = 64;

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
    pub fn new(world: World, number: u32, memory: Memory) -> Self {
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
            memory,
            news: BTreeMap::new(),
            acks: VecDeque::new(),
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

    /// The next request to send, encoded, if there is one.
    pub fn next_request(&mut self) -> Option<Vec<u8>> {
        if let Some(update) = self.acks.pop_front() {
            return Some(update.ack.clone());
        }
        let request = self.machine.next_request()?;
        Some(request.encode_to_vec())
    }

    /// Says that the stream is gone. What it holds it keeps.
    pub fn disconnected(&mut self) {
        for update in std::mem::take(&mut self.news).into_values() {
            let response = DeltaDiscoveryResponse::decode(update.message.as_slice());
            let response = response.expect("it was decoded before");
            let update = self.machine.receive(response);
            let pending = update.expect("it is of a known type").pending;
            self.machine.answer(pending, &[]);
        }
        self.acks.clear();
        self.machine.disconnected();
    }

    /// Applies a response and acknowledges it; follows what it leads to.
    pub fn receive(&mut self, message: &[u8]) -> anyhow::Result<Applied> {
        // Only once nothing is missing: until then acknowledgements carry subscriptions.
        let update = match self.is_complete() {
            true => self.memory.update(message),
            false => None,
        };
        match update.filter(|update| self.endpoints.contains_key(&update.service)) {
            Some(update) => Ok(self.apply_update(update)),
            None => self.apply_all(DeltaDiscoveryResponse::decode(message)?),
        }
    }

    fn apply_update(&mut self, update: Arc<Update>) -> Applied {
        let is_held = self.version(ResourceType::Endpoints, &update.name) == Some(&update.version);
        let last = self.endpoints.entry(update.service).or_default();
        let before = last.replace(update.change).unwrap_or(update.change);
        let applied = Applied {
            endpoints: vec![(update.service, before, update.change)],
            resources: 1,
            astray: usize::from(is_held),
        };
        self.acks.push_back(update.clone());
        self.news.insert(update.service, update);
        applied
    }

    fn version(&self, ty: ResourceType, name: &str) -> Option<&str> {
        let news = match ty {
            ResourceType::Endpoints => world::service_of_cluster(name),
            _ => None,
        }
        .and_then(|service| self.news.get(&service));
        match news {
            Some(update) => Some(&update.version),
            None => self.machine.version(ty, name),
        }
    }

    fn apply_all(&mut self, response: DeltaDiscoveryResponse) -> anyhow::Result<Applied> {
        let resources = response.resources.len();
        let update = self.machine.receive(response)?;
        let ty = update.pending.ty();
        let mut applied = Applied {
            resources,
            astray: resources - update.resources.len(),
            endpoints: Vec::new(),
        };
        for resource in &update.resources {
            match self.version(ty, &resource.name) {
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
                    let change = self.memory.change(resource);
                    // The machine knows now.
                    self.news.remove(&service);
                    let before = last.replace(change).unwrap_or(change);
                    applied.endpoints.push((service, before, change));
                }
            }
            ResourceType::Secret => {}
        }
    }
}

impl Memory {
    /// The change that brought these endpoints; 0 before the first.
    fn change(&self, endpoints: &Resource) -> u32 {
        self.lock().change(endpoints)
    }

    /// What a response says, if it is an update.
    fn update(&self, message: &[u8]) -> Option<Arc<Update>> {
        let mut known = self.lock();
        if let Some(update) = known.updates.iter().find(|u| u.message == message) {
            return Some(update.clone());
        }
        let response = DeltaDiscoveryResponse::decode(message).ok()?;
        let [resource] = response.resources.as_slice() else {
            return None;
        };
        let is_update = response.type_url == ResourceType::Endpoints.url()
            && response.removed_resources.is_empty();
        let service = world::service_of_cluster(&resource.name).filter(|_| is_update)?;
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        let update = Arc::new(Update {
            message: message.to_vec(),
            service,
            name: resource.name.clone(),
            version: resource.version.clone(),
            change: known.change(resource),
            ack: ack.encode_to_vec(),
        });
        known.updates.truncate(REMEMBERED - 1);
        known.updates.push_front(update.clone());
        Some(update)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn change(&mut self, endpoints: &Resource) -> u32 {
        if let Some(change) = self.changes.get(&endpoints.version) {
            return *change;
        }
        let change = addresses(endpoints)
            .iter()
            .filter_map(|address| world::change_of_endpoint(address))
            .max();
        let change = change.unwrap_or(0);
        self.changes.insert(endpoints.version.clone(), change);
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
    ) -> Vec<u8> {
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
        .encode_to_vec()
    }

    fn requests(proxy: &mut Proxy) -> Vec<(String, Vec<String>)> {
        std::iter::from_fn(|| proxy.next_request())
            .map(|request| DeltaDiscoveryRequest::decode(request.as_slice()).unwrap())
            .map(|request| (request.response_nonce, request.resource_names_subscribe))
            .collect()
    }

    #[test]
    fn a_listener_leads_to_endpoints_and_endpoints_to_the_change_they_come_from() {
        let world = World::new(1000, 5000).unwrap();
        let mut proxy = Proxy::new(world, 3, Memory::default());
        let first = requests(&mut proxy);
        assert_eq!(first.len(), 2, "{first:?}");
        let name = world::cluster(world::SHARED);
        let chain = [
            (ResourceType::Listener, world::listener(world::SHARED)),
            (ResourceType::Route, name.clone()),
            (ResourceType::Cluster, name.clone()),
        ];
        for (ty, resource) in chain {
            let applied = proxy.receive(&response(ty, "1", &resource, "a", "10.128.0.1"));
            assert_eq!(applied.unwrap().astray, 0);
            assert_eq!(requests(&mut proxy).len(), 2);
        }
        let mut endpoints = |version: &str, address: &str| {
            let response = response(ResourceType::Endpoints, "1", &name, version, address);
            proxy.receive(&response).unwrap()
        };
        assert_eq!(endpoints("a", "10.128.0.1").endpoints, [(0, 0, 0)]);
        assert_eq!(endpoints("b", "10.192.0.7").endpoints, [(0, 0, 7)]);
        assert_eq!(endpoints("c", "10.192.0.9").endpoints, [(0, 7, 9)]);
        assert_eq!(endpoints("c", "10.192.0.9").astray, 1);
        assert!(!proxy.is_complete());
    }

    #[test]
    fn an_update_is_acknowledged_and_held_over_a_reconnect() {
        let world = World::new(1000, 5000).unwrap();
        let memory = Memory::default();
        let mut proxy = Proxy::new(world, 3, memory.clone());
        let (namespace, _, pod) = world::proxy_pod(3);
        let mut resources = vec![
            (ResourceType::Secret, names::ROOT_SECRET.to_owned()),
            (ResourceType::Listener, names::inbound(&namespace, &pod)),
        ];
        for service in world.followed(3) {
            resources.push((ResourceType::Listener, world::listener(service)));
            for ty in [
                ResourceType::Route,
                ResourceType::Cluster,
                ResourceType::Endpoints,
            ] {
                resources.push((ty, world::cluster(service)));
            }
        }
        requests(&mut proxy);
        for (ty, name) in resources {
            let bytes = response(ty, "1", &name, "a", "10.128.0.1");
            proxy.receive(&bytes).unwrap();
            requests(&mut proxy);
        }
        assert!(proxy.is_complete());

        let name = world::cluster(world::SHARED);
        let update = response(ResourceType::Endpoints, "s9", &name, "b", "10.192.0.7");
        let applied = proxy.receive(&update).unwrap();
        assert_eq!((applied.endpoints, applied.astray), (vec![(0, 0, 7)], 0));
        assert_eq!(requests(&mut proxy), [("s9".to_owned(), vec![])]);
        assert_eq!(proxy.receive(&update).unwrap().astray, 1);

        proxy.disconnected();
        let held = std::iter::from_fn(|| proxy.next_request())
            .map(|request| DeltaDiscoveryRequest::decode(request.as_slice()).unwrap())
            // Routes and clusters have the same names.
            .find(|request| request.type_url == ResourceType::Endpoints.url())
            .and_then(|request| request.initial_resource_versions.get(&name).cloned());
        assert_eq!(held.as_deref(), Some("b"));
    }

    #[test]
    fn what_is_not_followed_is_astray() {
        let world = World::new(1000, 5000).unwrap();
        let mut proxy = Proxy::new(world, 3, Memory::default());
        requests(&mut proxy);
        let foreign = response(ResourceType::Cluster, "1", "x", "a", "10.0.0.1");
        let applied = proxy.receive(&foreign).unwrap();
        assert_eq!((applied.resources, applied.astray), (1, 1));
    }
}
