//! Routes of Gateway API: validated, free of what a mesh has no use for.

use super::{
    ObjectKey,
    policy::{Mirror, ServiceRef, TimeLimit},
    quantity::Created,
};
use std::{collections::BTreeSet, fmt, num::NonZeroU32, sync::Arc, time::Duration};

/// The kinds of route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKind {
    /// `HTTPRoute`.
    Http,
    /// `GRPCRoute`. On a port that has both, only these count (GEP-1426).
    Grpc,
}

impl RouteKind {
    /// What Kubernetes calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
        }
    }
}

/// Which route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteRef {
    /// Its kind.
    pub kind: RouteKind,
    /// Its name.
    pub key: ObjectKey,
}

impl fmt::Display for RouteRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.key)
    }
}

/// An `HTTPRoute` or `GRPCRoute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which it is.
    pub reference: RouteRef,
    /// Of two matches that are equally specific, that of the older route counts.
    pub created: Created,
    /// The services that it is for. Other parents, such as a `Gateway`, are left out.
    pub parents: Vec<Parent>,
    /// The hosts of requests that it is for; empty: any.
    pub hostnames: BTreeSet<Hostname>,
    /// Its rules, in order.
    pub rules: Vec<Arc<Rule>>,
}

impl Route {
    /// The services that it names: those of its backends and of its mirrors.
    pub fn services(&self) -> impl Iterator<Item = &ServiceRef> {
        self.rules.iter().flat_map(|rule| {
            let backends = rule.backends.iter().map(|backend| &backend.service);
            backends.chain(rule.mirrors().map(|mirror| &mirror.backend))
        })
    }
}

/// A service that a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Parent {
    /// Where it stands among the route's `parentRefs`.
    pub position: usize,
    /// The service. That of another namespace is not accepted: a consumer's route.
    pub service: ObjectKey,
    /// The port by number (`port`); absent: any.
    pub port: Option<u16>,
    /// The port by name (`sectionName`); absent: any.
    pub section: Option<Arc<str>>,
}

/// A host, or all below one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname {
    /// Lower case, without `*.`.
    pub name: Arc<str>,
    /// All hosts below it, and not itself: `*.example.com`.
    pub wildcard: bool,
}

impl Hostname {
    /// Whether every host of another is one of this.
    pub fn covers(&self, other: &Self) -> bool {
        if !self.wildcard {
            return self == other;
        }
        let below = other
            .name
            .strip_suffix(&*self.name)
            .is_some_and(|rest| rest.ends_with('.'));
        below || (other.wildcard && other.name == self.name)
    }
}

impl fmt::Display for Hostname {
    /// As an Envoy domain: `*.example.com`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.wildcard { "*." } else { "" };
        write!(f, "{star}{}", self.name)
    }
}

/// A rule of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What a policy's `sectionName` names.
    pub name: Option<Arc<str>>,
    /// Requests that any of these fits; never empty.
    pub matches: Vec<Match>,
    /// What is done to requests and answers, in order.
    pub filters: Vec<Filter>,
    /// Who serves them, in proportion; empty only where a filter answers them. One at least has a weight.
    pub backends: Vec<Backend>,
    /// `timeouts.request` and `retry`: they count before what policies say.
    pub request_timeout: Option<TimeLimit>,
    /// `timeouts.backendRequest`.
    pub backend_request_timeout: Option<TimeLimit>,
    /// `retry`.
    pub retry: Option<RuleRetry>,
}

impl Rule {
    /// Where its filters send copies.
    pub fn mirrors(&self) -> impl Iterator<Item = &Mirror> {
        self.filters.iter().filter_map(|filter| match filter {
            Filter::Mirror(mirror) => Some(mirror),
            Filter::RequestHeaders(_)
            | Filter::ResponseHeaders(_)
            | Filter::Redirect(_)
            | Filter::Rewrite(_) => None,
        })
    }
}

