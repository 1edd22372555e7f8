//! What the delta and the state-of-the-world protocol have in common: resources ready for the wire,
//! where a server finds them, and how a client says that it refuses one.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use crate::{
    envoy::{
        envoy::service::discovery::v3::{
            DeltaDiscoveryResponse, Resource, ResourceError, ResourceName,
        },
        google::{protobuf::Any, rpc::Status},
    },
    resource::ResourceType,
};
use prost::{Message as _, Name as _, bytes::Bytes};

/// The name that subscribes to every resource of a type (xDS protocol, "Wildcard subscriptions").
pub const WILDCARD: &str = "*";

/// A resource as it goes on the wire, encoded once for all the streams that it goes to.
#[derive(Debug)]
pub struct Encoded {
    /// The name by which it is subscribed to.
    pub name: Arc<str>,
    /// Changes when, and only when, the resource does.
    pub version: Arc<str>,
    /// The encoded resource with its type URL.
    pub body: Any,
    alone: OnceLock<Alone>,
}

/// A delta response that bears one resource and nothing else, as most do that tell of a change: the same
/// bytes for every stream that it goes to.
#[derive(Debug)]
pub(crate) struct Alone {
    /// No two have the same. What was encoded later has a higher one.
    pub(crate) number: u64,
    /// With a nonce made of the number.
    pub(crate) message: Bytes,
}

impl Encoded {
    /// A resource that has not been sent to anybody yet.
    pub fn new(name: Arc<str>, version: Arc<str>, body: Any) -> Self {
        Self {
            name,
            version,
            body,
            alone: OnceLock::new(),
        }
    }

    pub(crate) fn on_the_wire(&self) -> Resource {
        Resource {
            name: self.name.to_string(),
            version: self.version.to_string(),
            resource: Some(self.body.clone()),
            ..Resource::default()
        }
    }

    /// The response that bears it alone, encoded when the first stream asks for it.
    pub(crate) fn alone(&self, nonce: impl FnOnce(u64) -> String) -> &Alone {
        /// Over all types and streams: a nonce has to be unique among those of a stream and a type only, but
        /// the streams that share a response have seen different ones before.
        static NUMBERS: AtomicU64 = AtomicU64::new(1);

        self.alone.get_or_init(|| {
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
            let response = DeltaDiscoveryResponse {
                resources: vec![self.on_the_wire()],
                type_url: self.body.type_url.clone(),
                nonce: nonce(number),
                ..DeltaDiscoveryResponse::default()
            };
            Alone {
                number,
                message: response.encode_to_vec().into(),
            }
        })
    }
}

/// The resources that a server has at one moment.
pub trait Catalogue {
    /// The resource of this name, or `None` when there is none.
    fn find(&self, ty: ResourceType, name: &Arc<str>) -> Option<Arc<Encoded>>;

    /// The names that a wildcard subscription stands for.
    fn names(&self, ty: ResourceType) -> Vec<Arc<str>>;
}

/// What a request meant.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The type that it was about.
    pub ty: ResourceType,
    /// Names that the stream did not follow before.
    pub subscribed: Vec<Arc<str>>,
    /// Names that the stream no longer follows by name; a wildcard may still cover them.
    pub unsubscribed: Vec<Arc<str>>,
    /// Its answer to an earlier response. `None` when it answered none, or one that no longer counts.
    pub answer: Option<Answer>,
}

/// What a request said of a response that the server sent before.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// When the oldest change in that response happened. `None` when it held no change, only what a
    /// new subscription asked for.
    pub since: Option<Instant>,
    /// How many resources (removals included) the response held.
    pub resources: usize,
    /// `None` for an ACK.
    pub nack: Option<Nack>,
}

/// A client's refusal of a response, or of some resources of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// The client's explanation.
    pub message: String,
    /// The resources that it refused, when it named them. Envoy and gRPC name them only in the message.
    pub resources: Vec<RefusedResource>,
}

/// One resource in a [`Nack`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedResource {
    /// Its name.
    pub name: String,
    /// The version that was refused. `None` where the response does not tell.
    pub version: Option<Arc<str>>,
    /// The field and the reason.
    pub message: String,
}

/// A client's reason to refuse one resource of a response. The last good version stays in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The resource.
    pub name: String,
    /// The path of the field at fault, for example `filter_chains[0].filters`.
    pub field: String,
    /// Why its value cannot be used.
    pub reason: String,
}

/// A message about a type of resource that Weft does not speak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the type URL {url:?} is none that Weft speaks")]
pub struct UnknownType {
    /// The type URL.
    pub url: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.name, self.field, self.reason)
    }
}

impl Nack {
    /// Reads the `error_detail` of a request that answers a response of these resources.
    pub(crate) fn from_status(status: Status, sent: &[Arc<Encoded>]) -> Self {
        let version = |name: &str| {
            let refused = sent.iter().find(|resource| &*resource.name == name)?;
            Some(refused.version.clone())
        };
        let resources = status
            .details
            .iter()
            .filter(|detail| detail.type_url == ResourceError::type_url())
            .filter_map(|detail| ResourceError::decode(detail.value.as_slice()).ok())
            .map(|error| {
                let name = error.resource_name.unwrap_or_default().name;
                RefusedResource {
                    version: version(&name),
                    name,
                    message: error.error_detail.unwrap_or_default().message,
                }
            })
            .collect();
        Self {
            message: status.message,
            resources,
        }
    }
}

/// The `error_detail` of a NACK: the message names every resource for people, the details name them
/// for programs.
pub(crate) fn error_detail(rejections: &[Rejection]) -> Option<Status> {
    /// `google.rpc.Code.INVALID_ARGUMENT`.
    const INVALID_ARGUMENT: i32 = 3;

    if rejections.is_empty() {
        return None;
    }
    let details = rejections
        .iter()
        .map(|rejection| ResourceError {
            resource_name: Some(ResourceName {
                name: rejection.name.clone(),
                dynamic_parameter_constraints: None,
            }),
            error_detail: Some(Status {
                code: INVALID_ARGUMENT,
                message: format!("{}: {}", rejection.field, rejection.reason),
                details: Vec::new(),
            }),
        })
        .map(|error| Any {
            type_url: ResourceError::type_url(),
            value: error.encode_to_vec(),
        })
        .collect();
    let message = rejections
        .iter()
        .map(Rejection::to_string)
        .collect::<Vec<_>>()
        .join("; ");
    Some(Status {
        code: INVALID_ARGUMENT,
        message,
        details,
    })
}

/// The type named by a URL, or an error that a caller can log.
pub(crate) fn resource_type(url: &str) -> Result<ResourceType, UnknownType> {
    ResourceType::from_url(url).ok_or_else(|| UnknownType {
        url: url.to_owned(),
    })
}

/// A value per resource type.
#[derive(Debug, Clone, Default)]
pub(crate) struct PerType<T>([T; ResourceType::ALL.len()]);

impl<T> std::ops::Index<ResourceType> for PerType<T> {
    type Output = T;

    fn index(&self, ty: ResourceType) -> &T {
        &self.0[ty as usize]
    }
}

impl<T> std::ops::IndexMut<ResourceType> for PerType<T> {
    fn index_mut(&mut self, ty: ResourceType) -> &mut T {
        &mut self.0[ty as usize]
    }
}

impl<T> PerType<T> {
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ResourceType, &mut T)> {
        ResourceType::ALL.into_iter().zip(&mut self.0)
    }
}
