//! The server's end of one delta stream.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    fmt,
    sync::Arc,
    time::Instant,
};

use prost::{DecodeError, Message as _, bytes::Bytes};

use crate::{
    envoy::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    exchange::{
        Answer, Catalogue, Encoded, Nack, PerType, Received, UnknownType, WILDCARD, resource_type,
    },
    resource::ResourceType,
};

/// Responses of one type that may wait for their ACK; what changes meanwhile is coalesced until it comes.
///
/// Two keep a client busy while its answer travels. More would only queue up before one that is slower than the
/// changes, and make each of them wait for all that came before, which it makes obsolete.
const MAX_IN_FLIGHT: usize = 2;

/// Where a response is cut. gRPC clients refuse messages above 4 MiB unless told otherwise.
const MAX_RESPONSE_BYTES: usize = 2 << 20;

/// What one delta stream has subscribed to, holds, and is still owed.
///
/// A cycle is: [`receive`](Self::receive) every request, note changes of the world with
/// [`changed`](Self::changed), and send what [`next_response`](Self::next_response) gives until it
/// gives `None`.
#[derive(Debug, Default)]
pub struct Server {
    types: PerType<TypeState>,
    nonces: u64,
    resend_endpoints: bool,
}

/// A response, ready for the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The type that it is about.
    pub ty: ResourceType,
    /// A [`DeltaDiscoveryResponse`], which may be shared with other streams.
    pub message: Bytes,
}

#[derive(Debug, Default)]
struct TypeState {
    contacted: bool,
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    /// The versions that the client has, or has been sent. A version that it refused stays here: it
    /// would be refused again.
    held: HashMap<Arc<str>, Arc<str>>,
    /// Names to look at before the next response.
    due: BTreeMap<Arc<str>, Due>,
    /// Every name has to be looked at, because a wildcard subscription has just begun.
    all_due: Option<Due>,
    /// A wildcard has begun that covers nothing, and the client has to be told so: an Envoy waits for an answer, for
    /// 15 s by default, before it goes on.
    hollow: bool,
    in_flight: VecDeque<InFlight>,
    /// Names dropped while responses are in flight, which may bear them. A wildcard that begins before
    /// the client has read those makes it keep them.
    departed: BTreeSet<Arc<str>>,
    /// The highest number of a shared response that this stream has been sent.
    last_shared: u64,
}

/// Why a name has to be looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Due {
    /// It must be answered even when the client holds what there is, or when there is nothing: "the
    /// server must respond with all resources listed in resource_names_subscribe".
    answer: bool,
    since: Option<Instant>,
}

/// What tells a response from all others of its type on its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nonce {
    /// Of a response of this stream's own, `7`.
    Own(u64),
    /// Of a response that other streams are given as well, `s7`.
    Shared(u64),
}

#[derive(Debug)]
struct InFlight {
    nonce: Nonce,
    since: Option<Instant>,
    /// What it bears: if it is refused, the versions count that were in it.
    resources: Vec<Arc<Encoded>>,
    removed: usize,
}

impl Server {
    /// A stream on which nothing has been said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With `true`, endpoints are sent again whenever their cluster is.
    ///
    /// An Envoy that replaces a cluster waits for its endpoints ("cluster warming"), but asks for
    /// them only if it had dropped them before.
    pub fn resend_endpoints(mut self, resend: bool) -> Self {
        self.resend_endpoints = resend;
        self
    }

    /// Takes in a request.
    ///
    /// Errors when its type is unknown; the stream stays usable.
    pub fn receive(&mut self, request: DeltaDiscoveryRequest) -> Result<Received, UnknownType> {
        let ty = resource_type(&request.type_url)?;
        let state = &mut self.types[ty];
        let answer = state.settle(&request);
        let first = !std::mem::replace(&mut state.contacted, true);
        if first {
            state.begin(ty, &request);
        }
        let subscribed = state.subscribe(request.resource_names_subscribe, first);
        let unsubscribed = state.unsubscribe(request.resource_names_unsubscribe);
        Ok(Received {
            ty,
            subscribed,
            unsubscribed,
            answer,
        })
    }

    /// Notes that a resource appeared, changed or went away at `since`. Says whether that concerns
    /// this stream, that is, whether [`next_response`](Self::next_response) should be asked.
    pub fn changed(&mut self, ty: ResourceType, name: &Arc<str>, since: Instant) -> bool {
        let state = &mut self.types[ty];
        let concerned = state.covers(name);
        if concerned {
            let due = state.due.entry(name.clone()).or_default();
            due.since = Some(due.since.map_or(since, |earlier| earlier.min(since)));
        }
        concerned
    }

    /// Whether the stream follows every resource of the type.
    pub fn is_wildcard(&self, ty: ResourceType) -> bool {
        self.types[ty].wildcard
    }

