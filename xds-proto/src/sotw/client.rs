//! The client's end of a state-of-the-world session, which outlives its streams.

use std::collections::BTreeSet;

use super::server::is_complete;
use crate::{
    envoy::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{DiscoveryRequest, DiscoveryResponse},
        },
        google::protobuf::Any,
    },
    exchange::{PerType, Rejection, UnknownType, WILDCARD, error_detail, resource_type},
    resource::ResourceType,
};

/// What a client follows, and what it has yet to tell the server. Used like
/// [`delta::Client`](crate::delta::Client).
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
    /// The resources. Their names are inside: only the caller can decode them.
    pub resources: Vec<Any>,
    /// To be given back with the verdict.
    pub pending: Pending,
}

/// A response that has not been answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the server waits for an answer to each response"]
pub struct Pending {
    ty: ResourceType,
    nonce: String,
    version: String,
    stream: u64,
}

#[derive(Debug, Default)]
struct TypeState {
    followed: BTreeSet<String>,
    /// The names of resources in force.
    held: BTreeSet<String>,
    /// The version of the last response that was accepted as a whole.
    version: String,
    nonce: String,
    error: Option<crate::envoy::google::rpc::Status>,
    due: bool,
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

    /// Follows a resource, or with [`WILDCARD`] every resource of the type.
    pub fn subscribe(&mut self, ty: ResourceType, name: &str) -> bool {
        let state = &mut self.types[ty];
        let new = state.followed.insert(name.to_owned());
        state.due |= new;
        new
    }

    /// No longer follows a resource.
    pub fn unsubscribe(&mut self, ty: ResourceType, name: &str) -> bool {
        let state = &mut self.types[ty];
        let followed = state.followed.remove(name);
        state.due |= followed;
        if followed && !state.followed.contains(WILDCARD) {
            state.held.retain(|name| state.followed.contains(name));
        }
        followed
    }

    /// Says that the stream is gone. The next requests open a new one.
    pub fn disconnected(&mut self) {
        self.streams += 1;
        self.introduced = false;
        for (_, state) in self.types.iter_mut() {
            state.nonce.clear();
            state.error = None;
            state.due = !state.followed.is_empty();
        }
    }

    /// The next request to send, or `None` when the server knows everything. It always bears all
    /// names: the variant has no increments.
    pub fn next_request(&mut self) -> Option<DiscoveryRequest> {
        let (ty, state) = self.types.iter_mut().find(|(_, state)| state.due)?;
        state.due = false;
        let mut request = DiscoveryRequest {
            version_info: state.version.clone(),
            resource_names: state.followed.iter().cloned().collect(),
            type_url: ty.url().to_owned(),
            response_nonce: state.nonce.clone(),
            error_detail: state.error.take(),
            ..DiscoveryRequest::default()
        };
        if !std::mem::replace(&mut self.introduced, true) {
            request.node = Some(self.node.clone());
        }
        Some(request)
    }

    /// Takes in a response.
    ///
    /// Errors when its type is unknown; the stream stays usable.
    pub fn receive(&mut self, response: DiscoveryResponse) -> Result<Update, UnknownType> {
        Ok(Update {
            resources: response.resources,
            pending: Pending {
                ty: resource_type(&response.type_url)?,
                nonce: response.nonce,
                version: response.version_info,
                stream: self.streams,
            },
        })
    }

    /// Answers a response that held the resources of these names: with an ACK when nothing is
    /// rejected, else with a NACK. Gives the names that are gone because a complete list lacks them.
    pub fn answer<'a>(
        &mut self,
        pending: Pending,
        names: impl IntoIterator<Item = &'a str>,
        rejections: &[Rejection],
    ) -> Vec<String> {
        let state = &mut self.types[pending.ty];
        let names: BTreeSet<&str> = names.into_iter().collect();
        let gone: Vec<String> = if is_complete(pending.ty) {
            state
                .held
                .iter()
                .filter(|name| !names.contains(name.as_str()))
                .cloned()
                .collect()
        } else {
            Vec::new()
        };
        for name in &gone {
            state.held.remove(name);
        }
        let accepted = names
            .into_iter()
            .filter(|name| !rejections.iter().any(|rejection| rejection.name == *name))
            .filter(|name| state.followed.contains(*name) || state.followed.contains(WILDCARD));
        state.held.extend(accepted.map(str::to_owned));
        if pending.stream == self.streams {
            state.nonce = pending.nonce;
            state.error = error_detail(rejections);
            if rejections.is_empty() {
                state.version = pending.version;
            }
            state.due = true;
        }
        gone
    }
}

impl Pending {
    /// The type that the response was about.
    pub fn ty(&self) -> ResourceType {
        self.ty
    }
}
