//! The server's end of one state-of-the-world stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    envoy::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
    exchange::{
        Answer, Catalogue, Encoded, Nack, PerType, Received, UnknownType, WILDCARD, resource_type,
    },
    resource::ResourceType,
};

/// What one state-of-the-world stream has subscribed to, has been sent, and is still owed.
///
/// It is used like [`delta::Server`](crate::delta::Server). At most one response of a type waits for
/// its answer: a second one would make the answer to the first stale.
#[derive(Debug, Default)]
pub struct Server {
    types: PerType<TypeState>,
    nonces: u64,
    resend_endpoints: bool,
}

#[derive(Debug, Default)]
struct TypeState {
    wildcard: bool,
    /// Whether a request has named a resource: from then on, naming none means following none.
    explicit: bool,
    names: BTreeSet<Arc<str>>,
    /// What the client has been sent and still follows.
    sent: BTreeMap<Arc<str>, Arc<str>>,
    /// Names to look at before the next response, with the time of their oldest change.
    due: BTreeMap<Arc<str>, Option<Instant>>,
    /// Names to send even when their version has been sent before.
    again: BTreeSet<Arc<str>>,
    /// A response is owed even when nothing is found.
    owed: bool,
    last_nonce: Option<String>,
    in_flight: Option<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    since: Option<Instant>,
    resources: usize,
}

impl Server {
    /// A stream on which nothing has been said yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With `true`, endpoints are sent again whenever their cluster changes; see
    /// [`delta::Server::resend_endpoints`](crate::delta::Server::resend_endpoints).
    pub fn resend_endpoints(mut self, resend: bool) -> Self {
        self.resend_endpoints = resend;
        self
    }

    /// Takes in a request. One with a stale nonce changes nothing: the client will speak again once
    /// it has read the response on its way.
    ///
    /// Errors when its type is unknown; the stream stays usable.
    pub fn receive(&mut self, request: DiscoveryRequest) -> Result<Received, UnknownType> {
        let ty = resource_type(&request.type_url)?;
        let state = &mut self.types[ty];
        let mut received = Received {
            ty,
            subscribed: Vec::new(),
            unsubscribed: Vec::new(),
            answer: None,
        };
        let current = state.last_nonce.as_deref().unwrap_or_default();
        // On a stream where nothing has been sent, a nonce can only be one of an earlier stream.
        if state.last_nonce.is_some() && request.response_nonce != current {
            return Ok(received);
        }
        received.answer = state.in_flight.take().map(|sent| Answer {
            since: sent.since,
            resources: sent.resources,
            nack: request
                .error_detail
                .map(|status| Nack::from_status(status, &[])),
        });
        (received.subscribed, received.unsubscribed) = state.follow(ty, request.resource_names);
        Ok(received)
    }

    /// Notes that a resource appeared, changed or went away at `since`. Says whether that concerns
    /// this stream.
    pub fn changed(&mut self, ty: ResourceType, name: &Arc<str>, since: Instant) -> bool {
        let state = &mut self.types[ty];
        let concerned = state.wildcard || state.names.contains(name);
        if concerned {
            let due = state.due.entry(name.clone()).or_default();
            *due = Some(due.map_or(since, |earlier| earlier.min(since)));
        }
        concerned
    }

    /// Whether the stream follows every resource of the type.
    pub fn is_wildcard(&self, ty: ResourceType) -> bool {
        self.types[ty].wildcard
    }

    /// Whether the client has answered all that it has been sent; see
    /// [`delta::Server::is_answered`](crate::delta::Server::is_answered).
    pub fn is_answered(&self) -> bool {
        let mut types = ResourceType::ALL.into_iter();
        types.all(|ty| self.types[ty].in_flight.is_none())
    }

    /// The names that the stream follows by name.
    pub fn names(&self, ty: ResourceType) -> impl Iterator<Item = &Arc<str>> {
        self.types[ty].names.iter()
    }

    /// The next response to send, in the order of [`ResourceType`], or `None` when the client has
    /// been sent all that it follows, or must answer first.
    pub fn next_response(&mut self, catalogue: &impl Catalogue) -> Option<DiscoveryResponse> {
        for ty in ResourceType::ALL {
            let state = &mut self.types[ty];
            if state.in_flight.is_some() || !state.is_due() {
                continue;
            }
            let news = if is_complete(ty) {
                state.take_all(ty, catalogue)
            } else {
                state.take_changed(ty, catalogue)
            };
            let Some(news) = news else { continue };
            if ty == ResourceType::Cluster && self.resend_endpoints {
                self.types[ResourceType::Endpoints].resend(&news.changed);
            }
            return Some(self.respond(ty, news));
        }
        None
    }