    /// Whether the client has answered all that it has been sent. When, besides, there is no
    /// [`next_response`](Self::next_response), it is up to date.
    pub fn is_answered(&self) -> bool {
        let mut types = ResourceType::ALL.into_iter();
        types.all(|ty| self.types[ty].in_flight.is_empty())
    }

    /// The names that the stream follows by name.
    pub fn names(&self, ty: ResourceType) -> impl Iterator<Item = &Arc<str>> {
        self.types[ty].names.iter()
    }

    /// The next response to send, or `None` when the client has, or has been sent, all that it
    /// follows, or must answer first.
    ///
    /// What is new comes in the order of [`ResourceType`]; what is gone comes after all that is new,
    /// in reverse order.
    pub fn next_response(&mut self, catalogue: &impl Catalogue) -> Option<Response> {
        for ty in ResourceType::ALL {
            let state = &mut self.types[ty];
            state.expand_wildcard(ty, catalogue);
            let Some(found) = state.take_found(ty, catalogue) else {
                if std::mem::take(&mut state.hollow) {
                    return Some(self.respond(ty, Vec::new(), Vec::new(), None));
                }
                continue;
            };
            if ty == ResourceType::Cluster && self.resend_endpoints {
                self.types[ResourceType::Endpoints].resend(&found.resources);
            }
            return Some(self.respond(ty, found.resources, Vec::new(), found.since));
        }
        for ty in ResourceType::ALL.into_iter().rev() {
            if let Some((removed, since)) = self.types[ty].take_missing() {
                return Some(self.respond(ty, Vec::new(), removed, since));
            }
        }
        None
    }

    fn respond(
        &mut self,
        ty: ResourceType,
        resources: Vec<Arc<Encoded>>,
        removed_resources: Vec<String>,
        since: Option<Instant>,
    ) -> Response {
        let removed = removed_resources.len();
        let (nonce, message) = match resources.as_slice() {
            [resource] if removed == 0 => self.share(ty, resource),
            _ => None,
        }
        .unwrap_or_else(|| self.encode(ty, &resources, removed_resources));
        self.types[ty].in_flight.push_back(InFlight {
            nonce,
            since,
            resources,
            removed,
        });
        Response { ty, message }
    }

    /// The response that other streams are given as well, unless its nonce may have been used on this one: a
    /// resource may be asked for again.
    fn share(&mut self, ty: ResourceType, resource: &Encoded) -> Option<(Nonce, Bytes)> {
        let alone = resource.alone(|number| Nonce::Shared(number).to_string());
        let last = &mut self.types[ty].last_shared;
        if alone.number <= *last {
            return None;
        }
        *last = alone.number;
        Some((Nonce::Shared(alone.number), alone.message.clone()))
    }

    fn encode(
        &mut self,
        ty: ResourceType,
        resources: &[Arc<Encoded>],
        removed_resources: Vec<String>,
    ) -> (Nonce, Bytes) {
        self.nonces += 1;
        let nonce = Nonce::Own(self.nonces);
        let response = DeltaDiscoveryResponse {
            resources: resources.iter().map(|r| r.on_the_wire()).collect(),
            removed_resources,
            type_url: ty.url().to_owned(),
            nonce: nonce.to_string(),
            ..DeltaDiscoveryResponse::default()
        };
        (nonce, response.encode_to_vec().into())
    }
}

impl Response {
    /// The message itself, for a server that encodes it once more.
    pub fn decode(&self) -> Result<DeltaDiscoveryResponse, DecodeError> {
        DeltaDiscoveryResponse::decode(self.message.clone())
    }
}

impl Nonce {
    /// The nonce that a request answers, if it is one of ours.
    fn read(text: &str) -> Option<Self> {
        match text.strip_prefix('s') {
            Some(number) => Some(Self::Shared(number.parse().ok()?)),
            None => Some(Self::Own(text.parse().ok()?)),
        }
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(number) => write!(f, "{number}"),
            Self::Shared(number) => write!(f, "s{number}"),
        }
    }
}

/// Resources taken for one response.
struct Found {
    resources: Vec<Arc<Encoded>>,
    since: Option<Instant>,
}

impl TypeState {
    fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Matches a nonce with the response that it answers. An unknown nonce answers nothing, but the
    /// request's subscriptions still count.
    fn settle(&mut self, request: &DeltaDiscoveryRequest) -> Option<Answer> {
        let nonce = Nonce::read(&request.response_nonce)?;
        let position = self.in_flight.iter().position(|sent| sent.nonce == nonce)?;
        let sent = self.in_flight.remove(position)?;
        if self.in_flight.is_empty() {
            self.departed.clear();
        }
        Some(Answer {
            since: sent.since,
            resources: sent.resources.len() + sent.removed,
            nack: request
                .error_detail
                .clone()
                .map(|status| Nack::from_status(status, &sent.resources)),
        })
    }

