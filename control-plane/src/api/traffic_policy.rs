//! `TrafficPolicy`: how calls to a service or over a route are treated.
//!
//! A field says in its schema what it is worth without being written, what it may be, and which xDS field it becomes
//! (`x-weft-default`, `x-weft-becomes`): `docs/policy/traffic-policy.md` is made of that.

mod circuit_breaker;
mod connections;
mod fault;
mod limits;
mod load_balancer;
mod retry;

pub use circuit_breaker::{CircuitBreaker, FailureRatio, Failures, GrpcCode};
pub use connections::{Connections, Http2, TcpKeepalive};
pub use fault::{Abort, BackendRef, Delay, Fault, HeaderValue, Mirror};
pub use limits::{Adaptive, ConcurrencyLimit, RateLimit, RateLimitKey};
pub use load_balancer::{
    Algorithm, ConsistentHash, Cookie, LoadBalancer, PeakEwma, SlowStart, Zone,
};
pub use retry::{Backoff, Budget, Hedge, Retry, RetryAfter, RetryCondition};

use super::{Duration, schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::LazyLock;

/// How calls to a service or over a route are treated. What no policy says is as `MeshConfig.defaults` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.loadBalancer) || self.targetRefs.all(target, target.kind == 'Service')", "message": "is of a service as a whole, and a target is a route; write it in a policy for the service", "fieldPath": ".loadBalancer"},
    {"rule": "!has(self.connections) || self.targetRefs.all(target, target.kind == 'Service')", "message": "is of a service as a whole, and a target is a route; write it in a policy for the service", "fieldPath": ".connections"},
    {"rule": "!has(self.circuitBreaker) || self.targetRefs.all(target, target.kind == 'Service')", "message": "is of a service as a whole, and a target is a route; write it in a policy for the service", "fieldPath": ".circuitBreaker"},
    {"rule": "!has(self.retry) || !has(self.retry.budget) || self.targetRefs.all(target, target.kind == 'Service')", "message": "is of a service as a whole, and a target is a route; write it in a policy for the service", "fieldPath": ".retry.budget"},
    {"rule": "!has(self.retry) || !has(self.retry.perTryTimeout) || !has(self.timeout) || !has(self.timeout.request) || duration(self.timeout.request) == duration('0s') || duration(self.retry.perTryTimeout) <= duration(self.timeout.request)", "message": "is longer than a request may take with all its attempts; write no more than timeout.request", "fieldPath": ".retry.perTryTimeout"},
    {"rule": "self.targetRefs.all(target, self.targetRefs.exists_one(other, other.kind == target.kind && other.name == target.name && (has(other.sectionName) ? other.sectionName : '') == (has(target.sectionName) ? target.sectionName : '')))", "message": "a target stands there twice; remove one of them", "fieldPath": ".targetRefs"}
]))]
pub struct TrafficPolicySpec {
    /// What the policy is for: objects of its own namespace.
    #[schemars(length(min = 1, max = 16))]
    pub target_refs: Vec<TargetRef>,
    /// How an endpoint is chosen for a request or connection. For services only.
    #[schemars(extend("x-weft-default" = "as the mesh"))]
    pub load_balancer: Option<LoadBalancer>,
    /// Connections to endpoints, and limits that hold for one proxy and one service port. What passes a limit fails at
    /// once with 503, and is never held against an endpoint. For services only.
    #[schemars(extend("x-weft-default" = "as the mesh"))]
    pub connections: Option<Connections>,
    /// When an endpoint that fails is given a rest, and how it comes back. For services only.
    #[schemars(extend("x-weft-default" = "endpoints are never given a rest"))]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// What is tried again. Without it, that which certainly was not processed is, and nothing else.
    #[schemars(extend("x-weft-default" = "nothing else is tried again"))]
    pub retry: Option<Retry>,
    /// How long things may take.
    #[schemars(extend("x-weft-default" = "as the mesh"))]
    pub timeout: Option<Timeout>,
    /// How many requests each workload of the service takes: kept by the sidecar of the callee. On a route, each of its
    /// rules counts the requests that fit it as they arrive, after what callers' sidecars rewrite.
    #[schemars(extend("x-weft-default" = "no limit"))]
    pub rate_limit: Option<RateLimit>,
    /// How many requests may be under way at once in each workload of the service: kept by the sidecar of the callee, and
    /// on a route as rateLimit is.
    #[schemars(extend("x-weft-default" = "no limit"))]
    pub concurrency_limit: Option<ConcurrencyLimit>,
    /// Faults made on purpose, to see how callers bear them.
    #[schemars(extend("x-weft-default" = "none"))]
    pub fault: Option<Fault>,
    /// Copies of requests, whose answers are thrown away.
    #[schemars(extend("x-weft-default" = "none"))]
    pub mirror: Option<Mirror>,
}

