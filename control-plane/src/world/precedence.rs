//! Which rule of which route a request is for: Gateway API's order of precedence.

use super::{
    Service, ServicePort, World,
    quantity::Created,
    route::{Hostname, Match, Parent, PathMatch, Route, RouteKind, RouteRef, Rule},
};
use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

/// The rules for the requests of some hosts, in order: the first that fits a request is the one for it. A request
/// that none fits is for nobody: answered with 404.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualHost {
    /// The hosts; `None`: all that no other virtual host is for.
    pub hostname: Option<Hostname>,
    /// In order of precedence.
    pub candidates: Vec<Candidate>,
}

/// A match of a rule of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The route.
    pub route: Arc<Route>,
    /// Which of its rules.
    pub rule: usize,
    /// Which of the rule's matches.
    pub alternative: usize,
}

impl Candidate {
    /// The rule.
    pub fn rule(&self) -> &Arc<Rule> {
        &self.route.rules[self.rule]
    }

    /// The match.
    pub fn fit(&self) -> &Match {
        &self.rule().matches[self.alternative]
    }
}

impl World {
    /// Who requests to a port of a service are for, by host: exact hosts before wildcards, longer before shorter,
    /// the rest last. Empty where no route is for the port: then every request is for the service itself.
    pub fn virtual_hosts(&self, service: &Service, port: &ServicePort) -> Vec<VirtualHost> {
        let routes = self.routes_for(service, port);
        let mut hostnames: Vec<_> = routes
            .iter()
            .flat_map(|route| hostnames(route))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        hostnames.sort_by_key(|hostname| Reverse(specificity(*hostname)));
        hostnames
            .into_iter()
            .map(|hostname| VirtualHost {
                hostname: hostname.cloned(),
                candidates: candidates(&routes, hostname),
            })
            .collect()
    }

    /// The routes that are for a port of a service. GRPCRoutes keep HTTPRoutes out (GEP-1426).
    pub fn routes_for(&self, service: &Service, port: &ServicePort) -> Vec<&Arc<Route>> {
        let mut routes: Vec<_> = self
            .routes_of(&service.key)
            .filter(|route| {
                let mut parents = route.parents.iter();
                parents.any(|parent| parent.accepts(&route.reference, service, port))
            })
            .collect();
        let grpc = |route: &&Arc<Route>| route.reference.kind == RouteKind::Grpc;
        if routes.iter().any(grpc) {
            routes.retain(grpc);
        }
        routes
    }
}

impl Parent {
    /// Whether it is this port of this service, and may be. The routes of callers' own namespaces, which would be
    /// for their callers only, are not read: what proxies are told is the same for all.
    pub(super) fn accepts(&self, route: &RouteRef, service: &Service, port: &ServicePort) -> bool {
        self.service == service.key
            && self.service.namespace == route.key.namespace
            && self.port.is_none_or(|number| number == port.port)
            && self
                .section
                .as_ref()
                .is_none_or(|section| *section == port.name)
    }
}

/// The hosts of a route, `None` for any.
fn hostnames(route: &Route) -> Vec<Option<&Hostname>> {
    if route.hostnames.is_empty() {
        return vec![None];
    }
    route.hostnames.iter().map(Some).collect()
}

/// The matches that may be for requests to these hosts.
fn candidates(routes: &[&Arc<Route>], hostname: Option<&Hostname>) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for route in routes {
        let covering = hostnames(route).into_iter().filter(|own| match own {
            None => true,
            Some(own) => hostname.is_some_and(|hostname| own.covers(hostname)),
        });
        // Of several of one route, the most specific counts.
        let Some(host) = covering.map(specificity).max() else {
            continue;
        };
        for (i, rule) in route.rules.iter().enumerate() {
            for (j, fit) in rule.matches.iter().enumerate() {
                let candidate = Candidate {
                    route: (*route).clone(),
                    rule: i,
                    alternative: j,
                };
                candidates.push((Precedence::of(host, fit, route, i), candidate));
            }
        }
    }
    // A stable sort: within a rule, the first match comes first.
    candidates.sort_by_key(|(precedence, _)| *precedence);
    candidates
        .into_iter()
        .map(|(_, candidate)| candidate)
        .collect()
}

/// Characters of a hostname without wildcard, then of any (`HTTPRouteSpec.hostnames`).
type HostSpecificity = (usize, usize);

fn specificity(hostname: Option<&Hostname>) -> HostSpecificity {
    match hostname {
        None => (0, 0),
        Some(Hostname {
            name,
            wildcard: false,
        }) => (name.len(), name.len()),
        Some(Hostname {
            name,
            wildcard: true,
        }) => (0, name.len() + "*.".len()),
    }
}

/// The order of `HTTPRouteRule.matches` and of `GRPCRouteRule.matches`: the least comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Precedence<'a> {
    host: Reverse<HostSpecificity>,
    path: PathPrecedence,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    created: Created,
    /// `<namespace>/<name>` in alphabetical order; routes of one port are of one namespace.
    name: &'a str,
    rule: usize,
}

/// How specific a path is. A port has routes of one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PathPrecedence {
    /// Exact paths, then the longer prefixes, then expressions, of which the API leaves open where they stand.
    Exact,
    Prefix(Reverse<usize>),
    Regex(Reverse<usize>),
    /// The characters of the service, then of the method; what is exact before an expression of the same length.
    Grpc {
        service: Reverse<usize>,
        method: Reverse<usize>,
        expression: bool,
    },
}

impl PathPrecedence {
    fn of(path: &PathMatch) -> Self {
        match path {
            PathMatch::Exact(_) => Self::Exact,
            PathMatch::Prefix(prefix) => Self::Prefix(Reverse(prefix.len())),
            PathMatch::Regex(regex) => Self::Regex(Reverse(regex.len())),
        }
    }

    /// Of the path that a method of gRPC is: `/<service>/<method>`, without what is not matched.
    fn of_grpc(path: &PathMatch) -> Self {
        let (PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::Regex(text)) = path;
        let text = text.strip_prefix('/').unwrap_or(text);
        // The expression of any segment has a slash in it.
        let any_method = text.strip_suffix(PathMatch::ANY_SEGMENT);
        let (service, method) = match any_method.and_then(|text| text.strip_suffix('/')) {
            Some(service) => (service, PathMatch::ANY_SEGMENT),
            None => text.rsplit_once('/').unwrap_or((text, "")),
        };
        let characters = |part: &str| match part {
            PathMatch::ANY_SEGMENT => 0,
            part => expression(part).unwrap_or(part).len(),
        };
        Self::Grpc {
            service: Reverse(characters(service)),
            method: Reverse(characters(method)),
            expression: expression(service).or(expression(method)).is_some(),
        }
    }
}

/// The expression in a group, which keeps it apart from what stands around it.
fn expression(part: &str) -> Option<&str> {
    part.strip_prefix("(?:")?.strip_suffix(')')
}

impl<'a> Precedence<'a> {
    fn of(host: HostSpecificity, fit: &Match, route: &'a Route, rule: usize) -> Self {
        Self {
            host: Reverse(host),
            path: match route.reference.kind {
                RouteKind::Http => PathPrecedence::of(&fit.path),
                RouteKind::Grpc => PathPrecedence::of_grpc(&fit.path),
            },
            method: Reverse(fit.method.is_some()),
            headers: Reverse(fit.headers.len()),
            query: Reverse(fit.query.len()),
            created: route.created,
            name: &route.reference.key.name,
            rule,
        }
    }
}

#[cfg(test)]
mod tests;
