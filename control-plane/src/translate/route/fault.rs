//! Faults made on purpose, as `HTTPFault` has them.

use super::{
    super::proto::{any, duration, fraction},
    fit,
};
use crate::world::policy::{AbortStatus, Fault};
use envoy_types::pb::{
    envoy::extensions::filters::{
        common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
        http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
        network::http_connection_manager::v3::{HttpFilter, http_filter},
    },
    google::protobuf::Any,
};

/// The name of the filter, by which routes configure it.
const FILTER: &str = "envoy.filters.http.fault";

/// The filter itself, which does nothing but what a route says.
pub(crate) fn fault_filter() -> HttpFilter {
    HttpFilter {
        name: FILTER.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(
            HttpFault::default(),
        ))),
        ..HttpFilter::default()
    }
}

/// What a route says: an entry of `Route.typed_per_filter_config`.
pub(super) fn on_route(fault: &Fault) -> (String, Any) {
    let config = HttpFault {
        delay: fault.delay.as_ref().map(|delay| FaultDelay {
            percentage: Some(fraction(delay.share)),
            fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(duration(delay.duration))),
        }),
        abort: fault.abort.as_ref().map(|abort| FaultAbort {
            percentage: Some(fraction(abort.share)),
            error_type: Some(match abort.status {
                AbortStatus::Http(status) => ErrorType::HttpStatus(status.into()),
                AbortStatus::Grpc(code) => ErrorType::GrpcStatus(code.number().into()),
            }),
            ..FaultAbort::default()
        }),
        headers: fault.headers.iter().map(fit::value).collect(),
        ..HttpFault::default()
    };
    (FILTER.to_owned(), any(config))
}
