//! When endpoints are given a rest: `envoy.config.cluster.v3.OutlierDetection`, completed by `weft.v1.Breaker`.

use super::field::{At, Fault, duration, positive, unsupported};
use crate::snapshot::{
    Breaker, Share,
    breaker::{FailureRatio, Failures, GrpcCodes},
};
use http::StatusCode;
use std::{num::NonZeroU32, sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::{envoy::config::cluster::v3::OutlierDetection, google::protobuf::UInt32Value},
    names::METADATA_KEY,
    weft::v1::{Breaker as Message, breaker},
};

/// Absent `consecutive_5xx`. The defaults of `OutlierDetection` are Envoy's.
const CONSECUTIVE_FAILURES: u32 = 5;
/// Absent `base_ejection_time`.
const OPEN_FOR: Duration = Duration::from_secs(30);
/// Absent `max_ejection_time`.
const MAX_OPEN_FOR: Duration = Duration::from_secs(300);
/// Absent `max_ejection_percent`.
const MAX_EJECTED: u32 = 10;
/// Absent `failure_percentage_threshold`.
const FAILURE_PERCENTAGE: u32 = 85;
/// Absent `failure_percentage_request_volume`.
const REQUEST_VOLUME: NonZeroU32 = NonZeroU32::new(50).expect("50 is not zero");
/// Absent `interval`, and absent `weft.v1.Breaker.FailureRatio.window`.
const WINDOW: Duration = Duration::from_secs(10);
/// Absent `weft.v1.Breaker.FailureRatio.minimum_requests`.
const MINIMUM_REQUESTS: NonZeroU32 = NonZeroU32::new(20).expect("20 is not zero");

/// The breaker of a cluster; `None` when nothing ejects its endpoints.
///
/// Refused: rules that this proxy does not have (success rate, gateway failures, local origin), and chances of an
/// ejection other than none and certainty. Where Envoy would enforce such a rule because nothing is said of it, it is
/// left out. At least one endpoint can always be ejected, as with `always_eject_one_host`.
pub(super) fn breaker(
    detection: Option<&OutlierDetection>,
    own: Option<&Message>,
) -> Result<Option<Arc<Breaker>>, Fault> {
    let Some(detection) = detection else {
        return Ok(None);
    };
    let completed = completed(own.unwrap_or(&Message::default()))
        .at("breaker")
        .at(format_args!(
            "metadata.typed_filter_metadata[{METADATA_KEY:?}]"
        ))?;
    let breaker = detected(detection, completed).at("outlier_detection")?;
    let ejects = breaker.consecutive_failures.is_some() || breaker.failure_ratio.is_some();
    Ok(ejects.then(|| Arc::new(breaker)))
}

/// What `weft.v1.Breaker` says.
struct Completed {
    failure_ratio: Option<FailureRatio>,
    failures: Failures,
    half_open_requests: NonZeroU32,
}

fn completed(message: &Message) -> Result<Completed, Fault> {
    Ok(Completed {
        failure_ratio: message
            .failure_ratio
            .as_ref()
            .map(failure_ratio)
            .transpose()
            .at("failure_ratio")?,
        failures: message
            .failures
            .as_ref()
            .map_or_else(|| Ok(Failures::default()), failures)
            .at("failures")?,
        half_open_requests: NonZeroU32::new(message.half_open_requests).unwrap_or(NonZeroU32::MIN),
    })
}

fn failure_ratio(message: &breaker::FailureRatio) -> Result<FailureRatio, Fault> {
    let ratio = message.ratio;
    // Not a number is neither.
    if !(ratio > 0.0 && ratio <= 1.0) {
        let fault = Fault::new(format!("must be > 0 and at most 1, got {ratio}"));
        return Err(fault.at("ratio"));
    }
    let millionths = (ratio * 1e6).round() as u32;
    Ok(FailureRatio {
        ratio: Share::millionths(millionths.max(1)),
        minimum_requests: NonZeroU32::new(message.minimum_requests).unwrap_or(MINIMUM_REQUESTS),
        window: positive("window", message.window.as_ref())?.unwrap_or(WINDOW),
    })
}

fn failures(message: &breaker::Failures) -> Result<Failures, Fault> {
    let statuses = message.statuses.iter().enumerate().map(|(at, &status)| {
        u16::try_from(status)
            .ok()
            .filter(|status| (100..600).contains(status))
            .and_then(|status| StatusCode::from_u16(status).ok())
            .ok_or_else(|| {
                Fault::new(format!("must be 100 to 599, got {status}"))
                    .at(format_args!("statuses[{at}]"))
            })
    });
    let grpc_codes = message.grpc_codes.iter().enumerate().map(|(at, &code)| {
        u8::try_from(code)
            .ok()
            .filter(|code| (1..=16).contains(code))
            .ok_or_else(|| {
                Fault::new(format!("must be 1 to 16, got {code}"))
                    .at(format_args!("grpc_codes[{at}]"))
            })
    });
    Ok(Failures {
        connect_errors: message.connect_errors,
        server_errors: message.server_errors,
        statuses: statuses.collect::<Result<_, _>>()?,
        grpc_codes: GrpcCodes::of(&grpc_codes.collect::<Result<Vec<_>, _>>()?),
        slower_than: positive("slower_than", message.slower_than.as_ref())?,
    })
}

