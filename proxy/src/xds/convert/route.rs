//! `envoy.config.route.v3.RouteConfiguration`: which cluster serves a request.

use super::{
    Invalid,
    field::{At, Fault, is, not_empty, required, timeout, unsupported},
};
use crate::snapshot::route::{Domain, PathMatch};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};
use weft_xds_proto::{
    envoy::{
        envoy::config::route::v3::{
            FilterConfig, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
            route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
            virtual_host::TlsRequirementType,
        },
        google::protobuf::Any,
    },
    resource::ResourceType,
};

/// Absent `RouteAction.timeout` (Envoy's default).
const TIMEOUT: Duration = Duration::from_secs(15);

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
    /// The name of the cluster.
    pub cluster: Arc<str>,
    /// `None` never ends.
    pub timeout: Option<Duration>,
    /// How long no byte may move.
    pub idle_timeout: IdleTimeout,
}

/// `RouteAction.idle_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleTimeout {
    /// Absent: that of the listener (`HttpConnectionManager.stream_idle_timeout`).
    OfListener,
    /// Set; `None` never ends.
    Of(Option<Duration>),
}

impl Routes {
    /// The clusters that it refers to.
    pub fn clusters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.virtual_hosts
            .iter()
            .flat_map(|host| &host.routes)
            .map(|rule| &rule.cluster)
    }
}

/// Converts a RouteConfiguration.
///
/// Not honoured (later versions will): retry and hash policies, mirroring, rate limits.
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
    unsupported(
        "ignore_port_in_host_matching",
        config.ignore_port_in_host_matching,
    )?;
    unsupported(
        "request_headers_to_add",
        !config.request_headers_to_add.is_empty(),
    )?;
    unsupported(
        "request_headers_to_remove",
        !config.request_headers_to_remove.is_empty(),
    )?;
    unsupported(
        "response_headers_to_add",
        !config.response_headers_to_add.is_empty(),
    )?;
    unsupported(
        "response_headers_to_remove",
        !config.response_headers_to_remove.is_empty(),
    )?;
    per_filter(&config.typed_per_filter_config)?;
    let mut seen = HashSet::new();
    let mut virtual_hosts = Vec::with_capacity(config.virtual_hosts.len());
    for (position, host) in config.virtual_hosts.into_iter().enumerate() {
        let host = virtual_host(host, &mut seen).at(format_args!("virtual_hosts[{position}]"))?;
        virtual_hosts.push(host);
    }
    Ok(Routes {
        name: config.name.into(),
        virtual_hosts,
    })
}

