//! Routes as JSON. What is not configured is left out.

use super::{retry, seconds, timeout};
use crate::{
    snapshot::{
        Share,
        route::{
            AbortStatus, Action, Backend, Conditions, Domain, Fault, Field, Forward, HashPolicy,
            HashSource, HeaderChange, HeaderMatch, Mirror, MirrorHost, PathMatch, PathRewrite,
            QueryValue, Redirect, Respond, TextMatch, ValueMatch,
        },
    },
    xds::convert::{
        Routes,
        route::{IdleTimeout, Rule},
    },
};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A route configuration.
pub(super) fn routes(routes: &Routes) -> Value {
    let hosts = routes.virtual_hosts.iter().map(|host| {
        json!({
            "domains": host.domains.iter().map(domain).collect::<Vec<_>>(),
            "routes": host.routes.iter().map(rule).collect::<Vec<_>>(),
        })
    });
    json!({ "name": routes.name.as_ref(), "virtual_hosts": hosts.collect::<Vec<_>>() })
}

fn rule(rule: &Rule) -> Value {
    let (kind, action) = match &rule.action {
        Action::Forward(forward) => ("forward", forwarded(forward, rule.idle_timeout)),
        Action::Redirect(redirect) => ("redirect", redirected(redirect)),
        Action::Respond(answer) => ("respond", responded(answer)),
    };
    object([
        ("name", Some(json!(rule.name.as_ref()))),
        ("path", Some(path(&rule.path))),
        ("conditions", rule.conditions.as_deref().map(conditions)),
        ("fault", rule.fault.as_deref().map(fault)),
        (kind, Some(action)),
    ])
}

fn domain(domain: &Domain) -> String {
    match domain {
        Domain::Exact(host) => host.to_string(),
        Domain::Suffix(suffix) => format!("*{suffix}"),
        Domain::Prefix(prefix) => format!("{prefix}*"),
        Domain::Any => "*".to_owned(),
    }
}

pub(super) fn path(path: &PathMatch) -> Value {
    match path {
        PathMatch::Exact(path) => json!({ "exact": path.as_ref() }),
        PathMatch::Prefix(prefix) => json!({ "prefix": prefix.as_ref() }),
        PathMatch::SegmentPrefix(prefix) => json!({ "path_separated_prefix": prefix.as_ref() }),
        PathMatch::Regex(pattern) => json!({ "regex": pattern.source() }),
    }
}

pub(super) fn conditions(conditions: &Conditions) -> Value {
    let query = conditions.query.iter().map(|parameter| {
        let value = match &parameter.value {
            QueryValue::Present => json!("present"),
            QueryValue::Absent => json!("absent"),
            QueryValue::Text(rule) => text(rule),
        };
        json!({ "name": parameter.name.as_ref(), "value": value })
    });
    object([
        (
            "method",
            conditions
                .method
                .as_ref()
                .map(|method| json!(method.as_str())),
        ),
        ("headers", list(conditions.headers.iter().map(header))),
        ("query_parameters", list(query)),
        ("grpc", set(conditions.grpc)),
    ])
}

fn header(condition: &HeaderMatch) -> Value {
    let value = match &condition.value {
        ValueMatch::Present => json!("present"),
        ValueMatch::Text(rule) => text(rule),
        ValueMatch::Range(range) => json!({ "from": range.start, "below": range.end }),
    };
    object([
        ("name", Some(json!(field(&condition.field)))),
        ("value", Some(value)),
        ("invert", set(condition.invert)),
        ("absent_is_empty", set(condition.absent_is_empty)),
    ])
}

fn field(field: &Field) -> &str {
    match field {
        Field::Named(name) => name.as_str(),
        Field::Method => ":method",
        Field::Authority => ":authority",
        Field::Path => ":path",
    }
}

fn text(rule: &TextMatch) -> Value {
    match rule {
        TextMatch::Exact(text) => json!({ "exact": text.as_ref() }),
        TextMatch::Prefix(text) => json!({ "prefix": text.as_ref() }),
        TextMatch::Suffix(text) => json!({ "suffix": text.as_ref() }),
        TextMatch::Contains(text) => json!({ "contains": text.as_ref() }),
        TextMatch::Regex(pattern) => json!({ "regex": pattern.source() }),
    }
}

fn fault(fault: &Fault) -> Value {
    let delay = fault.delay.map(
        |delay| json!({ "percent": percent(delay.share), "duration": seconds(delay.duration) }),
    );
    let abort = fault.abort.map(|abort| match abort.status {
        AbortStatus::Http(status) => {
            json!({ "percent": percent(abort.share), "status": status.as_u16() })
        }
        AbortStatus::Grpc(status) => {
            json!({ "percent": percent(abort.share), "grpc_status": status })
        }
    });
    object([
        ("headers", list(fault.headers.iter().map(header))),
        ("delay", delay),
        ("abort", abort),
    ])
}

