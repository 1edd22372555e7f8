//! When an endpoint is given a rest.

use crate::api::{Duration, Percent};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When an endpoint that fails is given a rest, and how it comes back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "!has(self.maxOpenFor) || duration(self.maxOpenFor) >= duration(self.openFor)", "message": "is less than openFor; write as much or more", "fieldPath": ".maxOpenFor"}
]))]
pub struct CircuitBreaker {
    /// So many failures in a row eject an endpoint.
    #[schemars(
        range(min = 1, max = 4294967295u32),
        example = 10,
        extend(
            "x-weft-default" = "5; without limit where failureRatio is set",
            "x-weft-becomes" = "OutlierDetection.consecutive_5xx"
        )
    )]
    pub consecutive_failures: Option<u32>,
    /// A share of failures that ejects an endpoint.
    #[schemars(extend("x-weft-default" = "none"))]
    pub failure_ratio: Option<FailureRatio>,
    /// What counts as a failure of an endpoint. What the proxy itself refuses because of a limit never does.
    pub failures: Failures,
    /// How long the first ejection lasts; each one that follows lasts as much longer again.
    #[schemars(
        example = &"10s",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-becomes" = "OutlierDetection.base_ejection_time"
        )
    )]
    pub open_for: Duration,
    /// The longest that an ejection lasts; not less than openFor.
    #[schemars(
        example = &"1m",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-default" = "5m, or openFor where that is longer",
            "x-weft-becomes" = "OutlierDetection.max_ejection_time"
        )
    )]
    pub max_open_for: Option<Duration>,
    /// At most so much is added at random to every ejection, so that endpoints do not come back all at once.
    #[schemars(
        example = &"5s",
        extend("x-weft-becomes" = "OutlierDetection.max_ejection_time_jitter")
    )]
    pub jitter: Duration,
    /// How many requests an endpoint is probed with when its ejection is over.
    #[schemars(
        range(min = 1, max = 1000),
        example = 5,
        extend("x-weft-becomes" = "Cluster.metadata weft.v1.ServiceMetadata.breaker.half_open_requests")
    )]
    pub half_open_requests: u32,
    /// At most so many percent of the endpoints are ejected at once, and always one.
    #[schemars(example = 100, extend("x-weft-becomes" = "OutlierDetection.max_ejection_percent"))]
    pub max_ejected_percent: Percent,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self {
            consecutive_failures: None,
            failure_ratio: None,
            failures: Failures::default(),
            open_for: Duration::from_secs(30),
            max_open_for: None,
            jitter: Duration::from_secs(0),
            half_open_requests: 1,
            max_ejected_percent: Percent(50.0),
        }
    }
}

/// A share of failures that ejects an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct FailureRatio {
    /// Of the requests of the window, at least this share failed: 1 is all.
    #[schemars(
        range(min = 0.000001, max = 1.0),
        example = 0.6,
        extend(
            "x-weft-becomes" = "OutlierDetection.failure_percentage_threshold (whole percent), Cluster.metadata weft.v1.ServiceMetadata.breaker.failure_ratio.ratio (exact)"
        )
    )]
    pub ratio: f64,
    /// With fewer requests in the window it says nothing.
    #[serde(default = "minimum_requests")]
    #[schemars(
        range(min = 1, max = 4294967295u32),
        example = 10,
        extend("x-weft-becomes" = "OutlierDetection.failure_percentage_request_volume, Cluster.metadata weft.v1.ServiceMetadata.breaker.failure_ratio.minimum_requests")
    )]
    pub minimum_requests: u32,
    /// How far back requests count.
    #[serde(default = "window")]
    #[schemars(
        example = &"30s",
        extend(
            "x-weft-minimum" = "100ms",
            "x-weft-maximum" = "1h",
            "x-weft-becomes" = "OutlierDetection.interval, Cluster.metadata weft.v1.ServiceMetadata.breaker.failure_ratio.window"
        )
    )]
    pub window: Duration,
}

fn minimum_requests() -> u32 {
    20
}

fn window() -> Duration {
    Duration::from_secs(10)
}

/// What counts as a failure of an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.connectErrors || self.serverErrors || self.statuses.size() > 0 || self.grpcCodes.size() > 0 || has(self.slowerThan)", "message": "leave nothing that counts, so that no endpoint is ever ejected; let something count, or remove circuitBreaker"}
]))]
pub struct Failures {
    /// It could not be connected to, reset the connection, or answered what is not HTTP.
    #[schemars(
        example = false,
        extend("x-weft-becomes" = "Cluster.metadata weft.v1.ServiceMetadata.breaker.failures.connect_errors; Envoy: outlier_detection.split_external_local_origin_errors, where only this or only answers count")
    )]
    pub connect_errors: bool,
    /// It answered with a status of 500 or above.
    #[schemars(
        example = false,
        extend("x-weft-becomes" = "Cluster.metadata weft.v1.ServiceMetadata.breaker.failures.server_errors; Envoy: HttpProtocolOptions.outlier_detection.error_matcher")
    )]
    pub server_errors: bool,
    /// It answered with one of these statuses.
    #[schemars(
        inner(range(min = 100, max = 599)),
        example = [429],
        extend("x-weft-becomes" = "Cluster.metadata weft.v1.ServiceMetadata.breaker.failures.statuses; Envoy: HttpProtocolOptions.outlier_detection.error_matcher")
    )]
    pub statuses: Vec<u16>,
    /// It answered with one of these gRPC codes, in headers or trailers.
    #[schemars(
        example = ["UNAVAILABLE"],
        extend("x-weft-becomes" = "Cluster.metadata weft.v1.ServiceMetadata.breaker.failures.grpc_codes; Envoy, where other answers count than 5xx: HttpProtocolOptions.outlier_detection.error_matcher")
    )]
    pub grpc_codes: Vec<GrpcCode>,
    /// The head of its answer took longer.
    #[schemars(
        example = &"2s",
        extend(
            "x-weft-minimum" = "1ms",
            "x-weft-default" = "slowness is no failure",
            "x-weft-becomes" = "Cluster.metadata weft.v1.ServiceMetadata.breaker.failures.slower_than; Envoy: not at all"
        )
    )]
    pub slower_than: Option<Duration>,
}

impl Default for Failures {
    fn default() -> Self {
        Self {
            connect_errors: true,
            server_errors: true,
            statuses: Vec::new(),
            grpc_codes: vec![
                GrpcCode::Unknown,
                GrpcCode::Internal,
                GrpcCode::Unavailable,
                GrpcCode::DataLoss,
            ],
            slower_than: None,
        }
    }
}

/// A gRPC status code that is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "named as gRPC names them")]
pub enum GrpcCode {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}
