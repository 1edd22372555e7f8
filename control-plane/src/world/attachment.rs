//! What is in force where: policies on their targets, backends behind references.

use super::{
    Limits, LoadBalancer, Mesh, ObjectKey, Service, ServicePort, World,
    policy::{
        Algorithm, Breaker, ConcurrencyLimit, Connections, Fault, LoadBalancing, Mirror, PortRef,
        RateLimit, Retry, RetryBudget, RetryCondition, RetryOn, ServiceRef, Settings, SlowStart,
        Target, Timeouts, TrafficPolicy, Transport, Zone,
    },
    quantity::{Created, Share},
    route::{GrantFrom, Referrer, Route, RouteRef, Rule, RuleRetry},
};
use std::{sync::Arc, time::Duration};

/// What is in force for calls to a port of a service: every section from the policy of the port, else of the
/// service, else from the settings of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortPolicy {
    /// How an endpoint is chosen.
    pub algorithm: Algorithm,
    /// How an endpoint that is new comes to its full share. Absent: at once.
    pub slow_start: Option<SlowStart>,
    /// Whether endpoints of the caller's zone are preferred.
    pub zone: Zone,
    /// With a smaller share of endpoints admitted, breakers are ignored.
    pub panic_threshold: Share,
    /// Connections to endpoints, and their limits.
    pub connections: ConnectionPolicy,
    /// When endpoints are given a rest. Absent: never.
    pub breaker: Option<Arc<Breaker>>,
    /// How many retries there may be.
    pub retry_budget: RetryBudget,
    /// For requests, where no route is for the port.
    pub requests: RequestPolicy,
    /// How much callers may ask for, in each workload behind the port.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// How much may be under way, in each workload behind the port.
    pub concurrency_limit: Option<ConcurrencyLimit>,
}

/// What is in force for connections to the endpoints of a service port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConnectionPolicy {
    /// What may be in use at once.
    pub limits: Limits,
    /// TCP and TLS together.
    pub connect_timeout: Duration,
    /// How connections are kept.
    pub transport: Transport,
}

/// What is in force for requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestPolicy {
    /// What is tried again. Absent: nothing but what certainly was not processed. Its budget is
    /// [`PortPolicy::retry_budget`].
    pub retry: Option<Arc<Retry>>,
    /// From the end of the request to the end of the response, with all attempts; `None` never ends.
    pub timeout: Option<Duration>,
    /// The most that a gRPC call may take, which may stream for as long as its caller likes where nobody set a limit
    /// for requests on purpose; `None` never ends.
    pub grpc_timeout_max: Option<Duration>,
    /// No byte in either direction of a stream; `None` never ends.
    pub idle_timeout: Option<Duration>,
    /// Faults made on purpose.
    pub fault: Option<Arc<Fault>>,
    /// Copies of requests: those whose backend is there.
    pub mirrors: Vec<Mirror>,
}

/// What is in force for the requests of a rule of a route: every section from the policy of the rule, else of the
/// route, else of the parent's port, else of the parent, else from the settings of the mesh. What the rule itself
/// says of timeouts and retries counts before all of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RulePolicy {
    /// For its requests.
    pub requests: RequestPolicy,
    /// How much callers may ask for of this rule, besides [`PortPolicy::rate_limit`]: of the rule or route only.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// How much may be under way of this rule, besides [`PortPolicy::concurrency_limit`]: of the rule or route only.
    pub concurrency_limit: Option<ConcurrencyLimit>,
}

/// Why a reference leads to no service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// There is no such service.
    NoService,
    /// The service has no such port.
    NoPort,
    /// The service is of another namespace, which grants nothing.
    NotPermitted,
}

impl World {
    /// A policy by name.
    pub fn traffic_policy(&self, key: &ObjectKey) -> Option<&Arc<TrafficPolicy>> {
        self.policies.get(key)
    }

    /// A route by name.
    pub fn route(&self, reference: &RouteRef) -> Option<&Arc<Route>> {
        self.routes.get(reference)
    }

    /// The routes that have a service among their parents, accepted or not.
    pub fn routes_of(&self, service: &ObjectKey) -> impl Iterator<Item = &Arc<Route>> {
        let routes = self.routes_of.get(service).into_iter();
        routes
            .flat_map(|routes| routes.iter())
            .filter_map(|reference| self.routes.get(reference))
    }

    /// The routes that name a service as a backend or mirror, permitted or not.
    pub fn routes_to(&self, service: &ObjectKey) -> impl Iterator<Item = &Arc<Route>> {
        let routes = self.routes_to.get(service).into_iter();
        routes
            .flat_map(|routes| routes.iter())
            .filter_map(|reference| self.routes.get(reference))
    }

    /// The policies that name a service as a mirror, permitted or not.
    pub fn policies_to(&self, service: &ObjectKey) -> impl Iterator<Item = &Arc<TrafficPolicy>> {
        let policies = self.policies_to.get(service).into_iter();
        policies
            .flat_map(|policies| policies.iter())
            .filter_map(|key| self.policies.get(key))
    }

