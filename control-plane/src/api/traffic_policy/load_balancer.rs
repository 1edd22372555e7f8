//! How an endpoint is chosen.

use crate::api::{Duration, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an endpoint is chosen for a request or connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.peakEwma) || !has(self.algorithm) || self.algorithm == 'PeakEwma'", "message": "does not go with this algorithm; remove it, or write algorithm: PeakEwma", "fieldPath": ".peakEwma"},
    {"rule": "!has(self.consistentHash) || (has(self.algorithm) && self.algorithm in ['RingHash', 'Maglev'])", "message": "does not go with this algorithm; remove it, or write algorithm: RingHash or Maglev", "fieldPath": ".consistentHash"},
    {"rule": "!has(self.algorithm) || !(self.algorithm in ['RingHash', 'Maglev']) || has(self.consistentHash)", "message": "is missing; write the header, cookie, queryParameter or sourceAddress to go by", "fieldPath": ".consistentHash"},
    {"rule": "!has(self.slowStart) || !has(self.algorithm) || !(self.algorithm in ['Random', 'RingHash', 'Maglev'])", "message": "does not go with this algorithm; remove it, or write PeakEwma, LeastRequest, RoundRobin or WeightedRoundRobin", "fieldPath": ".slowStart"},
    {"rule": "!has(self.algorithm) || self.algorithm != 'RingHash' || !has(self.consistentHash) || self.consistentHash.minimumRingSize <= self.consistentHash.maximumRingSize", "message": "is less than minimumRingSize; write as much or more", "fieldPath": ".consistentHash.maximumRingSize"}
]))]
pub struct LoadBalancer {
    /// How an endpoint is chosen.
    #[schemars(
        example = &"RoundRobin",
        extend(
            "x-weft-default" = "`MeshConfig.defaults.loadBalancer`, PeakEwma",
            "x-weft-becomes" = "Cluster.load_balancing_policy: envoy.extensions.load_balancing_policies.{round_robin, least_request, random, ring_hash, maglev}.v3; WeightedRoundRobin is round_robin with endpoints' load_balancing_weight; PeakEwma is weft.v1.PeakEwma, then least_request for who does not know that"
        )
    )]
    pub algorithm: Option<Algorithm>,
    /// Settings of PeakEwma.
    #[schemars(extend("x-weft-default" = "as below"))]
    pub peak_ewma: Option<PeakEwma>,
    /// What RingHash and Maglev go by. One of header, cookie, queryParameter and sourceAddress.
    #[schemars(extend("x-weft-default" = "none; required by RingHash and Maglev"))]
    pub consistent_hash: Option<ConsistentHash>,
    /// A new endpoint comes to its full share slowly. For PeakEwma, LeastRequest, RoundRobin and WeightedRoundRobin.
    #[schemars(extend("x-weft-default" = "full share at once"))]
    pub slow_start: Option<SlowStart>,
    /// Whether endpoints of the caller's zone are preferred.
    #[schemars(
        example = &"Prefer",
        extend(
            "x-weft-becomes" = "Cluster.metadata weft.v1.ServiceMetadata.zone_preference; Envoy: locality_lb_config.zone_aware_lb_config of the policy, not for RingHash and Maglev"
        )
    )]
    pub zone: Zone,
    /// With fewer percent of the endpoints admitted by their breakers, breakers are ignored: some answer beats none.
    #[schemars(
        example = 30,
        extend("x-weft-becomes" = "Cluster.common_lb_config.healthy_panic_threshold")
    )]
    pub panic_threshold: Percent,
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self {
            algorithm: None,
            peak_ewma: None,
            consistent_hash: None,
            slow_start: None,
            zone: Zone::Off,
            panic_threshold: Percent(50.0),
        }
    }
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// Of two at random, the lower latency times load.
    PeakEwma,
    /// Of two at random, the fewer requests in flight.
    LeastRequest,
    /// In turn.
    RoundRobin,
    /// In turn, by the weight of each pod (annotation `weft.dev/weight`), spread evenly.
    WeightedRoundRobin,
    /// At random, by weight.
    Random,
    /// By a consistent hash over a ring, by weight.
    RingHash,
    /// By a consistent hash over a table, by weight.
    Maglev,
}

/// Settings of PeakEwma.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PeakEwma {
    /// The time in which an old peak of latency loses all but 1/e of its weight.
    #[schemars(
        example = &"5s",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-maximum" = "1h",
            "x-weft-becomes" = "weft.v1.PeakEwma.decay"
        )
    )]
    pub decay: Duration,
    /// The latency assumed of an endpoint never used.
    #[schemars(
        example = &"100ms",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-maximum" = "1h",
            "x-weft-becomes" = "weft.v1.PeakEwma.default_rtt"
        )
    )]
    pub default_rtt: Duration,
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self {
            decay: Duration::from_secs(10),
            default_rtt: Duration::from_millis(30),
        }
    }
}

