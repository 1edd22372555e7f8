//! `GRPCRoute`.

use super::{
    BackendRef, ParentRef,
    http_route::{HeaderModifier, RequestMirror, ValueMatch},
};
use serde::Deserialize;
use serde_json::Value;

/// `GRPCRouteSpec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// Who the route is for.
    pub parent_refs: Vec<ParentRef>,
    /// The hosts of requests that it is for; empty: any.
    pub hostnames: Vec<String>,
    /// Its rules.
    pub rules: Vec<GrpcRouteRule>,
}

/// `GRPCRouteRule`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcRouteRule {
    /// Its name.
    pub name: Option<String>,
    /// Requests that any of these fits; empty: all.
    pub matches: Vec<GrpcMatch>,
    /// What is done to requests and answers.
    pub filters: Vec<GrpcFilter>,
    /// Who serves them.
    pub backend_refs: Vec<BackendRef>,
    /// Not supported.
    pub session_persistence: Option<Value>,
}

/// `GRPCRouteMatch`: all of it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcMatch {
    /// The method; absent: any.
    pub method: Option<GrpcMethodMatch>,
    /// Headers.
    pub headers: Vec<ValueMatch>,
}

/// `GRPCMethodMatch`: service, method, or both.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcMethodMatch {
    /// `Exact` or `RegularExpression`; absent: `Exact`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The service, `demo.v1.Users`; absent: any.
    pub service: Option<String>,
    /// Its method; absent: any.
    pub method: Option<String>,
}

/// `GRPCRouteFilter`: the field that its type names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrpcFilter {
    /// `RequestHeaderModifier`, `ResponseHeaderModifier` or `RequestMirror`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Changes of the request's headers.
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes of the answer's headers.
    pub response_header_modifier: Option<HeaderModifier>,
    /// A copy elsewhere.
    pub request_mirror: Option<RequestMirror>,
    /// Not supported.
    pub extension_ref: Option<Value>,
}
