//! Translation: a pure function from the world to the xDS resources of a dialect.
//!
//! Owns: which resources there are, what is in them, their versions, and which of them a change may
//! affect. Does not own: who subscribed to what, or how it travels (the ADS server).

mod affected;
mod cluster;
mod dialect;
mod endpoints;
mod filter;
mod inbound;
mod name;
mod outbound;
mod proto;
mod route;
mod secret;

pub use affected::{Affected, affected};
pub use dialect::{Dialect, Envoy};

use crate::world::World;
use cluster::Cluster;
use endpoints::Endpoints;
use inbound::Inbound;
use outbound::{Gateway, Outbound, Target};
use prost::Message;
use route::{AllRoutes, OUTBOUND, Routes};
use secret::Roots;
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};
use weft_xds_proto::{names::ROOT_SECRET, resource::ResourceType};
use xxhash_rust::xxh3::Xxh3Default;

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
    let kind = match (ty, dialect) {
        (ResourceType::Secret, _) => Roots::plan(world, name).map(Kind::Roots),
        (ResourceType::Cluster, _) => Cluster::plan(world, dialect, name)
            .map(Box::new)
            .map(Kind::Cluster),
        (ResourceType::Endpoints, _) => Endpoints::plan(world, dialect, name).map(Kind::Endpoints),
        (ResourceType::Listener, Dialect::Weft) => Inbound::plan(world, name)
            .map(Kind::Inbound)
            .or_else(|| Outbound::plan(world, name).map(Kind::Outbound)),
        (ResourceType::Listener, Dialect::Grpc) => Target::plan(world, name).map(Kind::Target),
        (ResourceType::Listener, Dialect::Envoy(envoy)) => {
            Gateway::plan(world, envoy, name).map(Kind::Gateway)
        }
        (ResourceType::Route, Dialect::Weft | Dialect::Grpc) => {
            Routes::plan(world, dialect, name).map(Kind::Routes)
        }
        (ResourceType::Route, Dialect::Envoy(_)) => {
            AllRoutes::plan(world, name).map(Kind::AllRoutes)
        }
    };
    kind.map(Plan)
}

/// The names of the resources that a wildcard subscription covers, in order. Only Envoy has them:
/// Weft proxies and gRPC clients ask by name.
pub fn names(world: &World, dialect: &Dialect, ty: ResourceType) -> Vec<Arc<str>> {
    if !matches!(dialect, Dialect::Envoy(_)) {
        return Vec::new();
    }
    match ty {
        ResourceType::Secret => world
            .roots()
            .map(|_| ROOT_SECRET.into())
            .into_iter()
            .collect(),
        ResourceType::Listener | ResourceType::Route => vec![OUTBOUND.into()],
        ResourceType::Cluster | ResourceType::Endpoints => world
            .services()
            .into_iter()
            .flat_map(|service| {
                let canonical = |port| name::canonical(world, service, port);
                service.ports.iter().map(canonical)
            })
            .collect(),
    }
}

/// What a resource is built from: equal plans of one build render to equal resources.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Plan(Kind);

impl Plan {
    /// The version of the resource: a hash of the plan.
    pub fn version(&self) -> Arc<str> {
        let mut hasher = Xxh3Default::new();
        (RENDER_REVISION, self).hash(&mut hasher);
        format!("{:016x}", hasher.finish()).into()
    }

    /// Builds and encodes the resource.
    pub fn render(&self) -> Rendered {
        let value = match &self.0 {
            Kind::Roots(plan) => plan.message().encode_to_vec(),
            Kind::Cluster(plan) => plan.message().encode_to_vec(),
            Kind::Endpoints(plan) => plan.message().encode_to_vec(),
            Kind::Inbound(plan) => plan.message().encode_to_vec(),
            Kind::Outbound(plan) => plan.message().encode_to_vec(),
            Kind::Target(plan) => plan.message().encode_to_vec(),
            Kind::Gateway(plan) => plan.message().encode_to_vec(),
            Kind::Routes(plan) => plan.message().encode_to_vec(),
            Kind::AllRoutes(plan) => plan.message().encode_to_vec(),
        };
        Rendered {
            version: self.version(),
            value: value.into(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    Roots(Roots),
    Cluster(Box<Cluster>),
    Endpoints(Endpoints),
    Inbound(Inbound),
    Outbound(Outbound),
    Target(Target),
    Gateway(Gateway),
    Routes(Routes),
    AllRoutes(AllRoutes),
}

/// Part of every version: to be raised when the same plan comes to be rendered differently.
const RENDER_REVISION: u32 = 2;

#[cfg(test)]
mod tests;
