//! The client's end of a delta session, which outlives its streams.

use std::collections::{BTreeSet, HashMap};

use crate::{
    envoy::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource},
    },
    exchange::{PerType, Rejection, UnknownType, WILDCARD, error_detail, resource_type},
    resource::ResourceType,
};

/// What a client follows, the versions that it holds, and what it has yet to tell the server.
///
/// A cycle is: send what [`next_request`](Self::next_request) gives until it gives `None`; hand each
/// response to [`receive`](Self::receive), apply what it yields, and give the verdict to
/// [`answer`](Self::answer). When the stream breaks, call [`disconnected`](Self::disconnected) and go
/// on with the next stream: the server then sends only what the client does not have.
#[derive(Debug)]
pub struct Client {
    node: Node,
    types: PerType<TypeState>,
    introduced: bool,
    streams: u64,
}

/// What a response asks the client to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// Resources that are new or changed.
    pub resources: Vec<Resource>,
    /// Resources that went away, or do not exist.
    pub removed: Vec<String>,
    /// To be given back with the verdict.
    pub pending: Pending,
}

/// A response that has not been answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the server waits for an answer to each response"]
pub struct Pending {
    ty: ResourceType,
    nonce: String,
    stream: u64,
    /// Names and versions of the resources in the update.
    offered: Vec<(String, String)>,
}

#[derive(Debug, Default)]
struct TypeState {
    /// The names followed, `*` included.
    followed: BTreeSet<String>,
    /// The names that the server of this stream knows of.
    announced: BTreeSet<String>,
    /// Names dropped and then taken up again before the server heard of it. It has to send them
    /// again, because the resource was dropped here.
    again: BTreeSet<String>,
    /// The versions in force.
    versions: HashMap<String, String>,
    /// ACKs and NACKs to send, in the order of the responses.
    answers: Vec<DeltaDiscoveryRequest>,
    /// Whether this stream has carried a request of this type.
    contacted: bool,
    /// Whether `followed` may differ from `announced`.
    stale: bool,
}

impl Client {
    /// A client that follows nothing yet and has no stream yet.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            types: PerType::default(),
            introduced: false,
            streams: 0,
        }
    }

    /// Follows a resource, or with [`WILDCARD`] every resource of the type. Says whether it did not
    /// before.
    pub fn subscribe(&mut self, ty: ResourceType, name: &str) -> bool {
        let state = &mut self.types[ty];
        let new = state.followed.insert(name.to_owned());
        if new {
            state.stale = true;
            if state.announced.contains(name) {
                state.again.insert(name.to_owned());
            }
        }
        new
    }

    /// No longer follows a resource, and forgets the version that it had. Says whether it did before.
    pub fn unsubscribe(&mut self, ty: ResourceType, name: &str) -> bool {
        let state = &mut self.types[ty];
        let followed = state.followed.remove(name);
        if followed {
            state.stale = true;
            state.again.remove(name);
            state.forget_uncovered();
        }
        followed
    }

    /// Whether the resource is followed, by name or by wildcard.
    pub fn follows(&self, ty: ResourceType, name: &str) -> bool {
        self.types[ty].covers(name)
    }

    /// The version in force of a resource.
    pub fn version(&self, ty: ResourceType, name: &str) -> Option<&str> {
        self.types[ty].versions.get(name).map(String::as_str)
    }

    /// Says that the stream is gone. The next requests open a new one: they bear the node, the
    /// subscriptions and the versions held.
    pub fn disconnected(&mut self) {
        self.streams += 1;
        self.introduced = false;
        for (_, state) in self.types.iter_mut() {
            state.announced.clear();
            state.again.clear();
            state.answers.clear();
            state.contacted = false;
            state.stale = true;
        }
    }

    /// The next request to send, or `None` when the server knows everything.
    ///
    /// Subscriptions made since the last request travel together, on an ACK when there is one.
    pub fn next_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        let (ty, mut request) = self
            .types
            .iter_mut()
            .find_map(|(ty, state)| Some((ty, state.next_request()?)))?;
        request.type_url = ty.url().to_owned();
        if !std::mem::replace(&mut self.introduced, true) {
            request.node = Some(self.node.clone());
        }
        Some(request)
    }

    /// Takes in a response and says what to apply: only what is still followed.
    ///
    /// Errors when its type is unknown; the stream stays usable.
    pub fn receive(&mut self, response: DeltaDiscoveryResponse) -> Result<Update, UnknownType> {
        let ty = resource_type(&response.type_url)?;
        let state = &self.types[ty];
        let resources: Vec<Resource> = response
            .resources
            .into_iter()
            .filter(|resource| state.covers(&resource.name))
            .collect();
        let removed = response
            .removed_resources
            .into_iter()
            .filter(|name| state.covers(name))
            .collect();
        let offered = resources
            .iter()
            .map(|resource| (resource.name.clone(), resource.version.clone()))
            .collect();
        for name in &removed {
            self.types[ty].versions.remove::<String>(name);
        }
        Ok(Update {
            resources,
            removed,
            pending: Pending {
                ty,
                nonce: response.nonce,
                stream: self.streams,
                offered,
            },
        })
    }

    /// Answers a response: with an ACK when nothing is rejected, else with a NACK that names what is.
    /// What is not rejected counts as applied.
    pub fn answer(&mut self, pending: Pending, rejections: &[Rejection]) {
        let state = &mut self.types[pending.ty];
        for (name, version) in pending.offered {
            let rejected = rejections.iter().any(|rejection| rejection.name == name);
            if !rejected && state.covers(&name) {
                state.versions.insert(name, version);
            }
        }
        // A nonce means nothing on another stream.
        if pending.stream == self.streams {
            state.answers.push(DeltaDiscoveryRequest {
                response_nonce: pending.nonce,
                error_detail: error_detail(rejections),
                ..DeltaDiscoveryRequest::default()
            });
        }
    }
}

impl Pending {
    /// The type that the response was about.
    pub fn ty(&self) -> ResourceType {
        self.ty
    }
}

impl TypeState {
    fn covers(&self, name: &str) -> bool {
        self.followed.contains(name) || self.followed.contains(WILDCARD)
    }

    fn forget_uncovered(&mut self) {
        if !self.followed.contains(WILDCARD) {
            self.versions.retain(|name, _| self.followed.contains(name));
        }
    }

    fn next_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        let (subscribe, unsubscribe) = self.take_news();
        let mut request = if self.answers.is_empty() {
            if subscribe.is_empty() && unsubscribe.is_empty() {
                return None;
            }
            DeltaDiscoveryRequest::default()
        } else {
            self.answers.remove(0)
        };
        request.resource_names_subscribe = subscribe;
        request.resource_names_unsubscribe = unsubscribe;
        if !std::mem::replace(&mut self.contacted, true) {
            request.initial_resource_versions = self.versions.clone();
        }
        Some(request)
    }

    /// The names to subscribe to and to unsubscribe from, which counts as announced afterwards.
    fn take_news(&mut self) -> (Vec<String>, Vec<String>) {
        if !std::mem::take(&mut self.stale) {
            return (Vec::new(), Vec::new());
        }
        let mut subscribe: Vec<String> =
            self.followed.difference(&self.announced).cloned().collect();
        let unsubscribe = self.announced.difference(&self.followed).cloned().collect();
        subscribe.extend(std::mem::take(&mut self.again));
        self.announced.clone_from(&self.followed);
        (subscribe, unsubscribe)
    }
}
