//! Whatever happens in whatever order, a client ends up with what the server has of what it follows.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use proptest::prelude::*;

use super::{Client, Server};
use crate::{
    envoy::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
    exchange::{Catalogue as _, Rejection, WILDCARD},
    resource::ResourceType,
    shelf::Shelf,
};

const TYPES: [ResourceType; 2] = [ResourceType::Cluster, ResourceType::Endpoints];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    Subscribe(ResourceType, &'static str),
    Unsubscribe(ResourceType, &'static str),
    /// A resource changes; every third version is one that the client rejects.
    Put(ResourceType, &'static str),
    Take(ResourceType, &'static str),
    Reconnect,
    ClientSends,
    ServerReads,
    ServerSends,
    ClientReads,
}

fn step() -> impl Strategy<Value = Step> {
    let ty = || prop::sample::select(&TYPES[..]);
    let name = || prop::sample::select(&NAMES[..]);
    let subscription = || {
        (ty(), name(), any::<prop::sample::Index>()).prop_map(|(ty, name, dice)| {
            let wildcard = ty == ResourceType::Cluster && dice.index(6) == 0;
            (ty, if wildcard { WILDCARD } else { name })
        })
    };
    prop_oneof![
        4 => subscription().prop_map(|(ty, name)| Step::Subscribe(ty, name)),
        3 => subscription().prop_map(|(ty, name)| Step::Unsubscribe(ty, name)),
        4 => (ty(), name()).prop_map(|(ty, name)| Step::Put(ty, name)),
        2 => (ty(), name()).prop_map(|(ty, name)| Step::Take(ty, name)),
        1 => Just(Step::Reconnect),
        4 => Just(Step::ClientSends),
        4 => Just(Step::ServerReads),
        4 => Just(Step::ServerSends),
        4 => Just(Step::ClientReads),
    ]
}

/// Both ends, and the messages on their way between them.
struct Wire {
    shelf: Shelf,
    server: Server,
    client: Client,
    upward: VecDeque<DeltaDiscoveryRequest>,
    downward: VecDeque<DeltaDiscoveryResponse>,
    version: u32,
}

impl Wire {
    fn new() -> Self {
        Self {
            shelf: Shelf::default(),
            server: Server::new(),
            client: Client::new(Node::default()),
            upward: VecDeque::new(),
            downward: VecDeque::new(),
            version: 0,
        }
    }

    /// Gives how many resources a client has read in this step.
    fn run(&mut self, step: Step) -> usize {
        match step {
            Step::Subscribe(ty, name) => {
                self.client.subscribe(ty, name);
            }
            Step::Unsubscribe(ty, name) => {
                self.client.unsubscribe(ty, name);
            }
            Step::Put(ty, name) => {
                self.version += 1;
                self.shelf.put(ty, name, &self.version.to_string());
                self.server.changed(ty, &Arc::from(name), Instant::now());
            }
            Step::Take(ty, name) => {
                self.shelf.take(ty, name);
                self.server.changed(ty, &Arc::from(name), Instant::now());
            }
            Step::Reconnect => {
                self.upward.clear();
                self.downward.clear();
                self.server = Server::new();
                self.client.disconnected();
            }
            Step::ClientSends => self.upward.extend(self.client.next_request()),
            Step::ServerReads => {
                if let Some(request) = self.upward.pop_front() {
                    self.server.receive(request).unwrap();
                }
            }
            Step::ServerSends => {
                let response = self.server.next_response(&self.shelf);
                let message = response.map(|response| response.decode().unwrap());
                self.downward.extend(message);
            }
            Step::ClientReads => {
                if let Some(response) = self.downward.pop_front() {
                    return self.read(response);
                }
            }
        }
        0
    }

    fn read(&mut self, response: DeltaDiscoveryResponse) -> usize {
        let sent = response.resources.len();
        let update = self.client.receive(response).unwrap();
        let rejections: Vec<_> = update
            .resources
            .iter()
            .filter(|resource| is_rejected(&resource.version))
            .map(|resource| Rejection {
                name: resource.name.clone(),
                field: "field".to_owned(),
                reason: "reason".to_owned(),
            })
            .collect();
        self.client.answer(update.pending, &rejections);
        sent
    }

    /// Lets everything arrive. Gives how many resources were sent for it.
    fn settle(&mut self) -> usize {
        let mut sent = 0;
        // Far more rounds than any exchange takes: a loop without end would be a fault.
        for _ in 0..100 {
            for step in [
                Step::ClientSends,
                Step::ServerReads,
                Step::ServerSends,
                Step::ClientReads,
            ] {
                sent += self.run(step);
            }
        }
        assert!(self.upward.is_empty() && self.downward.is_empty());
        assert_eq!(self.client.next_request(), None);
        assert_eq!(self.server.next_response(&self.shelf), None);
        sent
    }

    fn assert_agreement(&self) {
        for ty in TYPES {
            for name in NAMES {
                let held = self.client.version(ty, name);
                if !self.client.follows(ty, name) {
                    assert_eq!(held, None, "{name} is held and not followed");
                    continue;
                }
                match self.shelf.find(ty, &name.into()) {
                    Some(resource) if is_rejected(&resource.version) => {
                        assert!(held.is_none_or(|version| !is_rejected(version)));
                    }
                    there => assert_eq!(held, there.as_ref().map(|r| &*r.version), "{name}"),
                }
            }
        }
    }
}

fn is_rejected(version: &str) -> bool {
    version.parse::<u32>().unwrap() % 3 == 0
}

proptest! {
    #[test]
    fn client_and_server_converge(steps in prop::collection::vec(step(), 0..120)) {
        let mut wire = Wire::new();
        for step in steps {
            wire.run(step);
        }
        wire.settle();
        wire.assert_agreement();

        // A reconnect with nothing changed sends only what was rejected.
        let rejected = TYPES
            .iter()
            .flat_map(|ty| NAMES.map(|name| (*ty, name)))
            .filter(|(ty, name)| wire.client.follows(*ty, name))
            .filter_map(|(ty, name)| wire.shelf.find(ty, &name.into()))
            .filter(|resource| is_rejected(&resource.version))
            .count();
        wire.run(Step::Reconnect);
        prop_assert_eq!(wire.settle(), rejected);
        wire.assert_agreement();
    }
}