impl TrafficPolicySpec {
    /// The schema of the type.
    pub fn schema() -> &'static Value {
        static SCHEMA: LazyLock<Value> = LazyLock::new(schema::of::<TrafficPolicySpec>);
        &SCHEMA
    }
}

/// An object of the policy's namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.group) || self.group == (self.kind == 'Service' ? '' : 'gateway.networking.k8s.io')", "message": "is not the group of the kind; leave it out", "fieldPath": ".group"},
    {"rule": "self.name.matches(self.kind == 'Service' ? '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$' : '^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')", "message": "is not a name of lower-case letters, digits and dashes (RFC 1123)", "fieldPath": ".name"},
    {"rule": "self.kind != 'Service' || !has(self.sectionName) || (self.sectionName.matches('^[0-9]+$') ? self.sectionName.matches('^[1-9][0-9]{0,4}$') && int(self.sectionName) <= 65535 : self.sectionName.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$'))", "message": "is not a port; write its name, or 1 to 65535 in quotes", "fieldPath": ".sectionName"}
]))]
pub struct TargetRef {
    /// The group of the kind.
    #[schemars(
        length(max = 253),
        example = &"gateway.networking.k8s.io",
        extend("x-weft-default" = "that of the kind")
    )]
    pub group: Option<String>,
    /// The kind.
    #[schemars(example = &"Service")]
    pub kind: TargetKind,
    /// The name.
    #[schemars(length(min = 1, max = 253), example = &"user")]
    pub name: String,
    /// A part of it, for which this policy comes before one of the whole: a port of a service by name or number, a rule
    /// of a route by name.
    #[schemars(
        length(min = 1, max = 253),
        example = &"http",
        extend("x-weft-default" = "all of it")
    )]
    pub section_name: Option<String>,
}

/// What a policy may be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TargetKind {
    /// Calls to a service, group "".
    Service,
    /// Requests that an HTTPRoute is for, group gateway.networking.k8s.io.
    #[serde(rename = "HTTPRoute")]
    HttpRoute,
    /// Requests that a GRPCRoute is for, group gateway.networking.k8s.io.
    #[serde(rename = "GRPCRoute")]
    GrpcRoute,
}

/// How long things may take.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Timeout {
    /// From the end of a request to the end of its response, with all attempts; 0s for ever. Answered with 504 or
    /// DEADLINE_EXCEEDED. A gRPC call is held to what is written here, from its beginning, and not to the default: it
    /// may stream for as long as its caller likes.
    #[schemars(
        example = &"3s",
        extend(
            "x-weft-default" = "`MeshConfig.defaults.requestTimeout`, 15s",
            "x-weft-becomes" = "RouteAction.timeout; RouteAction.max_stream_duration.grpc_timeout_header_max, Envoy: max_grpc_timeout"
        )
    )]
    pub request: Option<Duration>,
    /// No byte in either direction of an HTTP stream; 0s for ever.
    #[schemars(
        example = &"1h",
        extend(
            "x-weft-default" = "`MeshConfig.defaults.idleTimeout`, 5m",
            "x-weft-becomes" = "RouteAction.idle_timeout"
        )
    )]
    pub idle: Option<Duration>,
}
