//! Protobuf into domain types: the one place where the configuration is validated.
//!
//! One file per kind of resource. What cannot be honoured is refused with the resource, the field and the
//! reason; what makes no difference to the traffic is ignored. What decides about security (transport
//! sockets, filters, conditions of a match) is never ignored. References to other resources stay names:
//! [`super::assemble`] resolves them.

mod breaker;
pub mod cluster;
pub mod endpoints;
mod field;
pub mod listener;
mod retry;
pub mod route;
pub mod secret;

#[cfg(test)]
pub(super) mod tests;

pub use cluster::ClusterConfig;
pub use listener::Listener;
pub use route::Routes;

use field::Fault;
use std::fmt;
use weft_xds_proto::{envoy::google::protobuf::Any, exchange::Rejection, resource::ResourceType};

/// A resource that is refused: `Cluster "x": connect_timeout: must be > 0, got -1s`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// What kind of resource.
    pub ty: ResourceType,
    /// Its name.
    pub name: String,
    /// The path of the field, as it stands in the protobuf definition; empty for the whole.
    pub field: String,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: ", kind(self.ty), self.name)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Invalid {}

impl From<Invalid> for Rejection {
    fn from(invalid: Invalid) -> Self {
        Self {
            name: invalid.name,
            field: invalid.field,
            reason: invalid.reason,
        }
    }
}

impl Invalid {
    /// A resource that came without a body.
    pub(super) fn no_body(ty: ResourceType, name: &str) -> Self {
        Self {
            ty,
            name: name.to_owned(),
            field: String::new(),
            reason: "it has no body".to_owned(),
        }
    }
}

/// Decodes a resource and converts it. `name` is the name it is subscribed by; the one in its body must be
/// the same.
pub(super) fn resource<M: prost::Message + Default + prost::Name, T>(
    ty: ResourceType,
    name: &str,
    body: &Any,
    own_name: impl Fn(&M) -> &str,
    convert: impl Fn(M) -> Result<T, Fault>,
) -> Result<T, Invalid> {
    field::decode::<M>(body)
        .and_then(|message| {
            let own = own_name(&message);
            if own != name {
                return Err(Fault::new(format!("it calls itself {own:?}")).at("name"));
            }
            convert(message)
        })
        .map_err(|fault| Invalid {
            ty,
            name: name.to_owned(),
            field: fault.field,
            reason: fault.reason,
        })
}

fn kind(ty: ResourceType) -> &'static str {
    match ty {
        ResourceType::Secret => "Secret",
        ResourceType::Cluster => "Cluster",
        ResourceType::Endpoints => "ClusterLoadAssignment",
        ResourceType::Listener => "Listener",
        ResourceType::Route => "RouteConfiguration",
    }
}
