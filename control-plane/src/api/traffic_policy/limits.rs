//! How much a workload takes.

use crate::api::Duration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A token bucket, or one for each caller. What is over is answered with 429 and Retry-After, or RESOURCE_EXHAUSTED.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimit {
    /// So many requests in the time of `per`.
    #[schemars(
        range(min = 1, max = 1000000000),
        example = 100,
        extend(
            "x-weft-becomes" = "HTTP filter weft.v1.RateLimit rules.limit.requests, on the inbound listener"
        )
    )]
    pub requests: u32,
    /// The time.
    #[serde(default = "per")]
    #[schemars(
        example = &"1m",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-maximum" = "24h",
            "x-weft-becomes" = "HTTP filter weft.v1.RateLimit rules.limit.per"
        )
    )]
    pub per: Duration,
    /// So many at once after a pause.
    #[schemars(
        range(min = 1, max = 1000000000),
        example = 200,
        extend(
            "x-weft-default" = "as many as `requests`",
            "x-weft-becomes" = "HTTP filter weft.v1.RateLimit rules.limit.burst"
        )
    )]
    pub burst: Option<u32>,
    /// What tells callers apart: those that agree in all of it share a bucket. Without it, all callers do.
    #[serde(default)]
    #[schemars(
        length(max = 4),
        example = ["Identity"],
        extend("x-weft-becomes" = "HTTP filter weft.v1.RateLimit rules.limit.by")
    )]
    pub by: Vec<RateLimitKey>,
    /// Buckets that are told apart; of more, those that are full are forgotten, and else new callers share one.
    #[serde(default = "maximum_keys")]
    #[schemars(
        range(min = 1, max = 1000000),
        example = 1000,
        extend("x-weft-becomes" = "HTTP filter weft.v1.RateLimit rules.limit.maximum_keys")
    )]
    pub maximum_keys: u32,
}

fn per() -> Duration {
    Duration::from_secs(1)
}

fn maximum_keys() -> u32 {
    10_000
}

/// What tells callers apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-weft-write" = "Identity, SourceAddress, or {header: <name>}"))]
pub enum RateLimitKey {
    /// The SPIFFE identity. Callers without one share a bucket.
    Identity,
    /// The address.
    SourceAddress,
    /// The value of a header.
    #[serde(rename = "header")]
    Header(#[schemars(length(min = 1, max = 256))] String),
}

/// How many requests may be under way at once. What is over is answered with 503, or UNAVAILABLE. One of `maximum` and
/// `adaptive`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "has(self.maximum) != has(self.adaptive)", "message": "limits nothing or in two ways; write one of maximum and adaptive"}
]))]
pub struct ConcurrencyLimit {
    /// So many requests.
    #[schemars(
        range(min = 1, max = 1000000),
        example = 100,
        extend(
            "x-weft-default" = "none",
            "x-weft-becomes" = "HTTP filter weft.v1.ConcurrencyLimit rules.maximum, on the inbound listener"
        )
    )]
    pub maximum: Option<u32>,
    /// As many as do not make the workload slow.
    #[schemars(extend("x-weft-default" = "none"))]
    pub adaptive: Option<Adaptive>,
}

/// A limit that follows the latency of the workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.minimum <= self.maximum", "message": "is less than minimum; write as much or more", "fieldPath": ".maximum"}
]))]
pub struct Adaptive {
    /// Always so many.
    #[schemars(
        range(min = 1, max = 1000000),
        example = 5,
        extend("x-weft-becomes" = "HTTP filter weft.v1.ConcurrencyLimit rules.adaptive.minimum")
    )]
    pub minimum: u32,
    /// Never more; not less than minimum.
    #[schemars(
        range(min = 1, max = 1000000),
        example = 500,
        extend("x-weft-becomes" = "HTTP filter weft.v1.ConcurrencyLimit rules.adaptive.maximum")
    )]
    pub maximum: u32,
}

impl Default for Adaptive {
    fn default() -> Self {
        Self {
            minimum: 10,
            maximum: 1000,
        }
    }
}