    /// What is in force for calls to a port of a service.
    pub fn policy(&self, service: &Service, port: &ServicePort) -> PortPolicy {
        let layers = self.service_layers(service, port);
        let mut policy = self.port_policy(&layers);
        if service.prefers_zone
            && section(&layers, |settings| settings.load_balancer.as_ref()).is_none()
        {
            policy.zone = Zone::Prefer;
        }
        policy
    }

    /// What is in force for calls to an address that no service stands for: the settings of the mesh.
    pub fn default_policy(&self) -> PortPolicy {
        self.port_policy(&[])
    }

    /// What is in force for the requests to a port of a service that a rule of a route is for.
    pub fn rule_policy(
        &self,
        service: &Service,
        port: &ServicePort,
        route: &Route,
        rule: &Rule,
    ) -> RulePolicy {
        let own = self.route_layers(&route.reference, rule);
        let mut layers = own.clone();
        layers.extend(self.service_layers(service, port));
        RulePolicy {
            requests: self.request_policy(&layers, Some((route, rule))),
            rate_limit: section(&own, |settings| settings.rate_limit.as_ref()).cloned(),
            concurrency_limit: section(&own, |settings| settings.concurrency_limit.as_ref())
                .copied(),
        }
    }

    /// The service port that an object of a namespace refers to.
    pub fn backend(
        &self,
        referrer: Referrer,
        namespace: &Arc<str>,
        reference: &ServiceRef,
    ) -> Result<(&Arc<Service>, &ServicePort), Unresolved> {
        // Who may not name a service is not told whether there is one.
        if *namespace != reference.service.namespace
            && !self.grants(referrer, namespace, &reference.service)
        {
            return Err(Unresolved::NotPermitted);
        }
        let service = self
            .service(&reference.service)
            .ok_or(Unresolved::NoService)?;
        let port = service.port(reference.port.get());
        Ok((service, port.ok_or(Unresolved::NoPort)?))
    }

    /// The policy in force of those that have a target, and those that it keeps out of force there.
    pub(super) fn policies_on(
        &self,
        target: &Target,
    ) -> impl Iterator<Item = &(Created, ObjectKey)> {
        let policies = self.policies_on.get(target).into_iter();
        policies.flat_map(|policies| policies.iter())
    }

    /// Whether a namespace lets its service be named.
    fn grants(&self, kind: Referrer, namespace: &Arc<str>, service: &ObjectKey) -> bool {
        let from = GrantFrom {
            kind,
            namespace: namespace.clone(),
        };
        let grants = self.grants_in.get(&service.namespace).into_iter();
        grants
            .flat_map(|grants| grants.iter())
            .filter_map(|key| self.grants.get(key))
            .any(|grant| {
                grant.from.contains(&from)
                    && (grant.to.contains(&None) || grant.to.contains(&Some(service.name.clone())))
            })
    }

    /// What policies say of a port of a service, the most specific first.
    fn service_layers(&self, service: &Service, port: &ServicePort) -> Vec<&Settings> {
        let target = |port| Target::Service {
            service: service.key.clone(),
            port,
        };
        let by_number = target(Some(PortRef::Number(port.port)));
        let by_name = target(Some(PortRef::Name(port.name.clone())));
        let of_port = self
            .policies_on(&by_number)
            .chain(self.policies_on(&by_name))
            .min();
        self.layers([of_port, self.policies_on(&target(None)).next()])
    }

    /// What policies say of a rule of a route, the most specific first.
    fn route_layers(&self, route: &RouteRef, rule: &Rule) -> Vec<&Settings> {
        let target = |rule| Target::Route {
            route: route.clone(),
            rule,
        };
        let of_rule = rule.name.clone().map(|name| target(Some(name)));
        self.layers([
            of_rule.and_then(|target| self.policies_on(&target).next()),
            self.policies_on(&target(None)).next(),
        ])
    }

    fn layers<const N: usize>(
        &self,
        policies: [Option<&(Created, ObjectKey)>; N],
    ) -> Vec<&Settings> {
        let policies = policies.into_iter().flatten();
        policies
            .filter_map(|(_, key)| Some(&self.policies.get(key)?.settings))
            .collect()
    }

    /// Every section from the first layer that has it, else from the settings of the mesh.
    fn port_policy(&self, layers: &[&Settings]) -> PortPolicy {
        let balancing = section(layers, |settings| settings.load_balancer.as_ref());
        let balancing = balancing.cloned().unwrap_or_default();
        let LoadBalancing {
            algorithm,
            slow_start,
            zone,
            panic_threshold,
        } = Arc::unwrap_or_clone(balancing);
        let connections = section(layers, |settings| settings.connections.as_ref());
        let retry = section(layers, |settings| settings.retry.as_ref());
        PortPolicy {
            algorithm: algorithm.unwrap_or_else(|| default_algorithm(&self.mesh)),
            slow_start,
            zone,
            panic_threshold,
            connections: connection_policy(
                &self.mesh,
                connections.map_or(&Connections::default(), |connections| connections),
            ),
            breaker: section(layers, |settings| settings.breaker.as_ref()).cloned(),
            retry_budget: retry.map(|retry| retry.budget).unwrap_or_default(),
            requests: self.request_policy(layers, None),
            rate_limit: section(layers, |settings| settings.rate_limit.as_ref()).cloned(),
            concurrency_limit: section(layers, |settings| settings.concurrency_limit.as_ref())
                .copied(),
        }
    }

