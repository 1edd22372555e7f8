//! `envoy.config.route.v3.RouteConfiguration`: what becomes of a request.

mod action;
mod fault;
mod headers;
mod matches;

use self::headers::Level;
use super::{
    Invalid,
    field::{At, Fault, not_empty, required, timeout, unsupported},
    retry,
};
use crate::snapshot::{
    Retry,
    admission::Match,
    route::{Action, Conditions, Domain, Fault as Injected, Forward, Mirror, PathMatch},
};
use std::{collections::HashSet, sync::Arc, time::Duration};
use weft_xds_proto::{
    envoy::{
        envoy::config::route::v3::{
            Route, RouteConfiguration, RouteMatch, VirtualHost, route::Action as ProtoAction,
            route_action::RequestMirrorPolicy, virtual_host::TlsRequirementType,
        },
        google::protobuf::Any,
    },
    resource::ResourceType,
};

/// A route configuration whose clusters are still names.
#[derive(Debug, Clone, PartialEq)]
pub struct Routes {
    /// The resource name.
    pub name: Arc<str>,
    /// By host.
    pub virtual_hosts: Vec<Host>,
}

/// The routes of some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// `VirtualHost.domains`, lower case.
    pub domains: Vec<Domain>,
    /// In order.
    pub routes: Vec<Rule>,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name in telemetry.
    pub name: Arc<str>,
    /// What the path must be.
    pub path: PathMatch,
    /// What else must be.
    pub conditions: Option<Arc<Conditions>>,
    /// What goes wrong on purpose.
    pub fault: Option<Arc<Injected>>,
    /// How long no byte may move.
    pub idle_timeout: IdleTimeout,
    /// What becomes of the request.
    pub action: Action<Arc<str>>,
}

/// `RouteAction.idle_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleTimeout {
    /// Absent: that of the listener (`HttpConnectionManager.stream_idle_timeout`).
    OfListener,
    /// Set; `None` never ends.
    Of(Option<Duration>),
}

/// What a route has from what it stands in.
struct Around<'c> {
    /// Changes to header fields, from the outermost level to the innermost.
    levels: Vec<&'c Level>,
    /// `most_specific_header_mutations_wins`.
    most_specific_wins: bool,
    fault: Option<Arc<Injected>>,
    /// They are not merged: the innermost that has any counts.
    mirrors: Arc<[Mirror<Arc<str>>]>,
    /// They are not merged either.
    retry: Option<&'c Retry>,
}

impl Around<'_> {
    /// The mirrors of what has these policies of its own.
    fn mirrors(&self, own: &[RequestMirrorPolicy]) -> Result<Arc<[Mirror<Arc<str>>]>, Fault> {
        match own {
            [] => Ok(self.mirrors.clone()),
            own => action::mirrors(own),
        }
    }
}

impl Routes {
    /// The clusters that it refers to.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.virtual_hosts
            .iter()
            .flat_map(|host| &host.routes)
            .flat_map(|rule| rule.action.clusters())
    }
}

/// Converts a RouteConfiguration.
///
/// Not honoured, as it makes no difference without filters that this proxy does not have: rate limits and CORS; and
/// what is for a proxy at the edge: `internal_only_headers`.
pub fn convert(name: &str, body: &Any) -> Result<Arc<Routes>, Invalid> {
    super::resource(
        ResourceType::Route,
        name,
        body,
        |config: &RouteConfiguration| &config.name,
        |config| routes(config).map(Arc::new),
    )
}

pub(super) fn routes(config: RouteConfiguration) -> Result<Routes, Fault> {
    unsupported("vhds", config.vhds.is_some())?;
    unsupported("vhost_header", !config.vhost_header.is_empty())?;
    unsupported(
        "ignore_port_in_host_matching",
        config.ignore_port_in_host_matching,
    )?;
    unsupported(
        "ignore_path_parameters_in_path_matching",
        config.ignore_path_parameters_in_path_matching,
    )?;
    unsupported("route_specifiers", !config.route_specifiers.is_empty())?;
    let level = Level::new(
        &config.request_headers_to_add,
        &config.request_headers_to_remove,
        &config.response_headers_to_add,
        &config.response_headers_to_remove,
    )?;
    let around = Around {
        levels: vec![&level],
        most_specific_wins: config.most_specific_header_mutations_wins,
        fault: fault::of(&config.typed_per_filter_config, None)?,
        mirrors: action::mirrors(&config.request_mirror_policies)?,
        retry: None,
    };
    let mut seen = HashSet::new();
    let mut virtual_hosts = Vec::with_capacity(config.virtual_hosts.len());
    for (position, host) in config.virtual_hosts.iter().enumerate() {
        let at = format_args!("virtual_hosts[{position}]");
        virtual_hosts.push(virtual_host(host, &around, &mut seen).at(at)?);
    }
    Ok(Routes {
        name: config.name.into(),
        virtual_hosts,
    })
}

