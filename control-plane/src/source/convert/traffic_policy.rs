//! `TrafficPolicy`.
//!
//! What one field may be stands in its schema and is checked against that; here is what fields say together.

mod endpoints;
mod requests;

use super::{Invalid, Verdict, check_name, created, spec, typed_spec, verdict};
use crate::{
    api::{
        TrafficPolicySpec,
        gateway::GROUP,
        schema,
        traffic_policy::{ConcurrencyLimit, RateLimit, RateLimitKey, TargetKind, TargetRef},
    },
    world::{
        Object, ObjectKey,
        policy::{self, PortRef, Settings, Target, TrafficPolicy},
        route::{RouteKind, RouteRef},
    },
};
use serde_json::Value;
use std::{num::NonZeroU32, sync::Arc};

pub(super) fn convert(key: ObjectKey, value: Value) -> Verdict {
    verdict(traffic_policy(key, value))
}

fn traffic_policy(key: ObjectKey, value: Value) -> Result<Object, Invalid> {
    let created = created(&value)?;
    let Some(spec) = spec(value, "TrafficPolicy")? else {
        let reason = "is missing; write targetRefs, and what is to hold for them";
        return Err(Invalid::new("spec", reason));
    };
    schema::check(TrafficPolicySpec::schema(), &spec).map_err(|mismatch| {
        let field = match mismatch.path.as_str() {
            "" => "spec".to_owned(),
            path => format!("spec.{path}"),
        };
        Invalid::new(field, mismatch.reason)
    })?;
    let spec: TrafficPolicySpec = typed_spec(spec)?;
    let targets = targets(&key.namespace, &spec.target_refs)?;
    check_place(&spec)?;
    Ok(Object::TrafficPolicy(Arc::new(TrafficPolicy {
        settings: settings(&key.namespace, spec)?,
        key,
        created,
        targets,
    })))
}

fn targets(namespace: &Arc<str>, listed: &[TargetRef]) -> Result<Vec<Target>, Invalid> {
    let mut targets = Vec::with_capacity(listed.len());
    for (i, item) in listed.iter().enumerate() {
        let field = format!("spec.targetRefs[{i}]");
        let target = target(&field, namespace, item)?;
        if let Some(other) = targets.iter().position(|other| *other == target) {
            let reason = format!("says the same as spec.targetRefs[{other}]; remove one of them");
            return Err(Invalid::new(field, reason));
        }
        targets.push(target);
    }
    Ok(targets)
}

fn target(field: &str, namespace: &Arc<str>, item: &TargetRef) -> Result<Target, Invalid> {
    let at = |name: &str| format!("{field}.{name}");
    let group = match item.kind {
        TargetKind::Service => "",
        TargetKind::HttpRoute | TargetKind::GrpcRoute => GROUP,
    };
    if let Some(other) = item.group.as_deref().filter(|other| *other != group) {
        let reason = format!("{other:?} is not the group of the kind; write {group:?}");
        return Err(Invalid::new(at("group"), reason));
    }
    let route = |kind| -> Result<Target, Invalid> {
        check_name(&at("name"), &item.name, true)?;
        let key = ObjectKey::new(namespace.clone(), item.name.as_str());
        Ok(Target::Route {
            route: RouteRef { kind, key },
            rule: item.section_name.as_deref().map(Arc::from),
        })
    };
    match item.kind {
        TargetKind::HttpRoute => route(RouteKind::Http),
        TargetKind::GrpcRoute => route(RouteKind::Grpc),
        TargetKind::Service => {
            check_name(&at("name"), &item.name, false)?;
            let section = item.section_name.as_deref();
            Ok(Target::Service {
                service: ObjectKey::new(namespace.clone(), item.name.as_str()),
                port: section
                    .map(|text| port(&at("sectionName"), text))
                    .transpose()?,
            })
        }
    }
}

/// The name of a port has a letter in it (RFC 6335), so that it is no number.
fn port(field: &str, text: &str) -> Result<PortRef, Invalid> {
    match text.parse::<i32>() {
        Ok(number) => super::port(field, number).map(PortRef::Number),
        Err(_) => {
            check_name(field, text, false)?;
            Ok(PortRef::Name(text.into()))
        }
    }
}

/// What is kept once for a service cannot be said of a route.
fn check_place(spec: &TrafficPolicySpec) -> Result<(), Invalid> {
    let of_route = |item: &TargetRef| item.kind != TargetKind::Service;
    let Some(i) = spec.target_refs.iter().position(of_route) else {
        return Ok(());
    };
    let budget = spec
        .retry
        .as_ref()
        .is_some_and(|retry| retry.budget.is_some());
    let sections = [
        ("loadBalancer", spec.load_balancer.is_some()),
        ("connections", spec.connections.is_some()),
        ("circuitBreaker", spec.circuit_breaker.is_some()),
        ("retry.budget", budget),
    ];
    match sections.into_iter().find(|(_, present)| *present) {
        None => Ok(()),
        Some((section, _)) => {
            let reason = format!(
                "is of a service as a whole, and spec.targetRefs[{i}] is a route; write it in a policy for the service"
            );
            Err(Invalid::new(format!("spec.{section}"), reason))
        }
    }
}

