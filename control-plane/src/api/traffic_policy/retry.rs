//! What is tried again.

use crate::{
    api::{Bytes, Duration, Percent, quantity::NumberOrText},
    world::policy,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;

/// What is tried again, how often and how soon. What certainly was not processed is tried again whatever its method;
/// what may have been, only if its method is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.hedge) || self.attempts >= 2", "message": "is a second attempt, and attempts allows one; write attempts of 2 or more", "fieldPath": ".hedge"}
]))]
pub struct Retry {
    /// All attempts, the first included; 1: nothing is tried again.
    #[schemars(
        range(min = 1, max = 100),
        example = 2,
        extend("x-weft-becomes" = "RouteAction.retry_policy.num_retries, which is one less")
    )]
    pub attempts: u32,
    /// On what an attempt is tried again: Envoy's and gRPC's names, and statuses.
    #[schemars(
        length(min = 1),
        example = ["connect-failure", "503"],
        extend("x-weft-becomes" = "RouteAction.retry_policy.{retry_on, retriable_status_codes}")
    )]
    pub on: Vec<RetryCondition>,
    /// The methods of requests that are tried again although the endpoint may have processed them.
    #[schemars(
        inner(length(max = 64), regex(pattern = "^[A-Z][A-Z-]*$")),
        example = ["GET", "POST"],
        extend(
            "x-weft-becomes" = "Route.metadata weft.v1.RetryExtension.methods; Envoy: the policy stands on the routes of these methods only"
        )
    )]
    pub methods: Vec<String>,
    /// An attempt without the head of a response after this is given up.
    #[schemars(
        example = &"2s",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-default" = "only timeout.request ends it",
            "x-weft-becomes" = "RouteAction.retry_policy.per_try_timeout"
        )
    )]
    pub per_try_timeout: Option<Duration>,
    /// How long to wait before the next attempt.
    pub backoff: Backoff,
    /// What an endpoint asks for with Retry-After.
    pub retry_after: RetryAfter,
    /// How many retries all requests to a service port may cause together, in one proxy. For services only.
    #[schemars(extend("x-weft-default" = "as below"))]
    pub budget: Option<Budget>,
    /// A request whose body is longer is not kept to be sent again.
    #[schemars(
        example = &"1Mi",
        extend(
            "x-weft-maximum-bytes" = 67108864,
            "x-weft-becomes" = "Route.metadata weft.v1.RetryExtension.body_limit"
        )
    )]
    pub body_limit: Bytes,
    /// A second attempt beside the first, for requests of the methods listed.
    #[schemars(extend("x-weft-default" = "none"))]
    pub hedge: Option<Hedge>,
}

impl Default for Retry {
    fn default() -> Self {
        let policy::Retry {
            attempts,
            on,
            methods: _,
            per_try_timeout: _,
            backoff: _,
            retry_after: _,
            budget: _,
            body_limit,
            hedge: _,
        } = policy::Retry::default();
        Self {
            attempts: attempts.get(),
            on: on
                .conditions
                .iter()
                .map(|condition| RetryCondition(condition.name().to_owned()))
                .collect(),
            methods: policy::Retry::IDEMPOTENT.map(str::to_owned).into(),
            per_try_timeout: None,
            backoff: Backoff::default(),
            retry_after: RetryAfter::default(),
            budget: None,
            body_limit: Bytes(body_limit.into()),
            hedge: None,
        }
    }
}

/// A condition on which an attempt is tried again: a name or a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct RetryCondition(pub String);

impl<'de> Deserialize<'de> for RetryCondition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NumberOrText::deserialize(deserializer).map(|NumberOrText(text)| Self(text))
    }
}

impl JsonSchema for RetryCondition {
    fn schema_name() -> Cow<'static, str> {
        "RetryCondition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = policy::RetryCondition::ALL.map(policy::RetryCondition::name);
        json_schema!({
            "anyOf": [
                {"type": "integer", "minimum": 400, "maximum": 599},
                {"type": "string", "pattern": format!("^({}|[45][0-9][0-9])$", names.join("|"))},
            ],
            "x-kubernetes-int-or-string": true,
            "x-weft-write": format!("{}, or a status of 400 to 599", names.join(", ")),
        })
    }
}

/// How long to wait before the next attempt: before the n-th retry up to base x multiplier^(n-1), at most max.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.max) || duration(self.max) >= duration(self.base)", "message": "is less than base; write as much or more", "fieldPath": ".max"}
]))]
pub struct Backoff {
    /// Before the first retry.
    #[schemars(
        example = &"100ms",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-becomes" = "RouteAction.retry_policy.retry_back_off.base_interval"
        )
    )]
    pub base: Duration,
    /// At most; not less than base.
    #[schemars(
        example = &"5s",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-default" = "ten times base",
            "x-weft-becomes" = "RouteAction.retry_policy.retry_back_off.max_interval"
        )
    )]
    pub max: Option<Duration>,
    /// What each time is to the one before.
    #[schemars(
        range(min = 1.0, max = 10.0),
        example = 1.5,
        extend(
            "x-weft-becomes" = "Route.metadata weft.v1.RetryExtension.multiplier; Envoy: always 2"
        )
    )]
    pub multiplier: f64,
    /// Whether the time is random between nothing and that (full jitter), which keeps callers from coming back all at
    /// once.
    #[schemars(
        example = false,
        extend(
            "x-weft-becomes" = "Route.metadata weft.v1.RetryExtension.jitter; Envoy: always true"
        )
    )]
    pub jitter: bool,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(25),
            max: None,
            multiplier: 2.0,
            jitter: true,
        }
    }
}

/// What an endpoint asks for with Retry-After.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryAfter {
    /// It is kept to when it is no longer than this, and not tried again when it is; 0s: it is not looked at.
    #[schemars(
        example = &"30s",
        extend(
            "x-weft-becomes" = "RouteAction.retry_policy.rate_limited_retry_back_off.max_interval, with reset_headers Retry-After"
        )
    )]
    pub max: Duration,
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self {
            max: Duration::from_secs(5),
        }
    }
}

/// How many retries all requests to a service port may cause together, in one proxy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Budget {
    /// In percent of the requests of the last ten seconds.
    #[schemars(
        example = 10,
        extend(
            "x-weft-becomes" = "CircuitBreakers.thresholds[DEFAULT].retry_budget.budget_percent"
        )
    )]
    pub percent: Percent,
    /// Allowed in any second, whatever the share.
    #[schemars(
        range(max = 1000000),
        example = 10,
        extend(
            "x-weft-becomes" = "CircuitBreakers.thresholds[DEFAULT].retry_budget.min_retry_concurrency"
        )
    )]
    pub minimum_per_second: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            percent: Percent(20.0),
            minimum_per_second: 3,
        }
    }
}

/// A second attempt beside the first. The answer that comes first counts, and the other attempt is cancelled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Hedge {
    /// After so long without the head of a response.
    #[schemars(
        example = &"50ms",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-becomes" = "Route.metadata weft.v1.RetryExtension.hedge.delay"
        )
    )]
    pub delay: Duration,
}
