//! `envoy.config.route.v3.RetryPolicy`, and what `weft.v1.RetryExtension` adds to it: what is tried again.

use super::field::{At, Fault, duration, own_metadata, positive, required, unsupported};
use crate::snapshot::{
    Retry,
    breaker::GrpcCodes,
    retry::{Backoff, Conditions, Hedge},
};
use http::{Method, StatusCode, header::RETRY_AFTER};
use std::{num::NonZeroU32, time::Duration};
use weft_xds_proto::{
    envoy::envoy::config::{
        core::v3::Metadata,
        route::v3::{
            RetryPolicy,
            retry_policy::{RateLimitedRetryBackOff, ResetHeaderFormat, RetryBackOff},
        },
    },
    names::METADATA_KEY,
    weft::v1::{RetryExtension, retry_extension},
};

/// Absent `RetryBackOff` (Envoy's default).
const BASE: Duration = Duration::from_millis(25);
/// Absent `RetryBackOff.max_interval`: so many times the base (Envoy's default).
const MAX_OF_BASE: u32 = 10;
/// Absent `weft.v1.RetryExtension.multiplier`, and what Envoy's backoff has.
const MULTIPLIER: f64 = 2.0;
/// Absent `RateLimitedRetryBackOff.max_interval` (Envoy's default).
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Absent `weft.v1.RetryExtension.body_limit`.
const BODY_LIMIT: usize = 64 * 1024;
/// The one predicate that there is: retries avoid the endpoints of earlier attempts anyway.
const PREVIOUS_HOSTS: &str = "envoy.retry_host_predicates.previous_hosts";

/// RFC 9110 section 9.2.2, without CONNECT.
const IDEMPOTENT: [Method; 6] = [
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
    Method::PUT,
    Method::DELETE,
];

