//! What an object has to do with: the services that it names, and the resources that would be others without it.

use std::{collections::BTreeSet, time::Instant};

use super::subject::{Subject, Told};
use crate::{
    translate::{self, Affected},
    world::{
        Change, Object, ObjectKey, Update, World,
        policy::{Target, TrafficPolicy},
        route::{Route, RouteRef},
    },
};

/// What an object has to do with.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// What proxies are told because of it.
    pub(super) affected: Affected,
    services: BTreeSet<ObjectKey>,
    routes: BTreeSet<RouteRef>,
}

impl Scope {
    /// That of an object which the world has.
    pub(super) fn of(subject: &Subject, world: &World) -> Self {
        let mut scope = Self::default();
        match &subject.verdict {
            Told::Good(Object::TrafficPolicy(policy)) => scope.of_policy(policy, world),
            Told::Good(Object::Route(route)) => scope.of_route(route),
            Told::Good(Object::Mesh(_)) => {
                scope.affected.everything = true;
                return scope;
            }
            Told::Good(_) | Told::Bad(_) | Told::Foreign => return scope,
        }
        let mut without = World::clone(world);
        let mut change = Change::none(Instant::now());
        without.apply(Update::Remove(subject.object_ref()), &mut change);
        scope.affected = translate::affected(&without, world, &change);
        scope
    }

    fn of_policy(&mut self, policy: &TrafficPolicy, world: &World) {
        for target in &policy.targets {
            match target {
                Target::Service { service, .. } => {
                    self.services.insert(service.clone());
                }
                Target::Route { route, .. } => {
                    self.routes.insert(route.clone());
                    world
                        .route(route)
                        .into_iter()
                        .for_each(|route| self.of_route(route));
                }
            }
        }
        let mirror = policy.settings.mirror.iter();
        self.services
            .extend(mirror.map(|mirror| mirror.backend.service.clone()));
    }

    fn of_route(&mut self, route: &Route) {
        let parents = route.parents.iter().map(|parent| parent.service.clone());
        self.services.extend(parents);
        let named = route.services().map(|backend| backend.service.clone());
        self.services.extend(named);
    }

    /// Whether a change makes the object say something else, so that proxies have to hear of it anew.
    pub(super) fn is_said_anew(&self, subject: &Subject, change: &Change) -> bool {
        let own = match &subject.verdict {
            Told::Good(Object::TrafficPolicy(_)) => change.policies.contains(&subject.key),
            Told::Good(Object::Route(route)) => change.routes.contains(&route.reference),
            Told::Good(Object::Mesh(_)) => change.mesh,
            Told::Good(_) | Told::Bad(_) | Told::Foreign => false,
        };
        own || !self.routes.is_disjoint(&change.routes)
            || !self.services.is_disjoint(&change.services)
    }

    /// Whether others may be told because of the object than before.
    pub(super) fn moves(&self, change: &Change) -> bool {
        !self.services.is_disjoint(&change.endpoints) || !change.grants.is_empty()
    }
}