    /// The first request of a type on a stream tells what the client kept from an earlier stream,
    /// and in its old form subscribes to everything by naming nothing.
    fn begin(&mut self, ty: ResourceType, request: &DeltaDiscoveryRequest) {
        self.held = request
            .initial_resource_versions
            .iter()
            .map(|(name, version)| (name.as_str().into(), version.as_str().into()))
            .collect();
        let legacy_wildcard = matches!(ty, ResourceType::Listener | ResourceType::Cluster)
            && request.resource_names_subscribe.is_empty();
        if legacy_wildcard {
            self.wildcard = true;
            self.all_due = Some(Due::default());
        } else if !request
            .resource_names_subscribe
            .iter()
            .any(|name| name == WILDCARD)
        {
            let subscribed: BTreeSet<&str> = request
                .resource_names_subscribe
                .iter()
                .map(String::as_str)
                .collect();
            self.held.retain(|name, _| subscribed.contains(&**name));
        }
    }

    fn subscribe(&mut self, names: Vec<String>, first: bool) -> Vec<Arc<str>> {
        let mut added = Vec::new();
        for name in names {
            if name == WILDCARD {
                self.wildcard = true;
                // Asked anew, the client may have dropped what it held.
                self.all_due.get_or_insert_default().answer |= !first;
                for name in std::mem::take(&mut self.departed) {
                    self.due.entry(name).or_default().answer = true;
                }
                continue;
            }
            let name: Arc<str> = name.into();
            if self.names.insert(name.clone()) {
                added.push(name.clone());
            }
            let kept = first && self.held.contains_key(&name);
            self.due.entry(name).or_default().answer |= !kept;
        }
        added
    }

    fn unsubscribe(&mut self, names: Vec<String>) -> Vec<Arc<str>> {
        let mut dropped = Vec::new();
        for name in names {
            if name == WILDCARD {
                self.wildcard = false;
                self.all_due = None;
                let dropped = self.held.extract_if(|name, _| !self.names.contains(name));
                let dropped = dropped.map(|(name, _)| name);
                if self.in_flight.is_empty() {
                    dropped.for_each(drop);
                } else {
                    self.departed.extend(dropped);
                }
                self.due.retain(|name, _| self.names.contains(name));
            } else if let Some(name) = self.names.take(name.as_str()) {
                if self.wildcard {
                    // "the server must ... respond with the resource or list it as removed": the
                    // client cannot tell whether the wildcard still covers the name.
                    self.due.entry(name.clone()).or_default().answer = true;
                } else {
                    self.held.remove(&name);
                    self.due.remove(&name);
                    if !self.in_flight.is_empty() {
                        self.departed.insert(name.clone());
                    }
                }
                dropped.push(name);
            }
        }
        dropped
    }

    fn expand_wildcard(&mut self, ty: ResourceType, catalogue: &impl Catalogue) {
        let Some(all_due) = self.all_due.take() else {
            return;
        };
        let names = catalogue.names(ty);
        self.hollow = names.is_empty() && self.held.is_empty() && self.due.is_empty();
        for name in names.into_iter().chain(self.held.keys().cloned()) {
            self.due.entry(name).or_default().answer |= all_due.answer;
        }
    }

    /// Takes the due resources that exist and have to be sent, as many as fit one response. Leaves
    /// due what does not exist; forgets what the client holds already.
    fn take_found(&mut self, ty: ResourceType, catalogue: &impl Catalogue) -> Option<Found> {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let mut found = Found {
            resources: Vec::new(),
            since: None,
        };
        let mut bytes = 0;
        let mut later = BTreeMap::new();
        while let Some((name, due)) = self.due.pop_first() {
            let Some(resource) = catalogue.find(ty, &name) else {
                later.insert(name, due);
                continue;
            };
            if !due.answer && self.held.get(&name) == Some(&resource.version) {
                continue;
            }
            bytes += resource.body.value.len();
            if bytes > MAX_RESPONSE_BYTES && !found.resources.is_empty() {
                self.due.insert(name, due);
                break;
            }
            self.held
                .insert(resource.name.clone(), resource.version.clone());
            found.since = earliest(found.since, due.since);
            found.resources.push(resource);
        }
        self.due.append(&mut later);
        (!found.resources.is_empty()).then_some(found)
    }

    /// Takes the due names that [`take_found`](Self::take_found) has left because nothing bears them.
    fn take_missing(&mut self) -> Option<(Vec<String>, Option<Instant>)> {
        if self.in_flight.len() >= MAX_IN_FLIGHT {
            return None;
        }
        let mut removed = Vec::new();
        let mut since = None;
        for (name, due) in std::mem::take(&mut self.due) {
            let held = self.held.remove(&name).is_some();
            if held || due.answer {
                since = earliest(since, due.since);
                removed.push(name.to_string());
            }
        }
        (!removed.is_empty()).then_some((removed, since))
    }

    fn resend(&mut self, clusters: &[Arc<Encoded>]) {
        for cluster in clusters {
            if self.names.contains(&cluster.name) {
                self.due.entry(cluster.name.clone()).or_default().answer = true;
            }
        }
    }
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}
