//! Faults made on purpose, and copies of requests.

use super::GrpcCode;
use crate::api::{Duration, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Faults made on purpose. At least one of delay and abort.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.delay) || has(self.abort)", "message": "does nothing; write delay or abort"},
    {"rule": "self.headers.all(header, self.headers.exists_one(other, other.name.lowerAscii() == header.name.lowerAscii()))", "message": "a name stands there twice; remove one of them", "fieldPath": ".headers"}
]))]
pub struct Fault {
    /// Requests that are held back.
    #[schemars(extend("x-weft-default" = "none"))]
    pub delay: Option<Delay>,
    /// Requests that fail.
    #[schemars(extend("x-weft-default" = "none"))]
    pub abort: Option<Abort>,
    /// Only requests that have all of these headers.
    #[schemars(length(max = 16), extend("x-weft-default" = "all requests"))]
    pub headers: Vec<HeaderValue>,
}

/// Requests that are held back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Delay {
    /// How many of them.
    #[serde(default = "all")]
    #[schemars(
        example = 10,
        extend("x-weft-becomes" = "typed_per_filter_config HTTPFault.delay.percentage")
    )]
    pub percent: Percent,
    /// How long.
    #[schemars(
        example = &"100ms",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-maximum" = "1h",
            "x-weft-becomes" = "typed_per_filter_config HTTPFault.delay.fixed_delay"
        )
    )]
    pub duration: Duration,
}

/// Requests that fail. One of status and grpcStatus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.status) != has(self.grpcStatus)", "message": "does not say with what, or says it in two ways; write one of status and grpcStatus"}
]))]
pub struct Abort {
    /// How many of them.
    #[serde(default = "all")]
    #[schemars(
        example = 1,
        extend("x-weft-becomes" = "typed_per_filter_config HTTPFault.abort.percentage")
    )]
    pub percent: Percent,
    /// With this HTTP status.
    #[schemars(
        range(min = 200, max = 599),
        example = 503,
        extend(
            "x-weft-default" = "none",
            "x-weft-becomes" = "typed_per_filter_config HTTPFault.abort.http_status"
        )
    )]
    pub status: Option<u16>,
    /// With this gRPC status.
    #[schemars(
        example = &"UNAVAILABLE",
        extend(
            "x-weft-default" = "none",
            "x-weft-becomes" = "typed_per_filter_config HTTPFault.abort.grpc_status"
        )
    )]
    pub grpc_status: Option<GrpcCode>,
}

/// A header with a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HeaderValue {
    /// The name.
    #[schemars(
        length(min = 1, max = 256),
        example = &"x-chaos",
        extend("x-kubernetes-validations" = [
    {"rule": "self.matches('^[!#$%&\\'*+.^_`|~0-9A-Za-z-]+$')", "message": "is not the name of a header; write letters, digits and dashes"}
]),
        extend("x-weft-becomes" = "typed_per_filter_config HTTPFault.headers.name")
    )]
    pub name: String,
    /// The whole value.
    #[schemars(
        length(max = 4096),
        example = &"yes",
        extend(
            "x-weft-becomes" = "typed_per_filter_config HTTPFault.headers.string_match.exact"
        )
    )]
    pub value: String,
}

/// Copies of requests, whose answers are thrown away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Mirror {
    /// Where the copies go.
    pub backend_ref: BackendRef,
    /// How many requests are copied.
    #[serde(default = "all")]
    #[schemars(
        example = 10,
        extend("x-weft-becomes" = "RouteAction.request_mirror_policies.runtime_fraction")
    )]
    pub percent: Percent,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')", "message": "is not a name of lower-case letters, digits and dashes (RFC 1123)", "fieldPath": ".name"},
    {"rule": "!has(self.__namespace__) || self.__namespace__.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')", "message": "is not a name of lower-case letters, digits and dashes (RFC 1123)", "fieldPath": ".namespace"}
]))]
pub struct BackendRef {
    /// The name of the service.
    #[schemars(
        length(min = 1, max = 63),
        example = &"user-canary",
        extend("x-weft-becomes" = "RouteAction.request_mirror_policies.cluster")
    )]
    pub name: String,
    /// Its namespace. Another than the policy's must have a ReferenceGrant for TrafficPolicies of this namespace.
    #[schemars(
        length(min = 1, max = 63),
        example = &"lab",
        extend("x-weft-default" = "the policy's")
    )]
    pub namespace: Option<String>,
    /// The port by number.
    #[schemars(range(min = 1, max = 65535), example = 80)]
    pub port: u16,
}

fn all() -> Percent {
    Percent(100.0)
}
