//! `HTTPRoute`.

use super::{
    Invalid, Verdict, backend, port,
    route::{self, Parts},
    text,
};
use crate::{
    api::{
        Duration,
        gateway::{
            self, HttpFilter, HttpMatch, HttpRouteRule, HttpRouteSpec, PathModifier,
            RequestRedirect, Timeouts, UrlRewrite,
        },
    },
    world::{
        ObjectKey,
        policy::TimeLimit,
        route::{
            Filter, Match, PathChange, PathMatch, Redirect, Rewrite, RouteKind, Rule, RuleRetry,
        },
    },
};
use serde_json::Value;
use std::{collections::BTreeSet, num::NonZeroU32, sync::Arc};

/// What a rule that has another filter type names.
const FILTERS: &str =
    "RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, RequestRedirect or URLRewrite";
const METHODS: [&str; 9] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

pub(super) fn convert(key: ObjectKey, value: Value) -> Verdict {
    route::convert(
        RouteKind::Http,
        key,
        value,
        |namespace, spec: HttpRouteSpec| {
            let rules = spec.rules.unwrap_or_else(|| vec![HttpRouteRule::default()]);
            Ok(Parts {
                hostnames: spec.hostnames,
                rules: (0..)
                    .zip(&rules)
                    .map(|(i, item): (usize, _)| rule(&format!("spec.rules[{i}]"), namespace, item))
                    .collect::<Result<_, _>>()?,
            })
        },
    )
}

fn rule(field: &str, namespace: &str, rule: &HttpRouteRule) -> Result<Rule, Invalid> {
    let at = |name: &str| format!("{field}.{name}");
    route::unsupported(
        at("sessionPersistence"),
        rule.session_persistence.as_ref(),
        "write a TrafficPolicy with loadBalancer.consistentHash.cookie for the service",
    )?;
    let matches = matches(&at("matches"), &rule.matches)?;
    let filters = filters(&at("filters"), namespace, &rule.filters, &matches)?;
    let answered = filters
        .iter()
        .any(|filter| matches!(filter, Filter::Redirect(_)));
    let (request_timeout, backend_request_timeout) = match &rule.timeouts {
        None => (None, None),
        Some(timeouts) => self::timeouts(&at("timeouts"), timeouts)?,
    };
    Ok(Rule {
        name: rule.name.as_deref().map(Arc::from),
        backends: backend::backends(field, namespace, &rule.backend_refs, answered)?,
        matches,
        filters,
        request_timeout,
        backend_request_timeout,
        retry: rule
            .retry
            .as_ref()
            .map(|item| retry(&at("retry"), item))
            .transpose()?,
    })
}

fn matches(field: &str, listed: &[HttpMatch]) -> Result<Vec<Match>, Invalid> {
    if listed.is_empty() {
        return Ok(vec![Match::everything()]);
    }
    let one = |(i, item): (usize, &HttpMatch)| {
        let at = |name: &str| format!("{field}[{i}].{name}");
        Ok(Match {
            path: match &item.path {
                Some(path) => self::path(&at("path"), path)?,
                None => PathMatch::Prefix("/".into()),
            },
            headers: route::values(&at("headers"), &item.headers, text::header_name)?,
            query: route::values(&at("queryParams"), &item.query_params, query_name)?,
            method: match item.method.as_deref() {
                Some(method) if !METHODS.contains(&method) => {
                    let reason =
                        format!("{method:?} is not a method; write {}", METHODS.join(", "));
                    return Err(Invalid::new(at("method"), reason));
                }
                method => method.map(Arc::from),
            },
        })
    };
    listed.iter().enumerate().map(one).collect()
}

fn path(field: &str, item: &gateway::PathMatch) -> Result<PathMatch, Invalid> {
    let value = item.value.as_deref().unwrap_or("/");
    let at = format!("{field}.value");
    Ok(match item.kind.as_deref() {
        Some("Exact") => {
            text::path(&at, value)?;
            PathMatch::Exact(value.into())
        }
        None | Some("PathPrefix") => {
            text::path(&at, value)?;
            // A slash at the end changes nothing: /abc and /abc/ match the same (HTTPPathMatch).
            match value.trim_end_matches('/') {
                "" => PathMatch::Prefix("/".into()),
                prefix => PathMatch::Prefix(prefix.into()),
            }
        }
        Some("RegularExpression") => PathMatch::Regex(text::expression(&at, value)?),
        Some(other) => {
            let known = "Exact, PathPrefix or RegularExpression";
            return Err(route::unknown_match(format!("{field}.type"), other, known));
        }
    })
}