fn forwarded(forward: &Forward<Arc<str>>, idle_timeout: IdleTimeout) -> Value {
    let idle_timeout = match idle_timeout {
        IdleTimeout::OfListener => json!("of the listener"),
        IdleTimeout::Of(limit) => timeout(limit),
    };
    object([
        ("backends", list(forward.backends.all().iter().map(backend))),
        ("absent_is_error", set(forward.absent_is_error)),
        ("timeout", Some(timeout(forward.timeout))),
        (
            "grpc_timeout_max",
            forward.grpc_timeout_max.map(|max| json!(seconds(max))),
        ),
        ("idle_timeout", Some(idle_timeout)),
        ("retry", forward.retry.as_deref().map(retry::retry)),
        ("hash", list(forward.hash.iter().map(hash))),
        ("path", forward.path.as_ref().map(rewrite)),
        ("mirrors", list(forward.mirrors.iter().map(mirror))),
    ])
}

fn backend(backend: &Backend<Arc<str>>) -> Value {
    object([
        ("cluster", Some(json!(backend.cluster.as_ref()))),
        ("weight", Some(json!(backend.weight))),
        (
            "host",
            backend
                .host
                .as_ref()
                .map(|host| json!(host.authority.as_str())),
        ),
        ("request_headers", changes(&backend.headers.request)),
        ("response_headers", changes(&backend.headers.response)),
    ])
}

fn hash(policy: &HashPolicy) -> Value {
    let mut value = match &policy.source {
        HashSource::Header(name, rewrite) => object([
            ("header", Some(json!(field(name)))),
            (
                "rewrite",
                rewrite
                    .clone()
                    .map(PathRewrite::Regex)
                    .as_ref()
                    .map(self::rewrite),
            ),
        ]),
        HashSource::Cookie(cookie) => object([
            ("cookie", Some(json!(cookie.name.as_ref()))),
            (
                "ttl",
                cookie
                    .issue
                    .as_ref()
                    .map(|issued| json!(seconds(issued.ttl))),
            ),
        ]),
        HashSource::QueryParameter(name) => json!({ "query_parameter": name.as_ref() }),
        HashSource::SourceAddress => json!({ "source_address": true }),
    };
    if policy.terminal {
        value["terminal"] = json!(true);
    }
    value
}

fn mirror(mirror: &Mirror<Arc<str>>) -> Value {
    let host = match &mirror.host {
        MirrorHost::Shadow => "-shadow",
        MirrorHost::Same => "same",
        MirrorHost::Other(host) => host.authority.as_str(),
    };
    object([
        ("cluster", Some(json!(mirror.cluster.as_ref()))),
        ("percent", Some(percent(mirror.share))),
        ("host", Some(json!(host))),
        ("request_headers", changes(&mirror.headers)),
    ])
}

fn redirected(redirect: &Redirect) -> Value {
    object([
        (
            "scheme",
            redirect
                .scheme
                .as_ref()
                .map(|scheme| json!(scheme.as_ref())),
        ),
        (
            "host",
            redirect.host.as_ref().map(|host| json!(host.as_ref())),
        ),
        ("port", redirect.port.map(|port| json!(port))),
        ("path", redirect.path.as_ref().map(rewrite)),
        ("status", Some(json!(redirect.status.as_u16()))),
        ("strip_query", set(redirect.strip_query)),
        ("response_headers", changes(&redirect.headers)),
    ])
}

fn responded(answer: &Respond) -> Value {
    object([
        ("status", Some(json!(answer.status.as_u16()))),
        ("body_bytes", Some(json!(answer.body.len()))),
        ("response_headers", changes(&answer.headers)),
    ])
}

fn rewrite(rewrite: &PathRewrite) -> Value {
    match rewrite {
        PathRewrite::Prefix(prefix) => json!({ "replace_prefix": prefix.as_ref() }),
        PathRewrite::Full(path) => json!({ "replace": path.as_ref() }),
        PathRewrite::Regex(substitution) => json!({
            "regex": substitution.source(),
            "substitution": substitution.replacement(),
        }),
    }
}

fn changes(changes: &[HeaderChange]) -> Option<Value> {
    list(changes.iter().map(|change| {
        let (kind, name, value) = match change {
            HeaderChange::Remove(name) => return json!({ "remove": name.as_str() }),
            HeaderChange::Set(name, value) => ("set", name, value),
            HeaderChange::Replace(name, value) => ("replace", name, value),
            HeaderChange::Add(name, value) => ("add", name, value),
            HeaderChange::AddIfAbsent(name, value) => ("add_if_absent", name, value),
        };
        json!({ kind: name.as_str(), "value": String::from_utf8_lossy(value.as_bytes()) })
    }))
}

pub(super) fn percent(share: Share) -> Value {
    json!(share.as_f64() * 100.0)
}

pub(super) fn list(values: impl Iterator<Item = Value>) -> Option<Value> {
    let values: Vec<Value> = values.collect();
    (!values.is_empty()).then_some(Value::Array(values))
}

fn set(flag: bool) -> Option<Value> {
    flag.then_some(Value::Bool(true))
}

