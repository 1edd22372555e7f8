//! Routes: which cluster serves a request, and within which time.

use super::Cluster;
use std::{sync::Arc, time::Duration};

/// The routes of a destination (`envoy.config.route.v3.RouteConfiguration`), most specific first as the
/// control plane ordered them: the first match wins.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteTable {
    /// The resource name.
    pub name: Arc<str>,
    /// By host.
    pub virtual_hosts: Vec<VirtualHost>,
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
    /// Where requests go.
    pub cluster: Arc<Cluster>,
    /// From the end of the request to the end of the response (`RouteAction.timeout`); `None` never ends.
    /// Default 15 s.
    pub timeout: Option<Duration>,
    /// No byte in either direction (`RouteAction.idle_timeout`); `None` never ends. Default 5 min.
    pub idle_timeout: Option<Duration>,
}

/// A match on the path, query excluded (`RouteMatch.path_specifier`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact(Box<str>),
    /// A prefix of characters (`prefix`).
    Prefix(Box<str>),
    /// A prefix of whole segments (`path_separated_prefix`).
    SegmentPrefix(Box<str>),
}