fn query_name(field: &str, name: &str) -> Result<Arc<str>, Invalid> {
    match name {
        "" => Err(Invalid::new(
            field,
            "is empty; write the name of a query parameter",
        )),
        name => Ok(name.into()),
    }
}

fn filters(
    field: &str,
    namespace: &str,
    listed: &[HttpFilter],
    matches: &[Match],
) -> Result<Vec<Filter>, Invalid> {
    let mut filters = Vec::with_capacity(listed.len());
    for (i, item) in listed.iter().enumerate() {
        let at = format!("{field}[{i}]");
        let earlier = |kind: &str| listed[..i].iter().any(|other| other.kind == kind);
        if item.kind != "RequestMirror" && earlier(&item.kind) {
            let reason = format!("{} stands in the rule before; make them one", item.kind);
            return Err(Invalid::new(at, reason));
        }
        if (item.kind == "URLRewrite" && earlier("RequestRedirect"))
            || (item.kind == "RequestRedirect" && earlier("URLRewrite"))
        {
            let reason = "a request is redirected or rewritten, not both; remove URLRewrite or RequestRedirect";
            return Err(Invalid::new(at, reason));
        }
        filters.push(filter(&at, namespace, item, matches)?);
    }
    Ok(filters)
}

fn filter(
    field: &str,
    namespace: &str,
    filter: &HttpFilter,
    matches: &[Match],
) -> Result<Filter, Invalid> {
    let HttpFilter {
        kind,
        request_header_modifier,
        response_header_modifier,
        request_mirror,
        request_redirect,
        url_rewrite,
        cors,
        external_auth,
        extension_ref,
    } = filter;
    let present = [
        ("requestHeaderModifier", request_header_modifier.is_some()),
        ("responseHeaderModifier", response_header_modifier.is_some()),
        ("requestMirror", request_mirror.is_some()),
        ("requestRedirect", request_redirect.is_some()),
        ("urlRewrite", url_rewrite.is_some()),
        ("cors", cors.is_some()),
        ("externalAuth", external_auth.is_some()),
        ("extensionRef", extension_ref.is_some()),
    ];
    let at = |name: &str| format!("{field}.{name}");
    let headers = |name, body: &Option<_>| {
        let modifier = route::filter_body(field, kind, name, body.as_ref(), &present)?;
        route::header_changes(&at(name), modifier)
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
            let (name, body) = ("requestMirror", request_mirror.as_ref());
            let body = route::filter_body(field, kind, name, body, &present)?;
            Ok(Filter::Mirror(route::mirror(&at(name), namespace, body)?))
        }
        "RequestRedirect" => {
            let (name, body) = ("requestRedirect", request_redirect.as_ref());
            let body = route::filter_body(field, kind, name, body, &present)?;
            Ok(Filter::Redirect(redirect(&at(name), body, matches)?))
        }
        "URLRewrite" => {
            let (name, body) = ("urlRewrite", url_rewrite.as_ref());
            let body = route::filter_body(field, kind, name, body, &present)?;
            Ok(Filter::Rewrite(rewrite(&at(name), body, matches)?))
        }
        other => Err(route::unknown_filter(field, other, FILTERS)),
    }
}

fn redirect(field: &str, item: &RequestRedirect, matches: &[Match]) -> Result<Redirect, Invalid> {
    let at = |name: &str| format!("{field}.{name}");
    let status = item.status_code.unwrap_or(302);
    Ok(Redirect {
        scheme: match item.scheme.as_deref() {
            Some(other) if !matches!(other, "http" | "https") => {
                let reason = format!("{other:?} is not a scheme; write http or https");
                return Err(Invalid::new(at("scheme"), reason));
            }
            scheme => scheme.map(Arc::from),
        },
        hostname: host(&at("hostname"), item.hostname.as_deref())?,
        path: path_change(&at("path"), item.path.as_ref(), matches)?,
        port: item
            .port
            .map(|number| port(at("port"), number))
            .transpose()?,
        status: u16::try_from(status)
            .ok()
            .filter(|status| matches!(status, 301 | 302 | 303 | 307 | 308))
            .ok_or_else(|| {
                let reason = format!("{status} is not a redirect; write 301, 302, 303, 307 or 308");
                Invalid::new(at("statusCode"), reason)
            })?,
    })
}