/// An object of the fields that there are.
pub(super) fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)))
        .collect::<Map<_, _>>()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::{
            pattern::Pattern,
            route::{Abort, Backends, Delay, HashCookie, HeaderChanges, HostRewrite},
        },
        xds::convert::route::Host,
    };
    use bytes::Bytes;
    use http::{HeaderName, HeaderValue, Method, StatusCode};
    use std::time::Duration;

    fn rule(action: Action<Arc<str>>) -> Rule {
        Rule {
            name: "all".into(),
            path: PathMatch::Prefix("/".into()),
            conditions: None,
            fault: None,
            idle_timeout: IdleTimeout::OfListener,
            action,
        }
    }

    fn shown(rule: Rule) -> Value {
        let host = Host {
            domains: vec![Domain::Any],
            routes: vec![rule],
        };
        let table = Routes {
            name: "user".into(),
            virtual_hosts: vec![host],
        };
        routes(&table)["virtual_hosts"][0]["routes"][0].take()
    }

    #[test]
    fn a_plain_route_is_a_few_lines() {
        assert_eq!(
            shown(rule(Action::Forward(Forward::to("user".into())))),
            json!({
                "name": "all",
                "path": { "prefix": "/" },
                "forward": {
                    "backends": [{ "cluster": "user", "weight": 1 }],
                    "timeout": "15s",
                    "idle_timeout": "of the listener",
                },
            })
        );
    }

    #[test]
    fn everything_that_is_configured_is_shown() {
        let name = HeaderName::from_static("x-user");
        let header = HeaderMatch {
            field: Field::Named(name.clone()),
            value: ValueMatch::Text(TextMatch::Regex(Pattern::new("a.*").unwrap())),
            invert: true,
            absent_is_empty: false,
        };
        let conditions = Conditions {
            method: Some(Method::GET),
            headers: [header.clone()].into(),
            grpc: true,
            ..Conditions::default()
        };
        let fault = Fault {
            headers: [header].into(),
            delay: Some(Delay {
                share: Share::percent(10),
                duration: Duration::from_millis(100),
            }),
            abort: Some(Abort {
                share: Share::ALL,
                status: AbortStatus::Grpc(14),
            }),
        };
        let backend = Backend {
            host: HostRewrite::new("other"),
            headers: HeaderChanges {
                request: [HeaderChange::Set(
                    name.clone(),
                    HeaderValue::from_static("1"),
                )]
                .into(),
                response: [HeaderChange::Remove(name)].into(),
            },
            ..Backend::new("user".into())
        };
        let forward = Forward {
            backends: Backends::only(backend),
            absent_is_error: true,
            timeout: None,
            hash: [HashPolicy {
                source: HashSource::Cookie(HashCookie {
                    name: "session".into(),
                    issue: None,
                }),
                terminal: true,
            }]
            .into(),
            path: Some(PathRewrite::Prefix("/b".into())),
            mirrors: [Mirror {
                cluster: "shadow".into(),
                share: Share::percent(1),
                host: MirrorHost::Shadow,
                headers: Arc::default(),
            }]
            .into(),
            ..Forward::to("user".into())
        };
        let rule = Rule {
            conditions: Some(Arc::new(conditions)),
            fault: Some(Arc::new(fault)),
            idle_timeout: IdleTimeout::Of(None),
            ..rule(Action::Forward(forward))
        };
        let header = json!({ "name": "x-user", "value": { "regex": "a.*" }, "invert": true });
        assert_eq!(
            shown(rule),
            json!({
                "name": "all",
                "path": { "prefix": "/" },
                "conditions": { "method": "GET", "headers": [header], "grpc": true },
                "fault": {
                    "headers": [header],
                    "delay": { "percent": 10.0, "duration": "0.1s" },
                    "abort": { "percent": 100.0, "grpc_status": 14 },
                },
                "forward": {
                    "backends": [{
                        "cluster": "user",
                        "weight": 1,
                        "host": "other",
                        "request_headers": [{ "set": "x-user", "value": "1" }],
                        "response_headers": [{ "remove": "x-user" }],
                    }],
                    "absent_is_error": true,
                    "timeout": "never",
                    "idle_timeout": "never",
                    "hash": [{ "cookie": "session", "terminal": true }],
                    "path": { "replace_prefix": "/b" },
                    "mirrors": [{ "cluster": "shadow", "percent": 1.0, "host": "-shadow" }],
                },
            })
        );
    }

    #[test]
    fn answers_of_the_proxy_are_shown() {
        let redirect = Redirect {
            scheme: Some("https".into()),
            host: None,
            port: None,
            path: None,
            status: StatusCode::FOUND,
            strip_query: true,
            headers: Arc::default(),
        };
        assert_eq!(
            shown(rule(Action::Redirect(Arc::new(redirect))))["redirect"],
            json!({ "scheme": "https", "status": 302, "strip_query": true })
        );
        let answer = Respond {
            status: StatusCode::NOT_FOUND,
            body: Bytes::from_static(b"gone"),
            headers: Arc::default(),
        };
        assert_eq!(
            shown(rule(Action::Respond(Arc::new(answer))))["respond"],
            json!({ "status": 404, "body_bytes": 4 })
        );
    }
}