fn virtual_host(
    host: &VirtualHost,
    around: &Around<'_>,
    seen: &mut HashSet<String>,
) -> Result<Host, Fault> {
    unsupported("matcher", host.matcher.is_some())?;
    unsupported(
        "require_tls",
        host.require_tls != TlsRequirementType::None as i32,
    )?;
    unsupported("route_specifiers", !host.route_specifiers.is_empty())?;
    let level = Level::new(
        &host.request_headers_to_add,
        &host.request_headers_to_remove,
        &host.response_headers_to_add,
        &host.response_headers_to_remove,
    )?;
    let retry = host.retry_policy.as_ref().map(retry::policy).transpose();
    let retry = retry.at("retry_policy")?.flatten();
    let around = Around {
        levels: around.levels.iter().copied().chain([&level]).collect(),
        most_specific_wins: around.most_specific_wins,
        fault: fault::of(&host.typed_per_filter_config, around.fault.clone())?,
        mirrors: around.mirrors(&host.request_mirror_policies)?,
        retry: retry.as_ref(),
    };
    if host.domains.is_empty() {
        return Err(Fault::new("must not be empty").at("domains"));
    }
    let mut domains = Vec::with_capacity(host.domains.len());
    for (position, text) in host.domains.iter().enumerate() {
        let at = format_args!("domains[{position}]");
        domains.push(domain(text).at(at)?);
        if !seen.insert(text.to_ascii_lowercase()) {
            return Err(Fault::new(format!("{text:?} is already in use")).at(at));
        }
    }
    let mut routes = Vec::with_capacity(host.routes.len());
    for (position, route) in host.routes.iter().enumerate() {
        routes.push(rule(route, &around).at(format_args!("routes[{position}]"))?);
    }
    Ok(Host { domains, routes })
}

fn domain(text: &str) -> Result<Domain, Fault> {
    let text = not_empty("", text)?.to_ascii_lowercase();
    let pattern = match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => return Ok(Domain::Any),
        (Some(suffix), _) => Domain::Suffix(suffix.into()),
        (None, Some(prefix)) => Domain::Prefix(prefix.into()),
        (None, None) => Domain::Exact(text.as_str().into()),
    };
    match &pattern {
        Domain::Suffix(rest) | Domain::Prefix(rest) | Domain::Exact(rest) if rest.contains('*') => {
            Err(Fault::new(format!(
                "{text:?} has a star elsewhere than at one end"
            )))
        }
        _ => Ok(pattern),
    }
}

/// What requests a limit of the workload is for.
pub(super) fn requests(rule: &RouteMatch) -> Result<Match, Fault> {
    let (path, conditions) = matches::convert(rule)?;
    Ok(Match { path, conditions })
}

fn rule(route: &Route, around: &Around<'_>) -> Result<Rule, Fault> {
    unsupported("route_specifiers", !route.route_specifiers.is_empty())?;
    let level = Level::new(
        &route.request_headers_to_add,
        &route.request_headers_to_remove,
        &route.response_headers_to_add,
        &route.response_headers_to_remove,
    )?;
    let around = Around {
        levels: around.levels.iter().copied().chain([&level]).collect(),
        most_specific_wins: around.most_specific_wins,
        fault: fault::of(&route.typed_per_filter_config, around.fault.clone())?,
        mirrors: around.mirrors.clone(),
        retry: around.retry,
    };
    let (path, conditions) =
        matches::convert(required("match", route.r#match.as_ref())?).at("match")?;
    let other = |field| Err(Fault::new("is not supported by this proxy").at(field));
    let mut idle_timeout = IdleTimeout::OfListener;
    let action = match required("action", route.action.as_ref())? {
        ProtoAction::Route(action) => {
            if let Some(idle) = &action.idle_timeout {
                let own = timeout("idle_timeout", Some(idle), None).at("route")?;
                idle_timeout = IdleTimeout::Of(own);
            }
            unsupported(
                "retry_policy_typed_config",
                action.retry_policy_typed_config.is_some(),
            )
            .at("route")?;
            unsupported("hedge_policy", action.hedge_policy.is_some()).at("route")?;
            let (own, metadata) = (action.retry_policy.as_ref(), route.metadata.as_ref());
            Action::Forward(Forward {
                retry: retry::retry(own, around.retry, metadata)?.map(Arc::new),
                ..action::forward(action, &around).at("route")?
            })
        }
        ProtoAction::Redirect(redirect) => Action::Redirect(Arc::new(
            action::redirect(redirect, &around).at("redirect")?,
        )),
        ProtoAction::DirectResponse(answer) => Action::Respond(Arc::new(
            action::respond(answer, &around).at("direct_response")?,
        )),
        ProtoAction::FilterAction(_) => return other("filter_action"),
        ProtoAction::NonForwardingAction(_) => return other("non_forwarding_action"),
    };
    Ok(Rule {
        name: match route.name.as_str() {
            "" => "default".into(),
            name => name.into(),
        },
        path,
        conditions,
        fault: around.fault,
        idle_timeout,
        action,
    })
}