    fn respond(&mut self, ty: ResourceType, news: News) -> DiscoveryResponse {
        self.nonces += 1;
        let nonce = self.nonces.to_string();
        let state = &mut self.types[ty];
        state.last_nonce = Some(nonce.clone());
        state.in_flight = Some(InFlight {
            since: news.since,
            resources: news.resources.len(),
        });
        DiscoveryResponse {
            version_info: version_of(&state.sent),
            resources: news
                .resources
                .iter()
                .map(|resource| resource.body.clone())
                .collect(),
            type_url: ty.url().to_owned(),
            nonce,
            ..DiscoveryResponse::default()
        }
    }
}

/// The content of one response.
struct News {
    resources: Vec<Arc<Encoded>>,
    /// The names among them that the client has not, or not in this version.
    changed: Vec<Arc<str>>,
    since: Option<Instant>,
}

impl TypeState {
    fn is_due(&self) -> bool {
        self.owed || !self.due.is_empty()
    }

    /// Follows exactly these names from now on. Gives the names added and the names dropped.
    fn follow(&mut self, ty: ResourceType, names: Vec<String>) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
        self.explicit |= !names.is_empty();
        let mut wildcard = !self.explicit && is_complete(ty);
        let mut wanted = BTreeSet::new();
        for name in names {
            if name == WILDCARD {
                wildcard = true;
            } else {
                wanted.insert(Arc::from(name));
            }
        }
        let added: Vec<_> = wanted.difference(&self.names).cloned().collect();
        let dropped: Vec<_> = self.names.difference(&wanted).cloned().collect();
        let starts_wildcard = wildcard && !self.wildcard;
        self.names = wanted;
        self.wildcard = wildcard;
        if !wildcard {
            self.sent.retain(|name, _| self.names.contains(name));
            self.due.retain(|name, _| self.names.contains(name));
        }
        for name in &added {
            self.due.entry(name.clone()).or_default();
            self.again.insert(name.clone());
        }
        self.owed |= starts_wildcard || (is_complete(ty) && !added.is_empty());
        (added, dropped)
    }

    /// Everything followed, if it differs from what was sent or a response is owed.
    fn take_all(&mut self, ty: ResourceType, catalogue: &impl Catalogue) -> Option<News> {
        let mut names = self.names.clone();
        if self.wildcard {
            names.extend(catalogue.names(ty));
        }
        let resources: Vec<_> = names
            .iter()
            .filter_map(|name| catalogue.find(ty, name))
            .collect();
        let changed = resources
            .iter()
            .filter(|resource| self.sent.get(&resource.name) != Some(&resource.version))
            .map(|resource| resource.name.clone())
            .collect();
        let sent = resources
            .iter()
            .map(|resource| (resource.name.clone(), resource.version.clone()))
            .collect();
        let owed = std::mem::take(&mut self.owed);
        let differs = self.sent != sent;
        self.sent = sent;
        self.again.clear();
        let since = std::mem::take(&mut self.due).into_values().flatten().min();
        (owed || differs).then_some(News {
            resources,
            changed,
            since,
        })
    }

    /// What is due and exists in a version that was not sent. What does not exist stays unanswered:
    /// the variant has no words for it, and the client's own timer decides.
    fn take_changed(&mut self, ty: ResourceType, catalogue: &impl Catalogue) -> Option<News> {
        self.owed = false;
        let mut news = News {
            resources: Vec::new(),
            changed: Vec::new(),
            since: None,
        };
        for (name, since) in std::mem::take(&mut self.due) {
            let again = self.again.remove(&name);
            let Some(resource) = catalogue.find(ty, &name) else {
                self.sent.remove(&name);
                continue;
            };
            let known = self.sent.insert(name.clone(), resource.version.clone());
            if again || known.as_ref() != Some(&resource.version) {
                news.since = news.since.into_iter().chain(since).min();
                news.changed.push(name);
                news.resources.push(resource);
            }
        }
        (!news.resources.is_empty()).then_some(news)
    }

    fn resend(&mut self, clusters: &[Arc<str>]) {
        for cluster in clusters {
            if self.names.contains(cluster) {
                self.due.entry(cluster.clone()).or_default();
                self.again.insert(cluster.clone());
            }
        }
    }
}

/// Whether a response of this type lists everything that the client follows (xDS protocol,
/// "Grouping resources into responses").
pub(super) fn is_complete(ty: ResourceType) -> bool {
    matches!(ty, ResourceType::Listener | ResourceType::Cluster)
}

/// One version for a set of resources, the same for every stream that has been sent the same: FNV-1a
/// over names and versions.
fn version_of(sent: &BTreeMap<Arc<str>, Arc<str>>) -> String {
    let bytes = sent
        .iter()
        .flat_map(|(name, version)| [name, version])
        .flat_map(|text| text.bytes().chain([0]));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}
