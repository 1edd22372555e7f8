//! Routes: what becomes of a request, by its host, path and fields.

mod action;
mod fault;
mod hash;
mod headers;
mod matches;

pub use action::{
    Action, Backend, Backends, Forward, HostRewrite, Mirror, MirrorHost, PathRewrite, Redirect,
    Respond,
};
pub use fault::{Abort, AbortStatus, Delay, Fault};
pub use hash::{HashCookie, HashPolicy, HashSource, IssuedCookie};
pub use headers::{HeaderChange, HeaderChanges};
pub use matches::{
    Conditions, Field, HeaderMatch, PathMatch, QueryMatch, QueryValue, TextMatch, ValueMatch,
};

use super::Cluster;
use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Duration};

/// The routes of a destination (`envoy.config.route.v3.RouteConfiguration`), most specific first as the
/// control plane ordered them: the first match wins.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteTable {
    /// The resource name.
    pub name: Arc<str>,
    /// By host.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Where in them an exact host stands, without its port.
    exact: HashMap<Box<str>, usize>,
    /// Where the other domains stand, the most specific first.
    patterns: Vec<(Domain, usize)>,
}

/// The routes of some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualHost {
    /// `VirtualHost.domains`, lower case.
    pub domains: Vec<Domain>,
    /// In order.
    pub routes: Vec<Arc<Route>>,
}

/// A host pattern (`VirtualHost.domains`); precedence is exact, suffix, prefix, any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// The host, with or without port, as written.
    Exact(Box<str>),
    /// `*.demo.svc`: what follows the star.
    Suffix(Box<str>),
    /// `demo.*`: what precedes the star.
    Prefix(Box<str>),
    /// `*`.
    Any,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its name in telemetry; `default` when it has none.
    pub name: Arc<str>,
    /// What the path must be.
    pub path: PathMatch,
    /// What else must be. Absent for most, who cost nothing more than their path.
    pub conditions: Option<Arc<Conditions>>,
    /// What goes wrong on purpose.
    pub fault: Option<Arc<Fault>>,
    /// No byte in either direction (`RouteAction.idle_timeout`); `None` never ends. Default 5 min.
    pub idle_timeout: Option<Duration>,
    /// What becomes of the request.
    pub action: Action,
}

impl Route {
    /// For every path, to one cluster, with the default of every setting.
    pub fn to(cluster: Arc<Cluster>) -> Self {
        Self {
            name: "default".into(),
            path: PathMatch::Prefix("/".into()),
            conditions: None,
            fault: None,
            idle_timeout: Some(Duration::from_secs(300)),
            action: Action::Forward(Forward::to(cluster)),
        }
    }

    /// The backend at a place, if it forwards.
    pub fn backend(&self, position: usize) -> Option<&Backend> {
        match &self.action {
            Action::Forward(forward) => forward.backends.all().get(position),
            Action::Redirect(_) | Action::Respond(_) => None,
        }
    }
}

impl RouteTable {
    /// A table of these hosts. Of two that have the same domain, the first counts.
    pub fn new(name: Arc<str>, virtual_hosts: Vec<VirtualHost>) -> Self {
        let mut exact = HashMap::new();
        let mut patterns = Vec::new();
        for (position, virtual_host) in virtual_hosts.iter().enumerate() {
            for domain in &virtual_host.domains {
                match domain {
                    Domain::Exact(host) => {
                        exact.entry(without_port(host).into()).or_insert(position);
                    }
                    Domain::Suffix(suffix) => {
                        let suffix = Domain::Suffix(without_port(suffix).into());
                        patterns.push((suffix, position));
                    }
                    pattern => patterns.push((pattern.clone(), position)),
                }
            }
        }
        patterns.sort_by_key(|(domain, _)| Reverse(domain.precedence()));
        Self {
            name,
            virtual_hosts,
            exact,
            patterns,
        }
    }

    /// The virtual host of a host without port, in lower case: exact before suffix before prefix before any, the
    /// longest of a kind first (`VirtualHost.domains`).
    pub fn virtual_host(&self, host: &str) -> Option<&VirtualHost> {
        let position = self.exact.get(host).or_else(|| {
            let mut patterns = self.patterns.iter();
            let found = patterns.find(|(domain, _)| domain.matches(host));
            found.map(|(_, position)| position)
        });
        position.map(|position| &self.virtual_hosts[*position])
    }
}

impl Domain {
    /// Its kind, then its length: the higher goes first.
    fn precedence(&self) -> (u8, usize) {
        match self {
            Self::Exact(host) => (3, host.len()),
            Self::Suffix(suffix) => (2, suffix.len()),
            Self::Prefix(prefix) => (1, prefix.len()),
            Self::Any => (0, 0),
        }
    }

    fn matches(&self, host: &str) -> bool {
        // A star stands for at least one character.
        match self {
            Self::Exact(exact) => **exact == *host,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Prefix(prefix) => host.len() > prefix.len() && host.starts_with(&**prefix),
            Self::Any => true,
        }
    }
}

/// The host of an authority: `user.demo:80` and `[fd00::1]:80` without their port.
pub fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // Without brackets, more than one colon is an IPv6 address and no port.
        Some((host, port))
            if port.bytes().all(|c| c.is_ascii_digit())
                && (host.ends_with(']') || !host.contains(':')) =>
        {
            host
        }
        _ => authority,
    }
}
