//! `GRPCRoute`, of which a method is a path of two segments.

use super::{
    Invalid, Verdict, backend,
    route::{self, Parts},
    text,
};
use crate::{
    api::gateway::{GrpcFilter, GrpcMatch, GrpcMethodMatch, GrpcRouteRule, GrpcRouteSpec},
    world::{
        ObjectKey,
        route::{Filter, Match, PathMatch, RouteKind, Rule},
    },
};
use serde_json::Value;
use std::sync::Arc;

/// What a rule that has another filter type names.
const FILTERS: &str = "RequestHeaderModifier, ResponseHeaderModifier or RequestMirror";

pub(super) fn convert(key: ObjectKey, value: Value) -> Verdict {
    route::convert(
        RouteKind::Grpc,
        key,
        value,
        |namespace, spec: GrpcRouteSpec| {
            Ok(Parts {
                hostnames: spec.hostnames,
                rules: (0..)
                    .zip(&spec.rules)
                    .map(|(i, item): (usize, _)| rule(&format!("spec.rules[{i}]"), namespace, item))
                    .collect::<Result<_, _>>()?,
            })
        },
    )
}

fn rule(field: &str, namespace: &str, rule: &GrpcRouteRule) -> Result<Rule, Invalid> {
    let at = |name: &str| format!("{field}.{name}");
    route::unsupported(
        at("sessionPersistence"),
        rule.session_persistence.as_ref(),
        "write a TrafficPolicy with loadBalancer.consistentHash for the service",
    )?;
    Ok(Rule {
        name: rule.name.as_deref().map(Arc::from),
        matches: matches(&at("matches"), &rule.matches)?,
        filters: filters(&at("filters"), namespace, &rule.filters)?,
        backends: backend::backends(field, namespace, &rule.backend_refs, false)?,
        request_timeout: None,
        backend_request_timeout: None,
        retry: None,
    })
}

fn matches(field: &str, listed: &[GrpcMatch]) -> Result<Vec<Match>, Invalid> {
    if listed.is_empty() {
        return Ok(vec![Match::everything()]);
    }
    let one = |(i, item): (usize, &GrpcMatch)| {
        let at = |name: &str| format!("{field}[{i}].{name}");
        Ok(Match {
            path: match &item.method {
                Some(method) => path(&at("method"), method)?,
                None => PathMatch::Prefix("/".into()),
            },
            headers: route::values(&at("headers"), &item.headers, text::header_name)?,
            query: Vec::new(),
            method: None,
        })
    };
    listed.iter().enumerate().map(one).collect()
}

fn path(field: &str, item: &GrpcMethodMatch) -> Result<PathMatch, Invalid> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (given(&item.service), given(&item.method));
    if service.is_none() && method.is_none() {
        let reason = "is empty, which matches nothing in particular; write service or method, or leave it out";
        return Err(Invalid::new(field, reason));
    }
    let at = |name: &str| format!("{field}.{name}");
    match item.kind.as_deref() {
        None | Some("Exact") => {
            for (name, text) in [("service", &service), ("method", &method)] {
                check_name(&at(name), text.as_deref(), name == "service")?;
            }
            Ok(match (service, method) {
                (Some(service), Some(method)) => {
                    PathMatch::Exact(format!("/{service}/{method}").into())
                }
                (Some(service), None) => PathMatch::Prefix(format!("/{service}").into()),
                (None, method) => {
                    let method = method.unwrap_or_default();
                    PathMatch::Regex(format!("/{}/{method}", PathMatch::ANY_SEGMENT).into())
                }
            })
        }
        Some("RegularExpression") => {
            let part = |name, text: Option<String>| match text {
                Some(text) => {
                    text::expression(&at(name), &text)?;
                    Ok(format!("(?:{text})"))
                }
                None => Ok(PathMatch::ANY_SEGMENT.to_owned()),
            };
            let (service, method) = (part("service", service)?, part("method", method)?);
            let whole: Arc<str> = text::expression(field, &format!("/{service}/{method}"))?;
            Ok(PathMatch::Regex(whole))
        }
        Some(other) => {
            let known = "Exact or RegularExpression";
            Err(route::unknown_match(at("type"), other, known))
        }
    }
}

/// An identifier of protobuf; that of a service may have dots.
fn check_name(field: &str, text: Option<&str>, may_have_dots: bool) -> Result<(), Invalid> {
    let identifier = |part: &str| {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        part.starts_with(first) && part.chars().all(|c| first(c) || c.is_ascii_digit())
    };
    let Some(text) = text else { return Ok(()) };
    let fits = if may_have_dots {
        text.split('.').all(identifier)
    } else {
        identifier(text)
    };
    if fits {
        return Ok(());
    }
    let like = if may_have_dots {
        "demo.v1.Users"
    } else {
        "Get"
    };
    let reason = format!("{text:?} is not a name of gRPC; write one such as {like}");
    Err(Invalid::new(field, reason))
}

fn filters(field: &str, namespace: &str, listed: &[GrpcFilter]) -> Result<Vec<Filter>, Invalid> {
    let mut filters = Vec::with_capacity(listed.len());
    for (i, item) in listed.iter().enumerate() {
        let at = format!("{field}[{i}]");
        let earlier = listed[..i].iter().any(|other| other.kind == item.kind);
        if item.kind != "RequestMirror" && earlier {
            let reason = format!("{} stands in the rule before; make them one", item.kind);
            return Err(Invalid::new(at, reason));
        }
        filters.push(filter(&at, namespace, item)?);
    }
    Ok(filters)
}

fn filter(field: &str, namespace: &str, filter: &GrpcFilter) -> Result<Filter, Invalid> {
    let GrpcFilter {
        kind,
        request_header_modifier,
        response_header_modifier,
        request_mirror,
        extension_ref,
    } = filter;
    let present = [
        ("requestHeaderModifier", request_header_modifier.is_some()),
        ("responseHeaderModifier", response_header_modifier.is_some()),
        ("requestMirror", request_mirror.is_some()),
        ("extensionRef", extension_ref.is_some()),
    ];
    let headers = |name, body: &Option<_>| {
        let modifier = route::filter_body(field, kind, name, body.as_ref(), &present)?;
        route::header_changes(&format!("{field}.{name}"), modifier)
    };
    match kind.as_str() {
        "RequestHeaderModifier" => {
            let changes = headers("requestHeaderModifier", request_header_modifier)?;
            Ok(Filter::RequestHeaders(changes))
        }
        "ResponseHeaderModifier" => {
            let changes = headers("responseHeaderModifier", response_header_modifier)?;
            Ok(Filter::ResponseHeaders(changes))
        }
        "RequestMirror" => {
            let name = "requestMirror";
            let body = request_mirror.as_ref();
            let mirror = route::filter_body(field, kind, name, body, &present)?;
            let mirror = route::mirror(&format!("{field}.{name}"), namespace, mirror)?;
            Ok(Filter::Mirror(mirror))
        }
        other => Err(route::unknown_filter(field, other, FILTERS)),
    }
}
