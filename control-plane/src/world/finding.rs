//! What only the whole world can tell is wrong: references that lead nowhere, objects that contradict each other.

use super::{
    Change, Kind, ObjectKey, ObjectRef, Protocol, Service, ServicePort, Unresolved, World,
    policy::{PortRef, ServiceRef, Target, TrafficPolicy},
    route::{Filter, Parent, Referrer, Route, RouteKind, RouteRef},
};
use std::fmt::Write;

/// Something that is not in force as it was written, though its object is good by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The object.
    pub object: ObjectRef,
    /// The field, `spec.targetRefs[0].name`.
    pub field: String,
    /// What is wrong, what that means, and what to do.
    pub reason: String,
    /// What kind of thing is wrong, for programs.
    pub cause: Cause,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// What a policy is for is not there.
    NoTarget,
    /// Another object counts instead.
    Conflict,
    /// What a route is for is not there.
    NoParent,
    /// What a route is for does not take it.
    ParentRefuses,
    /// A service that is named is not there.
    NoBackend,
    /// A service that is named is of another namespace, which does not permit it.
    NotPermitted,
}

impl World {
    /// Everything that is not in force as it was written, by object and field.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (_, policy) in self.policies.iter() {
            self.policy_findings(policy, &mut findings);
        }
        for (_, route) in self.routes.iter() {
            self.route_findings(route, &mut findings);
        }
        findings.sort();
        findings
    }

    fn policy_findings(&self, policy: &TrafficPolicy, findings: &mut Vec<Finding>) {
        let mut find = |cause: Cause, field: String, reason: String| {
            findings.push(Finding {
                object: ObjectRef {
                    kind: Kind::TrafficPolicy,
                    key: policy.key.clone(),
                },
                cause,
                field: format!("spec.{field}"),
                reason,
            });
        };
        for (i, target) in policy.targets.iter().enumerate() {
            let field = format!("targetRefs[{i}]");
            if let Err((part, missing)) = self.target(target) {
                let reason = format!(
                    "{missing}; the policy is not in force there until there is: mend the name, or remove the target"
                );
                find(Cause::NoTarget, format!("{field}.{part}"), reason);
            } else if let Some(older) = self.rival(policy, target) {
                let reason = format!(
                    "is the target of TrafficPolicy {older}, too, which counts there as it is the older or, of the same age, first by name; make the two one, or remove the target from one of them"
                );
                find(Cause::Conflict, field, reason);
            }
        }
        if let Some(mirror) = &policy.settings.mirror
            && let Some((cause, why)) =
                self.unresolved(Referrer::TrafficPolicy, &mirror.from, &mirror.backend)
        {
            let reason = format!("{why}; no request is copied until then");
            find(cause, "mirror.backendRef".to_owned(), reason);
        }
    }

    /// Whether a target is there; else which field of the reference is wrong and how.
    fn target(&self, target: &Target) -> Result<(), (&'static str, String)> {
        match target {
            Target::Service { service: key, port } => {
                let service = self.service(key);
                let service =
                    service.ok_or_else(|| ("name", format!("there is no Service {key}")))?;
                let Some(port) = port else { return Ok(()) };
                match service.ports.iter().any(|candidate| is(port, candidate)) {
                    true => Ok(()),
                    false => Err(("sectionName", no_port(service, port))),
                }
            }
            Target::Route {
                route: reference,
                rule,
            } => {
                let route = self.route(reference);
                let route = route.ok_or_else(|| ("name", format!("there is no {reference}")))?;
                let named = route.rules.iter().any(|candidate| candidate.name == *rule);
                match rule {
                    Some(name) if !named => Err((
                        "sectionName",
                        format!("{reference} has no rule that is named {name:?}"),
                    )),
                    _ => Ok(()),
                }
            }
        }
    }

    /// The policy that counts for a target instead of another, if one does.
    fn rival(&self, policy: &TrafficPolicy, target: &Target) -> Option<&ObjectKey> {
        let own = (policy.created, policy.key.clone());
        // A port may be named in two ways.
        let alias = match target {
            Target::Service {
                service,
                port: Some(port),
            } => self.service(service).and_then(|found| {
                let found = found.ports.iter().find(|candidate| is(port, candidate))?;
                let alias = match port {
                    PortRef::Number(_) => PortRef::Name(found.name.clone()),
                    PortRef::Name(_) => PortRef::Number(found.port),
                };
                Some(Target::Service {
                    service: service.clone(),
                    port: Some(alias),
                })
            }),
            _ => None,
        };
        let first = [Some(target), alias.as_ref()]
            .into_iter()
            .flatten()
            .flat_map(|target| self.policies_on(target))
            .min()?;
        (*first != own).then_some(&first.1)
    }

    fn route_findings(&self, route: &Route, findings: &mut Vec<Finding>) {
        let RouteRef { kind, key } = &route.reference;
        let mut find = |cause: Cause, field: String, reason: String| {
            findings.push(Finding {
                object: ObjectRef {
                    kind: Kind::Route(*kind),
                    key: key.clone(),
                },
                cause,
                field: format!("spec.{field}"),
                reason,
            });
        };
        for parent in &route.parents {
            if let Some((cause, part, reason)) = self.parent_finding(route, parent) {
                let field = format!("parentRefs[{}]{part}", parent.position);
                find(cause, field, reason);
            }
        }
        let referrer = Referrer::Route(*kind);
        for (i, rule) in route.rules.iter().enumerate() {
            for (j, backend) in rule.backends.iter().enumerate() {
                let unresolved = self.unresolved(referrer, &key.namespace, &backend.service);
                if let Some((cause, why)) = unresolved {
                    let field = format!("rules[{i}].backendRefs[{j}]");
                    find(
                        cause,
                        field,
                        format!("{why}; its share of the requests is answered with 500 until then"),
                    );
                }
            }
            for (j, filter) in rule.filters.iter().enumerate() {
                if let Filter::Mirror(mirror) = filter
                    && let Some((cause, why)) =
                        self.unresolved(referrer, &mirror.from, &mirror.backend)
                {
                    let field = format!("rules[{i}].filters[{j}].requestMirror.backendRef");
                    find(
                        cause,
                        field,
                        format!("{why}; no request is copied until then"),
                    );
                }
            }
        }
    }

    /// Why a route is not for one of its parents, with the field below the reference.
    fn parent_finding(
        &self,
        route: &Route,
        parent: &Parent,
    ) -> Option<(Cause, &'static str, String)> {
        let RouteRef { kind, key } = &route.reference;
        let service = &parent.service;
        if service.namespace != key.namespace {
            let reason = format!(
                "is of another namespace, and a route for the callers of one namespace only is not supported; move the route to namespace {}",
                service.namespace
            );
            return Some((Cause::ParentRefuses, ".namespace", reason));
        }
        let Some(found) = self.service(service) else {
            let reason =
                format!("there is no Service {service}; the route is not in force until there is");
            return Some((Cause::NoParent, ".name", reason));
        };
        let ports: Vec<_> = found
            .ports
            .iter()
            .filter(|port| parent.accepts(&route.reference, found, port))
            .collect();
        if ports.is_empty() {
            let mut wanted = String::new();
            if let Some(port) = parent.port {
                // Writing to a String cannot fail.
                let _ = write!(wanted, " {port}");
            }
            if let Some(section) = &parent.section {
                let _ = write!(wanted, " named {section:?}");
            }
            let reason = format!("{}; mend the reference", has_no(found, &wanted));
            return Some((Cause::NoParent, "", reason));
        }
        if ports.iter().all(|port| port.protocol == Protocol::Tcp) {
            let reason = "has no port that speaks HTTP, so that there are no requests to route; declare its protocol by appProtocol or by the name of the port";
            return Some((Cause::ParentRefuses, "", reason.to_owned()));
        }
        let kept_out = |port: &&ServicePort| {
            let routes = self.routes_for(found, port);
            routes.iter().all(|other| other.reference.kind != *kind)
        };
        if *kind == RouteKind::Http && ports.iter().all(kept_out) {
            let reason = "has a GRPCRoute, beside which no HTTPRoute counts (GEP-1426); make it one kind of route, or give it a port of its own";
            return Some((Cause::ParentRefuses, "", reason.to_owned()));
        }
        None
    }

    /// Why a reference leads to no service port, and what to do.
    fn unresolved(
        &self,
        referrer: Referrer,
        namespace: &std::sync::Arc<str>,
        reference: &ServiceRef,
    ) -> Option<(Cause, String)> {
        let key = &reference.service;
        match self.backend(referrer, namespace, reference) {
            Ok(_) => None,
            Err(Unresolved::NoService) => Some((
                Cause::NoBackend,
                format!("there is no Service {key}; mend the name, or create it"),
            )),
            Err(Unresolved::NoPort) => {
                let service = self.service(key)?;
                let missing = no_port(service, &PortRef::Number(reference.port.get()));
                Some((Cause::NoBackend, format!("{missing}; mend the port")))
            }
            Err(Unresolved::NotPermitted) => {
                let kind = match referrer {
                    Referrer::Route(kind) => kind.name(),
                    Referrer::TrafficPolicy => "TrafficPolicy",
                };
                Some((
                    Cause::NotPermitted,
                    format!(
                        "Service {key} is of another namespace, where no ReferenceGrant lets a {kind} of namespace {namespace} name it; write one there"
                    ),
                ))
            }
        }
    }
}

impl Change {
    /// Whether [`World::findings`] may be others than before.
    pub fn concerns_findings(&self) -> bool {
        !(self.services.is_empty()
            && self.policies.is_empty()
            && self.routes.is_empty()
            && self.grants.is_empty())
    }
}

/// Whether a port is the one that is meant.
fn is(reference: &PortRef, port: &ServicePort) -> bool {
    match reference {
        PortRef::Number(number) => *number == port.port,
        PortRef::Name(name) => *name == port.name,
    }
}

fn no_port(service: &Service, port: &PortRef) -> String {
    match port {
        PortRef::Number(number) => has_no(service, &format!(" {number}")),
        PortRef::Name(name) => has_no(service, &format!(" named {name:?}")),
    }
}

fn has_no(service: &Service, port: &str) -> String {
    let ports = service.ports.iter().map(|port| match &*port.name {
        "" => port.port.to_string(),
        name => format!("{} ({name})", port.port),
    });
    let ports: Vec<_> = ports.collect();
    format!(
        "Service {} has no port{port}, but {}",
        service.key,
        ports.join(", ")
    )
}

#[cfg(test)]
mod tests;