/// What `retry_on` may name.
const KNOWN: [&str; 14] = [
    "connect-failure",
    "refused-stream",
    "reset-before-request",
    "reset",
    "5xx",
    "gateway-error",
    "retriable-4xx",
    "retriable-status-codes",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// What a Route says of retries, by the policy of its action, else by the one that it inherits, and by its metadata.
/// `None` when nothing is tried again.
pub(super) fn retry(
    own: Option<&RetryPolicy>,
    inherited: Option<&Retry>,
    metadata: Option<&Metadata>,
) -> Result<Option<Retry>, Fault> {
    let extension = own_metadata::<RetryExtension>(metadata)?;
    let retry = match own {
        Some(own) => policy(own).at("route.retry_policy")?,
        None => inherited.cloned(),
    };
    match (retry, extension) {
        (Some(retry), Some(extension)) => extended(retry, extension).map(Some).at(format_args!(
            "metadata.typed_filter_metadata[{METADATA_KEY:?}]"
        )),
        (retry, _) => Ok(retry),
    }
}

/// What a policy has tried again, if anything.
pub(super) fn policy(policy: &RetryPolicy) -> Result<Option<Retry>, Fault> {
    unsupported(
        "per_try_idle_timeout",
        policy.per_try_idle_timeout.is_some(),
    )?;
    unsupported("retry_priority", policy.retry_priority.is_some())?;
    unsupported(
        "retry_options_predicates",
        !policy.retry_options_predicates.is_empty(),
    )?;
    unsupported("retriable_headers", !policy.retriable_headers.is_empty())?;
    unsupported(
        "retriable_request_headers",
        !policy.retriable_request_headers.is_empty(),
    )?;
    for (position, predicate) in policy.retry_host_predicate.iter().enumerate() {
        unsupported(
            &format!("retry_host_predicate[{position}]"),
            predicate.name != PREVIOUS_HOSTS,
        )?;
    }
    let on = conditions(policy)?;
    let retries = policy
        .num_retries
        .as_ref()
        .map_or(1, |retries| retries.value);
    let per_try_timeout = duration("per_try_timeout", policy.per_try_timeout.as_ref())?
        .filter(|timeout| !timeout.is_zero());
    let backoff = backoff(policy.retry_back_off.as_ref()).at("retry_back_off")?;
    let retry_after = policy
        .rate_limited_retry_back_off
        .as_ref()
        .map(|rate_limited| retry_after(rate_limited).at("rate_limited_retry_back_off"))
        .transpose()?;
    let (Some(retries), true) = (NonZeroU32::new(retries), on != Conditions::default()) else {
        return Ok(None);
    };
    Ok(Some(Retry {
        retries,
        on,
        methods: IDEMPOTENT.into(),
        per_try_timeout,
        backoff,
        retry_after,
        body_limit: BODY_LIMIT,
        hedge: None,
    }))
}

/// `retry_on`: names with commas between them, those of `x-envoy-retry-on` and of `x-envoy-retry-grpc-on`.
fn conditions(policy: &RetryPolicy) -> Result<Conditions, Fault> {
    let mut on = Conditions::default();
    let mut codes = Vec::new();
    let names = policy.retry_on.split(',').map(str::trim);
    for name in names.filter(|name| !name.is_empty()) {
        match name {
            "connect-failure" => on.connect_failure = true,
            "refused-stream" => on.refused_stream = true,
            "reset-before-request" => on.reset_before_request = true,
            "reset" => on.reset = true,
            "5xx" => on.server_errors = true,
            "gateway-error" => on.gateway_error = true,
            "retriable-4xx" => on.retriable_4xx = true,
            "retriable-status-codes" => on.statuses = statuses(&policy.retriable_status_codes)?,
            // Nothing is sent by HTTP/3.
            "http3-post-connect-failure" => {}
            "cancelled" => codes.push(1),
            "deadline-exceeded" => codes.push(4),
            "resource-exhausted" => codes.push(8),
            "internal" => codes.push(13),
            "unavailable" => codes.push(14),
            _ => {
                let known = KNOWN.join(", ");
                return Err(Fault::new(format!("{name:?} is not one of {known}")).at("retry_on"));
            }
        }
    }
    on.grpc_codes = GrpcCodes::of(&codes);
    Ok(on)
}

fn statuses(codes: &[u32]) -> Result<Box<[StatusCode]>, Fault> {
    let code = |(position, code): (usize, &u32)| {
        let status = u16::try_from(*code)
            .ok()
            .and_then(|code| StatusCode::from_u16(code).ok());
        status
            .filter(|status| status.as_u16() < 600)
            .ok_or_else(|| {
                Fault::new(format!("must be a status from 100 to 599, got {code}"))
                    .at(format_args!("retriable_status_codes[{position}]"))
            })
    };
    codes.iter().enumerate().map(code).collect()
}

fn backoff(config: Option<&RetryBackOff>) -> Result<Backoff, Fault> {
    let (base, max) = match config {
        None => (BASE, None),
        Some(config) => (
            required(
                "base_interval",
                positive("base_interval", config.base_interval.as_ref())?,
            )?,
            positive("max_interval", config.max_interval.as_ref())?,
        ),
    };
    let max = max.unwrap_or(base * MAX_OF_BASE);
    if max < base {
        return Err(Fault::new("must not be less than base_interval").at("max_interval"));
    }
    Ok(Backoff {
        base,
        max,
        multiplier: MULTIPLIER,
        jitter: true,
    })
}

/// The longest rest that an endpoint may ask for.
fn retry_after(config: &RateLimitedRetryBackOff) -> Result<Duration, Fault> {
    for (position, header) in config.reset_headers.iter().enumerate() {
        let at = format_args!("reset_headers[{position}]");
        if !header.name.eq_ignore_ascii_case(RETRY_AFTER.as_str()) {
            let reason = format!("only Retry-After is supported, got {:?}", header.name);
            return Err(Fault::new(reason).at("name").at(at));
        }
        if header.format != ResetHeaderFormat::Seconds as i32 {
            return Err(Fault::new("only SECONDS is supported").at("format").at(at));
        }
    }
    if config.reset_headers.is_empty() {
        return Err(Fault::new("must not be empty").at("reset_headers"));
    }
    let max = positive("max_interval", config.max_interval.as_ref())?;
    Ok(max.unwrap_or(RETRY_AFTER_MAX))
}

fn extended(retry: Retry, extension: RetryExtension) -> Result<Retry, Fault> {
    let methods = extension
        .methods
        .iter()
        .enumerate()
        .map(|(position, name)| {
            Method::from_bytes(name.as_bytes()).map_err(|_| {
                Fault::new(format!("{name:?} is not a method"))
                    .at(format_args!("methods[{position}]"))
            })
        });
    let multiplier = extension.multiplier.unwrap_or(MULTIPLIER);
    if !(1.0..=f64::MAX).contains(&multiplier) {
        return Err(Fault::new(format!("must be at least 1, got {multiplier}")).at("multiplier"));
    }
    Ok(Retry {
        methods: methods.collect::<Result<_, _>>()?,
        backoff: Backoff {
            multiplier,
            jitter: extension.jitter.unwrap_or(true),
            ..retry.backoff
        },
        body_limit: extension
            .body_limit
            .map_or(BODY_LIMIT, |limit| limit as usize),
        hedge: extension
            .hedge
            .map(|config| hedge(&config).at("hedge"))
            .transpose()?,
        ..retry
    })
}

fn hedge(config: &retry_extension::Hedge) -> Result<Hedge, Fault> {
    let delay = required("delay", duration("delay", config.delay.as_ref())?)?;
    Ok(Hedge { delay })
}
