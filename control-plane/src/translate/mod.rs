//! Translation: a pure function from the world to the xDS resources of a dialect.
//!
//! Owns: which resources there are, what is in them, their versions, and which of them a change may
//! affect. Does not own: who subscribed to what, or how it travels (the ADS server).

mod affected;
mod dialect;
mod envoy;
mod name;

pub use affected::{Affected, affected};
pub use dialect::{Dialect, Envoy};

use crate::world::World;
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};
use weft_xds_proto::{names::ROOT_SECRET, resource::ResourceType};

/// A resource, encoded once for every stream of a dialect.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Its version: a hash of what it was built from, the same in every run of the same build.
    pub version: Arc<str>,
    /// The encoded message; its type is [`ResourceType::url`].
    pub value: bytes::Bytes,
}

impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendered")
            .field("version", &self.version)
            .field("bytes", &self.value.len())
            .finish()
    }
}

/// The resource of a type and a name, if there is one in this world and dialect.
pub fn render(world: &World, dialect: &Dialect, ty: ResourceType, name: &str) -> Option<Rendered> {
    plan(world, dialect, ty, name).map(|plan| plan.render())
}

/// What the resource of a type and a name would be built from, if there is one in this world and
/// dialect. A change of the world that leaves the plan alone leaves the resource alone: compare
/// [`Plan::version`] before paying for [`Plan::render`].
pub fn plan(world: &World, dialect: &Dialect, ty: ResourceType, name: &str) -> Option<Plan> {
    let resource = match ty {
        ResourceType::Secret => (name == ROOT_SECRET)
            .then(|| world.roots().cloned())
            .flatten()
            .map(Resource::Roots),
        _ => None,
    };
    let _ = dialect;
    resource.map(Plan)
}

/// The names of the resources that a wildcard subscription covers, in order. Only Envoy has them:
/// Weft proxies and gRPC clients ask by name.
pub fn names(world: &World, dialect: &Dialect, ty: ResourceType) -> Vec<Arc<str>> {
    let _ = (world, dialect, ty);
    Vec::new()
}

/// What a resource is built from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Plan(Resource);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Resource {
    Roots(Arc<str>),
}

impl Plan {
    /// The version of the resource: a hash of the plan.
    pub fn version(&self) -> Arc<str> {
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        (RENDER_REVISION, self).hash(&mut hasher);
        format!("{:016x}", hasher.finish()).into()
    }

    /// Builds and encodes the resource.
    pub fn render(&self) -> Rendered {
        Rendered {
            version: self.version(),
            value: bytes::Bytes::new(),
        }
    }
}

/// Part of every version: to be raised when the same plan comes to be rendered differently.
const RENDER_REVISION: u32 = 1;
