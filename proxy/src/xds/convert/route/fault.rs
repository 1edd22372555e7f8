//! Settings of filters on a route: `HTTPFault`, and none else.

use super::matches;
use crate::{
    snapshot::{
        Share,
        route::{Abort, AbortStatus, Delay, Fault as Injected},
    },
    xds::convert::field::{At, Fault, decode, is, positive, required, share, unsupported},
};
use http::StatusCode;
use std::{collections::HashMap, sync::Arc};
use weft_xds_proto::envoy::{
    envoy::{
        config::route::v3::FilterConfig,
        extensions::filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
        },
    },
    google::protobuf::Any,
};

/// The name that the fault filter goes by.
const FAULT_FILTER: &str = "envoy.filters.http.fault";

/// The fault of a level; `outer` is that of the level around it, which counts where this one says nothing.
///
/// A filter that this proxy does not have must be said to be optional.
pub(super) fn of(
    configs: &HashMap<String, Any>,
    outer: Option<Arc<Injected>>,
) -> Result<Option<Arc<Injected>>, Fault> {
    let mut own = None;
    for (name, any) in configs {
        let at = format_args!("typed_per_filter_config[{name:?}]");
        let found = if is::<HttpFault>(any) {
            Some(convert(&decode(any).at(at)?).at(at)?)
        } else if is::<FilterConfig>(any) {
            let wrapped: FilterConfig = decode(any).at(at)?;
            match &wrapped.config {
                Some(inner) if is::<HttpFault>(inner) && !wrapped.disabled => {
                    Some(convert(&decode(inner).at(at)?).at("config").at(at)?)
                }
                _ if wrapped.disabled && name == FAULT_FILTER => Some(None),
                _ if wrapped.disabled || wrapped.is_optional => None,
                _ => {
                    return Err(Fault::new("is not supported by this proxy")
                        .at("config")
                        .at(at));
                }
            }
        } else {
            return Err(Fault::new("the filter is not supported by this proxy").at(at));
        };
        // In no order of theirs that could say which of two counts.
        if found.is_some() && own.is_some() {
            return Err(Fault::new("another filter has a fault, too").at(at));
        }
        own = own.or(found);
    }
    Ok(own.unwrap_or(outer))
}

/// Not honoured, as there is no runtime here that could override anything: the names of runtime keys.
fn convert(fault: &HttpFault) -> Result<Option<Arc<Injected>>, Fault> {
    unsupported("upstream_cluster", !fault.upstream_cluster.is_empty())?;
    unsupported("downstream_nodes", !fault.downstream_nodes.is_empty())?;
    unsupported("max_active_faults", fault.max_active_faults.is_some())?;
    unsupported("response_rate_limit", fault.response_rate_limit.is_some())?;
    let delay = fault.delay.as_ref().map(delay).transpose().at("delay")?;
    let abort = fault.abort.as_ref().map(abort).transpose().at("abort")?;
    if delay.is_none() && abort.is_none() {
        return Ok(None);
    }
    Ok(Some(Arc::new(Injected {
        headers: matches::headers(&fault.headers)?.into(),
        delay,
        abort,
    })))
}

fn delay(delay: &FaultDelay) -> Result<Delay, Fault> {
    let fixed = match required("fixed_delay", delay.fault_delay_secifier.as_ref())? {
        FaultDelaySecifier::FixedDelay(fixed) => positive("fixed_delay", Some(fixed))?,
        FaultDelaySecifier::HeaderDelay(_) => {
            return Err(Fault::new("is not supported by this proxy").at("header_delay"));
        }
    };
    Ok(Delay {
        share: share("percentage", delay.percentage.as_ref(), Share::NONE)?,
        duration: required("fixed_delay", fixed)?,
    })
}

fn abort(abort: &FaultAbort) -> Result<Abort, Fault> {
    unsupported("response_body", !abort.response_body.is_empty())?;
    let status = match required("error_type", abort.error_type.as_ref())? {
        ErrorType::HttpStatus(status) => AbortStatus::Http(http_status("http_status", *status)?),
        ErrorType::GrpcStatus(status) => match u8::try_from(*status) {
            Ok(status @ 0..=16) => AbortStatus::Grpc(status),
            _ => {
                let reason = format!("must be a status of gRPC (0 to 16), got {status}");
                return Err(Fault::new(reason).at("grpc_status"));
            }
        },
        ErrorType::HeaderAbort(_) => {
            return Err(Fault::new("is not supported by this proxy").at("header_abort"));
        }
    };
    Ok(Abort {
        share: share("percentage", abort.percentage.as_ref(), Share::NONE)?,
        status,
    })
}

/// A status that a response may have in the end.
pub(super) fn http_status(field: &str, status: u32) -> Result<StatusCode, Fault> {
    u16::try_from(status)
        .ok()
        .filter(|status| (200..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| Fault::new(format!("must be from 200 to 599, got {status}")).at(field))
}
