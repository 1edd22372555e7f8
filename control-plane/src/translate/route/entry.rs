//! One route: the requests that it is for, and what becomes of them.

use super::{
    super::{
        dialect::Form,
        name::{canonical, referred},
        proto::metadata,
    },
    change, fault, fit, forward, retry,
};
use crate::world::{
    Candidate, RequestPolicy, Service, ServicePort, World,
    policy::{HashKey, Retry},
    quantity::Share,
    route::{Filter, Match, Redirect, Referrer, Rule},
};
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, Route, RouteMatch, route::Action,
};
use std::sync::Arc;

/// The name of a route that is for everything.
pub(super) const DEFAULT: &str = "default";

/// What requests are answered with whose backend does not exist or may not be named (`HTTPRouteRule.backendRefs`).
const NO_BACKEND: u32 = 500;

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    /// The rule and which of its matches. Absent: every request.
    pub(super) rule: Option<(Arc<Rule>, usize)>,
    pub(super) requests: RequestPolicy,
    /// The clusters that serve, with their weights, none of them zero.
    pub(super) backends: Vec<(Arc<str>, u32)>,
    /// The weight of backends that do not exist or may not be named.
    pub(super) unresolved: u32,
    /// What the balancers of these clusters hash.
    pub(super) hash: Vec<HashKey>,
    /// The clusters that get copies, and of how many requests.
    pub(super) mirrors: Vec<(Arc<str>, Share)>,
}

impl Entry {
    /// Every request to a cluster.
    pub(super) fn everything(
        world: &World,
        cluster: &Arc<str>,
        requests: RequestPolicy,
        hash: Option<HashKey>,
    ) -> Self {
        Self {
            name: DEFAULT.into(),
            rule: None,
            backends: vec![(cluster.clone(), 1)],
            unresolved: 0,
            hash: hash.into_iter().collect(),
            mirrors: mirrors(world, &requests),
            requests,
        }
    }

    /// The requests of a match of a rule.
    pub(super) fn of(
        world: &World,
        service: &Service,
        port: &ServicePort,
        candidate: &Candidate,
    ) -> Self {
        let route = &candidate.route;
        let rule = candidate.rule();
        let requests = world.rule_policy(service, port, route, rule).requests;
        let mut entry = Self {
            name: rule_name(candidate),
            rule: Some((rule.clone(), candidate.alternative)),
            backends: Vec::new(),
            unresolved: 0,
            hash: Vec::new(),
            mirrors: mirrors(world, &requests),
            requests,
        };
        let referrer = Referrer::Route(route.reference.kind);
        let namespace = &route.reference.key.namespace;
        for backend in rule.backends.iter().filter(|backend| backend.weight > 0) {
            match world.backend(referrer, namespace, &backend.service) {
                Ok((service, port)) => {
                    let cluster = canonical(world, service, port);
                    entry.backends.push((cluster, backend.weight));
                    let algorithm = world.policy(service, port).algorithm;
                    let key = algorithm.hash().map(|hash| hash.key.clone());
                    entry
                        .hash
                        .extend(key.filter(|key| !entry.hash.contains(key)));
                }
                Err(_) => entry.unresolved = entry.unresolved.saturating_add(backend.weight),
            }
        }
        entry
    }

    /// In a dialect; more than one where the dialect says with several what the policy says of one.
    pub(super) fn messages(&self, form: Form) -> Vec<Route> {
        let Some(retry) = &self.requests.retry else {
            return vec![self.message(form, self.fit(form), None)];
        };
        match form {
            // Its methods are in an extension.
            Form::Weft => vec![self.message(form, self.fit(form), Some(retry))],
            Form::Envoy => retry::by_method(retry, self.fit(form), self.method())
                .into_iter()
                .map(|(fit, retry)| self.message(form, fit, retry.as_ref()))
                .collect(),
            // Every call is a POST.
            Form::Grpc => {
                let retry = Some(&**retry).filter(|retry| retry.methods.contains("POST"));
                vec![self.message(form, self.fit(form), retry)]
            }
        }
    }

    fn message(&self, form: Form, fit: RouteMatch, retry: Option<&Retry>) -> Route {
        let fault = self.requests.fault.as_ref().filter(|_| form != Form::Grpc);
        let extension = retry.filter(|_| form == Form::Weft).map(retry::extension);
        // gRPC clients change no headers.
        let (request, response) = match form {
            Form::Weft | Form::Envoy => change::headers(self.filters()),
            Form::Grpc => Default::default(),
        };
        Route {
            name: self.name.to_string(),
            r#match: Some(fit),
            metadata: extension.map(metadata),
            typed_per_filter_config: fault.map(|f| fault::on_route(f)).into_iter().collect(),
            request_headers_to_add: request.add,
            request_headers_to_remove: request.remove,
            response_headers_to_add: response.add,
            response_headers_to_remove: response.remove,
            action: Some(self.action(form, retry)),
            ..Route::default()
        }
    }

    fn action(&self, form: Form, retry: Option<&Retry>) -> Action {
        if let Some(redirect) = self.redirect() {
            return Action::Redirect(change::redirect(redirect, self.matched(), form));
        }
        if self.backends.is_empty() {
            return Action::DirectResponse(DirectResponseAction {
                status: NO_BACKEND,
                ..DirectResponseAction::default()
            });
        }
        Action::Route(forward::action(self, form, retry))
    }

    fn fit(&self, form: Form) -> RouteMatch {
        self.matched()
            .map_or_else(fit::everything, |matched| fit::fit(matched, form))
    }

    /// The method that requests must have, if the match names one.
    fn method(&self) -> Option<&str> {
        self.matched()?.method.as_deref()
    }

    pub(super) fn matched(&self) -> Option<&Match> {
        let (rule, alternative) = self.rule.as_ref()?;
        Some(&rule.matches[*alternative])
    }

    pub(super) fn filters(&self) -> &[Filter] {
        self.rule.as_ref().map_or(&[], |(rule, _)| &rule.filters)
    }

    fn redirect(&self) -> Option<&Redirect> {
        self.filters().iter().find_map(|filter| match filter {
            Filter::Redirect(redirect) => Some(redirect),
            Filter::RequestHeaders(_)
            | Filter::ResponseHeaders(_)
            | Filter::Rewrite(_)
            | Filter::Mirror(_) => None,
        })
    }
}

/// What telemetry calls the route of a rule: `demo/user/login`, or with the number of a rule that has no name.
pub(crate) fn rule_name(candidate: &Candidate) -> Arc<str> {
    let route = &candidate.route.reference.key;
    match &candidate.rule().name {
        Some(rule) => format!("{route}/{rule}").into(),
        None => format!("{route}/{}", candidate.rule).into(),
    }
}

fn mirrors(world: &World, requests: &RequestPolicy) -> Vec<(Arc<str>, Share)> {
    let mirrors = requests.mirrors.iter();
    mirrors
        .map(|mirror| (referred(world, &mirror.backend), mirror.share))
        .collect()
}
