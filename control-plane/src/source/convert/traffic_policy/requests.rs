//! What concerns requests: retries, timeouts, faults, mirrors.

use super::{
    Invalid, count,
    endpoints::{factor, grpc_code},
};
use crate::{
    api::{
        Bytes, Duration,
        traffic_policy::{Abort, Backoff, Fault, Mirror, Retry, RetryCondition, Timeout},
    },
    source::convert::{
        backend,
        text::{header_name, header_value},
    },
    world::{
        policy::{
            self, AbortStatus, Delay, RetryBudget, RetryCondition as Condition, RetryOn, TimeLimit,
            Timeouts,
        },
        route::{TextMatch, ValueMatch},
    },
};
use std::sync::Arc;

pub(super) fn retry(retry: Retry) -> Result<policy::Retry, Invalid> {
    let at = |name: &str| format!("spec.retry.{name}");
    if retry.hedge.is_some() && retry.attempts < 2 {
        let reason = "is a second attempt, and attempts allows one; write attempts of 2 or more";
        return Err(Invalid::new(at("hedge"), reason));
    }
    let Bytes(body_limit) = retry.body_limit;
    Ok(policy::Retry {
        attempts: count(&at("attempts"), retry.attempts)?,
        on: on(&retry.on)?,
        methods: retry
            .methods
            .iter()
            .map(|method| method.as_str().into())
            .collect(),
        per_try_timeout: retry.per_try_timeout.map(Duration::get),
        backoff: backoff(&retry.backoff)?,
        retry_after: retry.retry_after.max.limit(),
        budget: retry
            .budget
            .map_or_else(RetryBudget::default, |budget| RetryBudget {
                ratio: budget.percent.share(),
                floor: budget.minimum_per_second,
            }),
        // The schema keeps it within 64 MiB.
        body_limit: u32::try_from(body_limit).unwrap_or(u32::MAX),
        hedge: retry.hedge.map(|hedge| hedge.delay.get()),
    })
}

fn on(listed: &[RetryCondition]) -> Result<RetryOn, Invalid> {
    let mut on = RetryOn::default();
    for (i, RetryCondition(text)) in listed.iter().enumerate() {
        if let Some(condition) = Condition::ALL
            .into_iter()
            .find(|known| known.name() == text)
        {
            on.conditions.insert(condition);
        } else if let Ok(status) = text.parse() {
            on.statuses.insert(status);
        } else {
            let reason = format!("{text:?} is not a condition; write its name or a status");
            return Err(Invalid::new(format!("spec.retry.on[{i}]"), reason));
        }
    }
    Ok(on)
}

fn backoff(backoff: &Backoff) -> Result<policy::Backoff, Invalid> {
    let base = backoff.base.get();
    let max = backoff.max.map_or(base * 10, Duration::get);
    if max < base {
        let reason = format!("is less than base; write {} or more", backoff.base);
        return Err(Invalid::new("spec.retry.backoff.max", reason));
    }
    Ok(policy::Backoff {
        base,
        max,
        multiplier: factor(backoff.multiplier),
        jitter: backoff.jitter,
    })
}

pub(super) fn timeouts(timeout: Timeout) -> Timeouts {
    let limit =
        |duration: Option<Duration>| duration.map(|duration| TimeLimit::from(duration.get()));
    Timeouts {
        request: limit(timeout.request),
        idle: limit(timeout.idle),
    }
}

pub(super) fn fault(fault: Fault) -> Result<policy::Fault, Invalid> {
    if fault.delay.is_none() && fault.abort.is_none() {
        let reason = "does nothing; write delay or abort";
        return Err(Invalid::new("spec.fault", reason));
    }
    let mut headers: Vec<ValueMatch> = Vec::with_capacity(fault.headers.len());
    for (i, header) in fault.headers.iter().enumerate() {
        let at = |name: &str| format!("spec.fault.headers[{i}].{name}");
        let name = header_name(&at("name"), &header.name)?;
        if headers.iter().any(|other| other.name == name) {
            let reason = format!("{name:?} stands there before; remove one of them");
            return Err(Invalid::new(at("name"), reason));
        }
        let value = TextMatch::Exact(header_value(&at("value"), &header.value)?);
        headers.push(ValueMatch { name, value });
    }
    Ok(policy::Fault {
        delay: fault.delay.map(|delay| Delay {
            share: delay.percent.share(),
            duration: delay.duration.get(),
        }),
        abort: fault.abort.map(abort).transpose()?,
        headers,
    })
}

fn abort(abort: Abort) -> Result<policy::Abort, Invalid> {
    let field = "spec.fault.abort";
    let status = match (abort.status, abort.grpc_status) {
        (Some(status), None) => AbortStatus::Http(status),
        (None, Some(code)) => AbortStatus::Grpc(grpc_code(code)),
        (None, None) => {
            let reason = "does not say with what; write status or grpcStatus";
            return Err(Invalid::new(field, reason));
        }
        (Some(_), Some(_)) => {
            let reason = "stands beside status; remove one of them";
            return Err(Invalid::new(format!("{field}.grpcStatus"), reason));
        }
    };
    Ok(policy::Abort {
        share: abort.percent.share(),
        status,
    })
}

pub(super) fn mirror(from: &Arc<str>, mirror: Mirror) -> Result<policy::Mirror, Invalid> {
    let reference = mirror.backend_ref;
    let namespace = reference.namespace.as_deref().unwrap_or(from);
    Ok(policy::Mirror {
        from: from.clone(),
        backend: backend::service(
            "spec.mirror.backendRef",
            namespace,
            &reference.name,
            reference.port.into(),
        )?,
        share: mirror.percent.share(),
    })
}