fn detected(detection: &OutlierDetection, completed: Completed) -> Result<Breaker, Fault> {
    for (field, enforcing) in [
        ("enforcing_success_rate", &detection.enforcing_success_rate),
        (
            "enforcing_consecutive_gateway_failure",
            &detection.enforcing_consecutive_gateway_failure,
        ),
    ] {
        unsupported(field, enforcing.as_ref().is_some_and(|n| n.value > 0))?;
    }
    unsupported(
        "split_external_local_origin_errors",
        detection.split_external_local_origin_errors,
    )?;
    unsupported("monitors", !detection.monitors.is_empty())?;
    let degrades = detection.detect_degraded_hosts.as_ref();
    unsupported("detect_degraded_hosts", degrades.is_some_and(|b| b.value))?;

    let open_for =
        positive("base_ejection_time", detection.base_ejection_time.as_ref())?.unwrap_or(OPEN_FOR);
    Ok(Breaker {
        consecutive_failures: consecutive_failures(detection)?,
        failure_ratio: match completed.failure_ratio {
            None => failure_percentage(detection)?,
            ratio => ratio,
        },
        failures: completed.failures,
        open_for,
        max_open_for: positive("max_ejection_time", detection.max_ejection_time.as_ref())?
            .unwrap_or(MAX_OPEN_FOR.max(open_for)),
        jitter: duration(
            "max_ejection_time_jitter",
            detection.max_ejection_time_jitter.as_ref(),
        )?
        .unwrap_or_default(),
        half_open_requests: completed.half_open_requests,
        max_ejected: percent(
            "max_ejection_percent",
            detection.max_ejection_percent.as_ref(),
            MAX_EJECTED,
        )?,
    })
}

/// "If set to 0 explicitly, consecutive 5xx ejection will be disabled."
fn consecutive_failures(detection: &OutlierDetection) -> Result<Option<NonZeroU32>, Fault> {
    let enforcing = detection.enforcing_consecutive_5xx.as_ref();
    let enforced = enforced("enforcing_consecutive_5xx", enforcing, true)?;
    let failures = detection.consecutive_5xx.as_ref();
    let failures = failures.map_or(CONSECUTIVE_FAILURES, |failures| failures.value);
    Ok(NonZeroU32::new(failures).filter(|_| enforced))
}

fn failure_percentage(detection: &OutlierDetection) -> Result<Option<FailureRatio>, Fault> {
    let enforcing = detection.enforcing_failure_percentage.as_ref();
    if !enforced("enforcing_failure_percentage", enforcing, false)? {
        return Ok(None);
    }
    let hosts = detection.failure_percentage_minimum_hosts.as_ref();
    if hosts.is_none_or(|hosts| hosts.value > 1) {
        let fault = Fault::new("must be 1: this proxy judges each endpoint by itself");
        return Err(fault.at("failure_percentage_minimum_hosts"));
    }
    let volume = detection.failure_percentage_request_volume.as_ref();
    Ok(Some(FailureRatio {
        ratio: percent(
            "failure_percentage_threshold",
            detection.failure_percentage_threshold.as_ref(),
            FAILURE_PERCENTAGE,
        )?,
        minimum_requests: volume.map_or(REQUEST_VOLUME, |volume| {
            NonZeroU32::new(volume.value).unwrap_or(NonZeroU32::MIN)
        }),
        window: positive("interval", detection.interval.as_ref())?.unwrap_or(WINDOW),
    }))
}

/// The chance that a rule is enforced.
fn enforced(field: &str, percent: Option<&UInt32Value>, default: bool) -> Result<bool, Fault> {
    match percent.map(|percent| percent.value) {
        None => Ok(default),
        Some(0) => Ok(false),
        Some(100) => Ok(true),
        Some(other) => Err(Fault::new(format!("must be 0 or 100, got {other}")).at(field)),
    }
}

fn percent(field: &str, percent: Option<&UInt32Value>, default: u32) -> Result<Share, Fault> {
    match percent.map_or(default, |percent| percent.value) {
        percent @ 0..=100 => Ok(Share::percent(percent)),
        other => Err(Fault::new(format!("must be at most 100, got {other}")).at(field)),
    }
}
