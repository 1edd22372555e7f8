//! The kinds of Gateway API that a mesh reads, group `gateway.networking.k8s.io`, version 1.3.
//!
//! Every field of the API is known by name, so that what Weft does not do is refused and never passed over. Written
//! by hand: the crate of the API's types is bound to a client of Kubernetes. Fields that Weft has no use for are
//! taken as they come ([`serde_json::Value`]).

mod grpc_route;
mod http_route;
mod reference_grant;

pub use grpc_route::{GrpcFilter, GrpcMatch, GrpcMethodMatch, GrpcRouteRule, GrpcRouteSpec};
pub use http_route::{
    Fraction, HeaderModifier, HttpFilter, HttpMatch, HttpRouteRule, HttpRouteSpec, NameValue,
    PathMatch, PathModifier, RequestMirror, RequestRedirect, Retry, Timeouts, UrlRewrite,
    ValueMatch,
};
pub use reference_grant::{GrantFrom, GrantTo, ReferenceGrantSpec};

use serde::Deserialize;
use serde_json::Value;

/// The group of every kind here.
pub const GROUP: &str = "gateway.networking.k8s.io";

/// Who a route is for (`ParentReference`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ParentRef {
    /// The group of the kind; absent: [`GROUP`]. Services are of the group "".
    pub group: Option<String>,
    /// The kind; absent: `Gateway`.
    pub kind: Option<String>,
    /// The namespace; absent: the route's.
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// The name of a port of a service.
    pub section_name: Option<String>,
    /// The number of a port of a service.
    pub port: Option<i32>,
}

/// Who serves requests (`HTTPBackendRef` and `GRPCBackendRef`).
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendRef {
    /// The group of the kind; absent: the core's, "".
    pub group: Option<String>,
    /// The kind; absent: `Service`.
    pub kind: Option<String>,
    /// The name.
    pub name: String,
    /// The namespace; absent: the route's.
    pub namespace: Option<String>,
    /// The port by number; required of a service.
    pub port: Option<i32>,
    /// Its part of the sum of all weights; absent: 1.
    pub weight: Option<i32>,
    /// What is done to requests to this backend only.
    pub filters: Option<Vec<Value>>,
}