fn rewrite(field: &str, item: &UrlRewrite, matches: &[Match]) -> Result<Rewrite, Invalid> {
    if item.hostname.is_none() && item.path.is_none() {
        let reason = "changes nothing; write hostname or path";
        return Err(Invalid::new(field, reason));
    }
    Ok(Rewrite {
        hostname: host(&format!("{field}.hostname"), item.hostname.as_deref())?,
        path: path_change(&format!("{field}.path"), item.path.as_ref(), matches)?,
    })
}

fn host(field: &str, item: Option<&str>) -> Result<Option<Arc<str>>, Invalid> {
    item.map(|text| text::host(field, text)).transpose()
}

fn path_change(
    field: &str,
    item: Option<&PathModifier>,
    matches: &[Match],
) -> Result<Option<PathChange>, Invalid> {
    let Some(item) = item else { return Ok(None) };
    let at = |name: &str| format!("{field}.{name}");
    let (name, value, other, superfluous) = match item.kind.as_str() {
        "ReplaceFullPath" => (
            "replaceFullPath",
            &item.replace_full_path,
            "replacePrefixMatch",
            &item.replace_prefix_match,
        ),
        "ReplacePrefixMatch" => (
            "replacePrefixMatch",
            &item.replace_prefix_match,
            "replaceFullPath",
            &item.replace_full_path,
        ),
        unknown => {
            let reason = format!(
                "{unknown:?} is not a change of a path; write ReplaceFullPath or ReplacePrefixMatch"
            );
            return Err(Invalid::new(at("type"), reason));
        }
    };
    if superfluous.is_some() {
        let reason = format!("does not go with type {}; write {name} instead", item.kind);
        return Err(Invalid::new(at(other), reason));
    }
    let Some(value) = value else {
        let reason = format!("is missing with type {}; write it", item.kind);
        return Err(Invalid::new(at(name), reason));
    };
    let is_prefix = item.kind == "ReplacePrefixMatch";
    if !(is_prefix && value.is_empty()) {
        text::path(&at(name), value)?;
    }
    if !is_prefix {
        return Ok(Some(PathChange::Full(value.as_str().into())));
    }
    let prefixes = |fit: &Match| matches!(fit.path, PathMatch::Prefix(_));
    if !matches.iter().all(prefixes) {
        let reason = "needs a prefix to replace, and a match of the rule has none; write matches of type PathPrefix only";
        return Err(Invalid::new(at(name), reason));
    }
    Ok(Some(PathChange::Prefix(value.as_str().into())))
}

type BothTimeouts = (Option<TimeLimit>, Option<TimeLimit>);

fn timeouts(field: &str, item: &Timeouts) -> Result<BothTimeouts, Invalid> {
    let limit =
        |duration: Option<Duration>| duration.map(|duration| TimeLimit::from(duration.get()));
    let (request, each) = (limit(item.request), limit(item.backend_request));
    if let (Some(TimeLimit::After(request)), Some(TimeLimit::After(each))) = (request, each)
        && each > request
    {
        let reason = "is longer than the request may take with all its attempts; write no more than timeouts.request";
        return Err(Invalid::new(format!("{field}.backendRequest"), reason));
    }
    Ok((request, each))
}

fn retry(field: &str, item: &gateway::Retry) -> Result<RuleRetry, Invalid> {
    let mut statuses = BTreeSet::new();
    for (i, code) in item.codes.iter().enumerate() {
        let status = u16::try_from(*code).ok();
        let status = status.filter(|status| (400..=599).contains(status));
        statuses.insert(status.ok_or_else(|| {
            let reason = format!("{code} is not the status of an error; write 400 to 599");
            Invalid::new(format!("{field}.codes[{i}]"), reason)
        })?);
    }
    let attempts = item.attempts.map(|again| {
        // The API counts what follows the first.
        let all = u32::try_from(again).ok().filter(|again| *again < 100);
        all.and_then(|again| NonZeroU32::new(again + 1))
            .ok_or_else(|| {
                let reason = format!("{again} is out of range; write 0 to 99");
                Invalid::new(format!("{field}.attempts"), reason)
            })
    });
    let backoff = item.backoff.map(|backoff| {
        backoff.limit().ok_or_else(|| {
            let reason = "is 0s, and retries without a pause make bad times worse; write 25ms or leave it out";
            Invalid::new(format!("{field}.backoff"), reason)
        })
    });
    Ok(RuleRetry {
        statuses,
        attempts: attempts.transpose()?,
        backoff: backoff.transpose()?,
    })
}