fn settings(namespace: &Arc<str>, spec: TrafficPolicySpec) -> Result<Settings, Invalid> {
    let TrafficPolicySpec {
        target_refs: _,
        load_balancer,
        connections,
        circuit_breaker,
        retry,
        timeout,
        rate_limit,
        concurrency_limit,
        fault,
        mirror,
    } = spec;
    if let (Some(each), Some(request)) = (
        retry.as_ref().and_then(|retry| retry.per_try_timeout),
        timeout
            .as_ref()
            .and_then(|timeout| timeout.request?.limit()),
    ) && each.get() > request
    {
        let reason = "is longer than a request may take with all its attempts; write no more than timeout.request";
        return Err(Invalid::new("spec.retry.perTryTimeout", reason));
    }
    Ok(Settings {
        load_balancer: shared(load_balancer, endpoints::load_balancing)?,
        connections: shared(connections, endpoints::connections)?,
        breaker: shared(circuit_breaker, endpoints::breaker)?,
        retry: shared(retry, requests::retry)?,
        timeouts: timeout.map(requests::timeouts),
        rate_limit: shared(rate_limit, self::rate_limit)?,
        concurrency_limit: concurrency_limit.map(self::concurrency_limit).transpose()?,
        fault: shared(fault, requests::fault)?,
        mirror: shared(mirror, |mirror| requests::mirror(namespace, mirror))?,
    })
}

fn shared<A, B>(
    section: Option<A>,
    convert: impl FnOnce(A) -> Result<B, Invalid>,
) -> Result<Option<Arc<B>>, Invalid> {
    Ok(section.map(convert).transpose()?.map(Arc::new))
}

fn rate_limit(limit: RateLimit) -> Result<policy::RateLimit, Invalid> {
    let at = |name: &str| format!("spec.rateLimit.{name}");
    let requests = count(&at("requests"), limit.requests)?;
    let mut by = Vec::with_capacity(limit.by.len());
    for (i, key) in limit.by.into_iter().enumerate() {
        let field = format!("{}[{i}]", at("by"));
        let key = match key {
            RateLimitKey::Identity => policy::RateLimitKey::Identity,
            RateLimitKey::SourceAddress => policy::RateLimitKey::SourceAddress,
            RateLimitKey::Header(name) => policy::RateLimitKey::Header(super::text::header_name(
                &format!("{field}.header"),
                &name,
            )?),
        };
        if by.contains(&key) {
            return Err(Invalid::new(
                field,
                "stands there before; remove one of them",
            ));
        }
        by.push(key);
    }
    Ok(policy::RateLimit {
        requests,
        per: limit.per.get(),
        burst: limit
            .burst
            .map_or(Ok(requests), |burst| count(&at("burst"), burst))?,
        by,
        maximum_keys: count(&at("maximumKeys"), limit.maximum_keys)?,
    })
}

fn concurrency_limit(limit: ConcurrencyLimit) -> Result<policy::ConcurrencyLimit, Invalid> {
    let field = "spec.concurrencyLimit";
    match (limit.maximum, limit.adaptive) {
        (Some(maximum), None) => Ok(policy::ConcurrencyLimit::Fixed {
            maximum: count(&format!("{field}.maximum"), maximum)?,
        }),
        (None, Some(adaptive)) => {
            let at = |name: &str| format!("{field}.adaptive.{name}");
            if adaptive.maximum < adaptive.minimum {
                let reason = format!(
                    "{} is less than minimum; write {} or more",
                    adaptive.maximum, adaptive.minimum
                );
                return Err(Invalid::new(at("maximum"), reason));
            }
            Ok(policy::ConcurrencyLimit::Adaptive {
                minimum: count(&at("minimum"), adaptive.minimum)?,
                maximum: count(&at("maximum"), adaptive.maximum)?,
            })
        }
        (None, None) => Err(Invalid::new(
            field,
            "limits nothing; write maximum or adaptive",
        )),
        (Some(_), Some(_)) => {
            let reason = "stands beside maximum; remove one of them";
            Err(Invalid::new(format!("{field}.adaptive"), reason))
        }
    }
}

/// A number that the schema lets be one at least.
fn count(field: &str, number: u32) -> Result<NonZeroU32, Invalid> {
    NonZeroU32::new(number).ok_or_else(|| Invalid::new(field, "0 is out of range; write 1 or more"))
}

#[cfg(test)]
mod tests;