/// What a consistent hash goes by. A request without it goes anywhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "[has(self.header), has(self.cookie), has(self.queryParameter), self.sourceAddress].exists_one(named, named)", "message": "does not name one thing to go by; write one of header, cookie, queryParameter and sourceAddress"}
]))]
pub struct ConsistentHash {
    /// The value of a header.
    #[schemars(
        length(min = 1, max = 256),
        example = &"x-user",
        extend("x-weft-default" = "none", "x-weft-becomes" = "RouteAction.hash_policy.header"),
        extend("x-kubernetes-validations" = [
    {"rule": "self.matches('^[!#$%&\\'*+.^_`|~0-9A-Za-z-]+$')", "message": "is not the name of a header; write letters, digits and dashes"}
])
    )]
    pub header: Option<String>,
    /// The value of a cookie.
    #[schemars(extend("x-weft-default" = "none"))]
    pub cookie: Option<Cookie>,
    /// The value of a query parameter.
    #[schemars(
        length(min = 1, max = 1024),
        example = &"id",
        extend(
            "x-weft-default" = "none",
            "x-weft-becomes" = "RouteAction.hash_policy.query_parameter"
        )
    )]
    pub query_parameter: Option<String>,
    /// The address of the caller.
    #[schemars(
        example = true,
        extend("x-weft-becomes" = "RouteAction.hash_policy.connection_properties.source_ip")
    )]
    pub source_address: bool,
    /// RingHash: points on the ring, at least.
    #[schemars(
        range(min = 1, max = 8388608),
        example = 4096,
        extend("x-weft-becomes" = "RingHash.minimum_ring_size")
    )]
    pub minimum_ring_size: u32,
    /// RingHash: points on the ring, at most; not less than minimumRingSize.
    #[schemars(
        range(min = 1, max = 8388608),
        example = 65536,
        extend("x-weft-becomes" = "RingHash.maximum_ring_size")
    )]
    pub maximum_ring_size: u32,
    /// Maglev: entries of the table; a prime.
    #[schemars(
        range(min = 2, max = 5000011),
        example = 5003,
        extend("x-weft-becomes" = "Maglev.table_size")
    )]
    pub table_size: u32,
    /// No endpoint gets more than so many percent of the mean load; what is above goes to the next by hash.
    #[schemars(
        range(min = 101, max = 10000),
        example = 125,
        extend(
            "x-weft-default" = "no bound",
            "x-weft-becomes" = "consistent_hashing_lb_config.hash_balance_factor"
        )
    )]
    pub bounded_load: Option<u32>,
}

impl Default for ConsistentHash {
    fn default() -> Self {
        Self {
            header: None,
            cookie: None,
            query_parameter: None,
            source_address: false,
            minimum_ring_size: 1024,
            maximum_ring_size: 8_388_608,
            table_size: 65_537,
            bounded_load: None,
        }
    }
}

/// A cookie to hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.path) || has(self.ttl)", "message": "is that of a cookie that is given, and none is without ttl; write ttl, or remove path", "fieldPath": ".path"}
]))]
pub struct Cookie {
    /// Its name.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"),
        example = &"session",
        extend(
            "x-weft-becomes" = "RouteAction.hash_policy.cookie.name",
            "x-weft-write" = "a name of letters, digits and dashes"
        )
    )]
    pub name: String,
    /// A request without the cookie is given one that lives so long; 0s: as long as the session.
    #[schemars(
        example = &"1h",
        extend(
            "x-weft-default" = "it is given none",
            "x-weft-becomes" = "RouteAction.hash_policy.cookie.ttl"
        )
    )]
    pub ttl: Option<Duration>,
    /// The path of a cookie that is given.
    #[schemars(
        length(max = 1024),
        regex(pattern = "^/[^;]*$"),
        example = &"/",
        extend(
            "x-weft-default" = "none: that of the request",
            "x-weft-becomes" = "RouteAction.hash_policy.cookie.path",
            "x-weft-write" = "a path, such as /"
        )
    )]
    pub path: Option<String>,
}

/// How a new endpoint comes to its full share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SlowStart {
    /// How long that takes.
    #[schemars(
        example = &"1m",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-maximum" = "24h",
            "x-weft-becomes" = "slow_start_config.slow_start_window"
        )
    )]
    pub window: Duration,
    /// The exponent of the growth: 1 is linear, more is faster at first.
    #[schemars(
        range(min = 0.001, max = 100.0),
        example = 2.0,
        extend("x-weft-becomes" = "slow_start_config.aggression")
    )]
    pub aggression: f64,
    /// What it begins with, in percent of its share.
    #[schemars(example = 5, extend("x-weft-becomes" = "slow_start_config.min_weight_percent"))]
    pub minimum_percent: Percent,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            aggression: 1.0,
            minimum_percent: Percent(10.0),
        }
    }
}

/// Whether endpoints of the caller's zone are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Zone {
    /// Zones play no part.
    Off,
    /// Own zone first; other zones take, in proportion, what it lacks.
    Prefer,
    /// Own zone only, unless it has no endpoint at all.
    Strict,
}