/// What a request must have: all of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Match {
    /// Its path. A method of gRPC is a path, too.
    pub path: PathMatch,
    /// Its headers, by name in lower case, each at most once.
    pub headers: Vec<ValueMatch>,
    /// Its query parameters, each at most once.
    pub query: Vec<ValueMatch>,
    /// Its HTTP method.
    pub method: Option<Arc<str>>,
}

impl Match {
    /// That which every request has.
    pub fn everything() -> Self {
        Self {
            path: PathMatch::Prefix("/".into()),
            headers: Vec::new(),
            query: Vec::new(),
            method: None,
        }
    }
}

/// A match on the path, query excluded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// A prefix of whole segments, without a slash at its end; `/` is everything.
    Prefix(Arc<str>),
    /// The whole path, by a regular expression (RE2). Of gRPC, each of its two segments is [`Self::ANY_SEGMENT`], a
    /// name, or an expression in a group.
    Regex(Arc<str>),
}

impl PathMatch {
    /// The expression of any one segment: of a service or method of gRPC that is not matched.
    pub const ANY_SEGMENT: &str = "[^/]+";
}

/// A match on the value of a header or query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueMatch {
    /// The name.
    pub name: Arc<str>,
    /// The value.
    pub value: TextMatch,
}

/// A match on a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TextMatch {
    /// All of it.
    Exact(Arc<str>),
    /// All of it, by a regular expression (RE2).
    Regex(Arc<str>),
}

/// What is done to a request or its answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Filter {
    /// `RequestHeaderModifier`.
    RequestHeaders(HeaderChanges),
    /// `ResponseHeaderModifier`.
    ResponseHeaders(HeaderChanges),
    /// `RequestRedirect`: the request is answered with a redirect.
    Redirect(Redirect),
    /// `URLRewrite`.
    Rewrite(Rewrite),
    /// `RequestMirror`.
    Mirror(Mirror),
}

/// Changes of headers, by name in lower case: set, then add, then remove; no name is in two of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct HeaderChanges {
    /// Put in the place of what is there.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Put beside what is there.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Taken away.
    pub remove: Vec<Arc<str>>,
}

/// What a request is redirected to. What is absent is the request's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// The host.
    pub hostname: Option<Arc<str>>,
    /// The path.
    pub path: Option<PathChange>,
    /// The port. Absent: the well-known port of a changed scheme.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What a request is sent on as. What is absent stays.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rewrite {
    /// The host.
    pub hostname: Option<Arc<str>>,
    /// The path.
    pub path: Option<PathChange>,
}

/// How a path changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathChange {
    /// `ReplaceFullPath`: to this, whatever it was.
    Full(Arc<str>),
    /// `ReplacePrefixMatch`: the matched prefix becomes this. Only where every match of the rule is a prefix.
    Prefix(Arc<str>),
}

/// Who serves requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Backend {
    /// The service.
    pub service: ServiceRef,
    /// Its part of the sum of all weights, 0 to 1,000,000.
    pub weight: u32,
}

/// `retry` of a rule (GEP-1731).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RuleRetry {
    /// The statuses that are tried again, 400 to 599, besides failed connections; empty: the policy's, or the
    /// default of one.
    pub statuses: BTreeSet<u16>,
    /// All attempts, the first included. Absent: the policy's, or the default of one.
    pub attempts: Option<NonZeroU32>,
    /// The base of the backoff. Absent: the policy's, or the default of one.
    pub backoff: Option<Duration>,
}

/// A `ReferenceGrant`: who may name services of its namespace from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Its name.
    pub key: ObjectKey,
    /// Who.
    pub from: BTreeSet<GrantFrom>,
    /// Which services; `None` for all of them. Empty: it grants nothing of use here.
    pub to: BTreeSet<Option<Arc<str>>>,
}

/// Who may name something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GrantFrom {
    /// Objects of this kind...
    pub kind: Referrer,
    /// ...in this namespace.
    pub namespace: Arc<str>,
}

/// The kinds of object that name services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Referrer {
    /// `HTTPRoute` or `GRPCRoute`.
    Route(RouteKind),
    /// `TrafficPolicy`.
    TrafficPolicy,
}