fn virtual_host(host: VirtualHost, seen: &mut HashSet<String>) -> Result<Host, Fault> {
    unsupported("matcher", host.matcher.is_some())?;
    unsupported(
        "require_tls",
        host.require_tls != TlsRequirementType::None as i32,
    )?;
    unsupported(
        "request_headers_to_add",
        !host.request_headers_to_add.is_empty(),
    )?;
    unsupported(
        "request_headers_to_remove",
        !host.request_headers_to_remove.is_empty(),
    )?;
    unsupported(
        "response_headers_to_add",
        !host.response_headers_to_add.is_empty(),
    )?;
    unsupported(
        "response_headers_to_remove",
        !host.response_headers_to_remove.is_empty(),
    )?;
    per_filter(&host.typed_per_filter_config)?;
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
    for (position, route) in host.routes.into_iter().enumerate() {
        routes.push(rule(route).at(format_args!("routes[{position}]"))?);
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

fn rule(route: Route) -> Result<Rule, Fault> {
    unsupported(
        "request_headers_to_add",
        !route.request_headers_to_add.is_empty(),
    )?;
    unsupported(
        "request_headers_to_remove",
        !route.request_headers_to_remove.is_empty(),
    )?;
    unsupported(
        "response_headers_to_add",
        !route.response_headers_to_add.is_empty(),
    )?;
    unsupported(
        "response_headers_to_remove",
        !route.response_headers_to_remove.is_empty(),
    )?;
    per_filter(&route.typed_per_filter_config)?;
    let path = path_match(required("match", route.r#match)?).at("match")?;
    let action = match required("action", route.action)? {
        Action::Route(action) => action,
        Action::Redirect(_) => {
            return Err(Fault::new("is not supported by this proxy").at("redirect"));
        }
        Action::DirectResponse(_) => {
            return Err(Fault::new("is not supported by this proxy").at("direct_response"));
        }
        Action::FilterAction(_) => {
            return Err(Fault::new("is not supported by this proxy").at("filter_action"));
        }
        Action::NonForwardingAction(_) => {
            return Err(Fault::new("is not supported by this proxy").at("non_forwarding_action"));
        }
    };
    let name = match route.name.as_str() {
        "" => "default",
        name => name,
    };
    route_action(name.into(), path, &action).at("route")
}

/// Every condition counts: one that is ignored makes the route match what it should not.
fn path_match(rule: RouteMatch) -> Result<PathMatch, Fault> {
    unsupported(
        "case_sensitive",
        rule.case_sensitive
            .is_some_and(|sensitive| !sensitive.value),
    )?;
    unsupported("runtime_fraction", rule.runtime_fraction.is_some())?;
    unsupported("headers", !rule.headers.is_empty())?;
    unsupported("query_parameters", !rule.query_parameters.is_empty())?;
    unsupported("cookies", !rule.cookies.is_empty())?;
    unsupported("grpc", rule.grpc.is_some())?;
    unsupported("tls_context", rule.tls_context.is_some())?;
    unsupported("dynamic_metadata", !rule.dynamic_metadata.is_empty())?;
    unsupported("filter_state", !rule.filter_state.is_empty())?;
    match required("path_specifier", rule.path_specifier)? {
        PathSpecifier::Prefix(prefix) => Ok(PathMatch::Prefix(prefix.into())),
        PathSpecifier::Path(path) => Ok(PathMatch::Exact(path.into())),
        PathSpecifier::PathSeparatedPrefix(prefix) => {
            // RouteMatch.path_separated_prefix: starts with a slash, does not end in one.
            if !prefix.starts_with('/') || prefix.ends_with('/') {
                return Err(Fault::new(format!(
                    "must start with a slash and not end with one, got {prefix:?}"
                ))
                .at("path_separated_prefix"));
            }
            Ok(PathMatch::SegmentPrefix(prefix.into()))
        }
        PathSpecifier::SafeRegex(_) => unsupported_path("safe_regex"),
        PathSpecifier::ConnectMatcher(_) => unsupported_path("connect_matcher"),
        PathSpecifier::PathMatchPolicy(_) => unsupported_path("path_match_policy"),
    }
}

fn unsupported_path(field: &str) -> Result<PathMatch, Fault> {
    Err(Fault::new("is not supported by this proxy").at(field))
}

fn route_action(name: Arc<str>, path: PathMatch, action: &RouteAction) -> Result<Rule, Fault> {
    unsupported("prefix_rewrite", !action.prefix_rewrite.is_empty())?;
    unsupported("regex_rewrite", action.regex_rewrite.is_some())?;
    unsupported("path_rewrite_policy", action.path_rewrite_policy.is_some())?;
    unsupported("path_rewrite", !action.path_rewrite.is_empty())?;
    unsupported(
        "host_rewrite_specifier",
        action.host_rewrite_specifier.is_some(),
    )?;
    unsupported("metadata_match", action.metadata_match.is_some())?;
    let cluster = match required("cluster_specifier", action.cluster_specifier.as_ref())? {
        ClusterSpecifier::Cluster(cluster) => not_empty("cluster", cluster)?.into(),
        ClusterSpecifier::WeightedClusters(weighted) => match &weighted.clusters[..] {
            [only] => not_empty("weighted_clusters.clusters[0].name", &only.name)?.into(),
            _ => {
                return Err(
                    Fault::new("more than one cluster is not supported by this proxy")
                        .at("weighted_clusters.clusters"),
                );
            }
        },
        ClusterSpecifier::ClusterHeader(_)
        | ClusterSpecifier::ClusterSpecifierPlugin(_)
        | ClusterSpecifier::InlineClusterSpecifierPlugin(_) => {
            return Err(Fault::new("must be a cluster").at("cluster_specifier"));
        }
    };
    let idle_timeout = match &action.idle_timeout {
        None => IdleTimeout::OfListener,
        Some(idle) => IdleTimeout::Of(timeout("idle_timeout", Some(idle), None)?),
    };
    Ok(Rule {
        name,
        path,
        cluster,
        timeout: timeout("timeout", action.timeout.as_ref(), Some(TIMEOUT))?,
        idle_timeout,
    })
}

/// Settings of filters that this proxy does not have, unless they are said to be optional.
fn per_filter(configs: &HashMap<String, Any>) -> Result<(), Fault> {
    for (name, any) in configs {
        let optional = is::<FilterConfig>(any)
            && super::field::decode::<FilterConfig>(any)
                .is_ok_and(|config| config.is_optional || config.disabled);
        if !optional {
            return Err(Fault::new("the filter is not supported by this proxy")
                .at(format_args!("typed_per_filter_config[{name:?}]")));
        }
    }
    Ok(())
}
