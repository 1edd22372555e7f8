//! `HTTPRoute`.

use super::{BackendRef, ParentRef};
use crate::api::Duration;
use serde::Deserialize;
use serde_json::Value;

/// `HTTPRouteSpec`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// Who the route is for.
    pub parent_refs: Vec<ParentRef>,
    /// The hosts of requests that it is for; empty: any.
    pub hostnames: Vec<String>,
    /// Its rules; absent: one that is for everything.
    pub rules: Option<Vec<HttpRouteRule>>,
}

/// `HTTPRouteRule`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Its name.
    pub name: Option<String>,
    /// Requests that any of these fits; empty: all.
    pub matches: Vec<HttpMatch>,
    /// What is done to requests and answers.
    pub filters: Vec<HttpFilter>,
    /// Who serves them.
    pub backend_refs: Vec<BackendRef>,
    /// How long they may take.
    pub timeouts: Option<Timeouts>,
    /// What is tried again.
    pub retry: Option<Retry>,
    /// Not supported.
    pub session_persistence: Option<Value>,
}

/// `HTTPRouteMatch`: all of it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpMatch {
    /// The path; absent: the prefix `/`.
    pub path: Option<PathMatch>,
    /// Headers.
    pub headers: Vec<ValueMatch>,
    /// Query parameters.
    pub query_params: Vec<ValueMatch>,
    /// The method.
    pub method: Option<String>,
}

/// `HTTPPathMatch`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathMatch {
    /// `Exact`, `PathPrefix` or `RegularExpression`; absent: `PathPrefix`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Absent: `/`.
    pub value: Option<String>,
}

/// `HTTPHeaderMatch`, `HTTPQueryParamMatch` and `GRPCHeaderMatch`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValueMatch {
    /// `Exact` or `RegularExpression`; absent: `Exact`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// `HTTPRouteFilter`: the field that its type names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpFilter {
    /// `RequestHeaderModifier`, `ResponseHeaderModifier`, `RequestMirror`, `RequestRedirect` or `URLRewrite`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Changes of the request's headers.
    pub request_header_modifier: Option<HeaderModifier>,
    /// Changes of the answer's headers.
    pub response_header_modifier: Option<HeaderModifier>,
    /// A copy elsewhere.
    pub request_mirror: Option<RequestMirror>,
    /// An answer that names another place.
    pub request_redirect: Option<RequestRedirect>,
    /// Changes of host and path.
    pub url_rewrite: Option<UrlRewrite>,
    /// Not supported.
    pub cors: Option<Value>,
    /// Not supported.
    pub external_auth: Option<Value>,
    /// Not supported.
    pub extension_ref: Option<Value>,
}

/// `HTTPHeaderFilter`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderModifier {
    /// Put in the place of what is there.
    pub set: Vec<NameValue>,
    /// Put beside what is there.
    pub add: Vec<NameValue>,
    /// Taken away.
    pub remove: Vec<String>,
}

/// `HTTPHeader`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameValue {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// `HTTPRequestMirrorFilter`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RequestMirror {
    /// Where the copies go.
    pub backend_ref: BackendRef,
    /// How many requests of 100 are copied; absent: all.
    pub percent: Option<i32>,
    /// The same, as a fraction.
    pub fraction: Option<Fraction>,
}

/// `Fraction`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fraction {
    /// So many...
    pub numerator: i32,
    /// ...of so many; absent: 100.
    pub denominator: Option<i32>,
}

/// `HTTPRequestRedirectFilter`. What is absent is the request's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RequestRedirect {
    /// `http` or `https`.
    pub scheme: Option<String>,
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
    /// The port.
    pub port: Option<i32>,
    /// 301, 302, 303, 307 or 308; absent: 302.
    pub status_code: Option<i32>,
}

/// `HTTPURLRewriteFilter`. What is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct UrlRewrite {
    /// The host.
    pub hostname: Option<String>,
    /// The path.
    pub path: Option<PathModifier>,
}

/// `HTTPPathModifier`: the field that its type names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PathModifier {
    /// `ReplaceFullPath` or `ReplacePrefixMatch`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The whole path.
    pub replace_full_path: Option<String>,
    /// What the matched prefix becomes.
    pub replace_prefix_match: Option<String>,
}

/// `HTTPRouteTimeouts`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Timeouts {
    /// From the request to the end of its answer, with all attempts; 0s: for ever.
    pub request: Option<Duration>,
    /// One attempt; 0s: for ever. Not longer than the request's.
    pub backend_request: Option<Duration>,
}

/// `HTTPRouteRetry` (GEP-1731).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// Statuses that are tried again, 400 to 599.
    pub codes: Vec<i32>,
    /// How often a request is tried again, at most.
    pub attempts: Option<i32>,
    /// The least time before that.
    pub backoff: Option<Duration>,
}