    fn request_policy(&self, layers: &[&Settings], rule: Option<(&Route, &Rule)>) -> RequestPolicy {
        let timeouts = section(layers, |settings| settings.timeouts.as_ref());
        let Timeouts { request, idle } = timeouts.copied().unwrap_or_default();
        let retry = section(layers, |settings| settings.retry.as_ref()).cloned();
        let own = rule.map(|(_, rule)| rule);
        let request = own.and_then(|rule| rule.request_timeout).or(request);
        let mut timeout = request.map_or(self.mesh.request_timeout, |limit| limit.duration());
        let mut grpc_timeout_max = request.and_then(|limit| limit.duration());
        let mut retry = match own.and_then(|rule| rule.retry.as_ref()) {
            Some(own) => Some(Arc::new(own.over(retry.as_deref()))),
            None => retry,
        }
        .filter(|retry| retry.attempts.get() > 1);
        if let Some(each) = own.and_then(|rule| rule.backend_request_timeout) {
            match (&mut retry, each.duration()) {
                (Some(retry), each) => Arc::make_mut(retry).per_try_timeout = each,
                (None, Some(each)) => {
                    for limit in [&mut timeout, &mut grpc_timeout_max] {
                        *limit = Some(limit.map_or(each, |limit| limit.min(each)));
                    }
                }
                (None, None) => {}
            }
        }
        RequestPolicy {
            retry,
            timeout,
            grpc_timeout_max,
            idle_timeout: idle.map_or(self.mesh.idle_timeout, |limit| limit.duration()),
            fault: section(layers, |settings| settings.fault.as_ref()).cloned(),
            mirrors: self.mirrors(layers, rule),
        }
    }

    fn mirrors(&self, layers: &[&Settings], rule: Option<(&Route, &Rule)>) -> Vec<Mirror> {
        let of_rule = rule.into_iter().flat_map(|(route, rule)| {
            let referrer = Referrer::Route(route.reference.kind);
            rule.mirrors().map(move |mirror| (referrer, mirror))
        });
        let of_policy = section(layers, |settings| settings.mirror.as_ref())
            .map(|mirror| (Referrer::TrafficPolicy, &**mirror));
        of_rule
            .chain(of_policy)
            .filter(|(referrer, mirror)| {
                let backend = self.backend(*referrer, &mirror.from, &mirror.backend);
                backend.is_ok()
            })
            .map(|(_, mirror)| mirror.clone())
            .collect()
    }
}

impl RuleRetry {
    /// What the rule says, over what a policy says.
    fn over(&self, policy: Option<&Retry>) -> Retry {
        let mut retry = policy.cloned().unwrap_or_default();
        if !self.statuses.is_empty() {
            retry.on = RetryOn {
                conditions: [
                    RetryCondition::ConnectFailure,
                    RetryCondition::RefusedStream,
                    RetryCondition::ResetBeforeRequest,
                ]
                .into(),
                statuses: self.statuses.clone(),
            };
        }
        if let Some(attempts) = self.attempts {
            retry.attempts = attempts;
        }
        if let Some(base) = self.backoff {
            retry.backoff.max = retry.backoff.max.max(base * 10);
            retry.backoff.base = base;
        }
        retry
    }
}

/// A section of the most specific policy that has it.
fn section<'a, T>(
    layers: &[&'a Settings],
    of: impl Fn(&'a Settings) -> Option<&'a T>,
) -> Option<&'a T> {
    layers.iter().find_map(|settings| of(settings))
}

fn default_algorithm(mesh: &Mesh) -> Algorithm {
    match mesh.load_balancer {
        LoadBalancer::PeakEwma => Algorithm::PEAK_EWMA,
        LoadBalancer::LeastRequest => Algorithm::LeastRequest,
        LoadBalancer::RoundRobin => Algorithm::RoundRobin,
    }
}

fn connection_policy(mesh: &Mesh, connections: &Connections) -> ConnectionPolicy {
    ConnectionPolicy {
        limits: Limits {
            connections: connections.maximum.unwrap_or(mesh.limits.connections),
            pending: connections.pending.unwrap_or(mesh.limits.pending),
            requests: connections.requests.unwrap_or(mesh.limits.requests),
        },
        connect_timeout: connections.connect_timeout.unwrap_or(mesh.connect_timeout),
        transport: connections.transport.clone(),
    }
}

#[cfg(test)]
mod tests;
