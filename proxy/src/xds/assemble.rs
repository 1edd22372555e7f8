//! From resources held to destinations that workers read, as a function of values.
//!
//! A destination becomes visible when its listener, its routes and their clusters with endpoints are all
//! there; until an update is complete, the one before stays ("warming"). A cluster or its endpoints that the
//! server says do not exist count as there: empty. What did not change keeps its place in memory, which is how
//! workers tell; one cluster serves all destinations that refer to it.

#[cfg(test)]
mod tests;

use super::{
    convert::{
        Routes,
        cluster::{ClusterConfig, EndpointSource},
        listener::{Listener, Outbound, RouteSource},
        route::IdleTimeout,
    },
    dns::Host,
    held::{Held, Slot, Value},
};
use crate::snapshot::{
    Cluster, Destination, Endpoint, Inbound, Route, RouteTable,
    route::{Action, VirtualHost},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

/// What workers have been shown.
#[derive(Debug, Default)]
pub struct Assembler {
    clusters: HashMap<Arc<str>, Arc<Cluster>>,
    shown: BTreeMap<Arc<str>, Shown>,
    unknown: BTreeSet<Arc<str>>,
    inbound: Option<Inbound>,
}

/// What is new since the last assembly.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A destination that is new or changed.
    Destination(Destination),
    /// There is no such destination, or no longer: then what is left for those who hold it.
    Unknown(Arc<str>, Option<Destination>),
    /// A destination that nobody has been shown yet cannot be: something that it needs was refused.
    Unavailable(Arc<str>),
    /// The inbound side.
    Inbound(Inbound),
}

/// The names that the destinations need, by type.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct References {
    /// RouteConfigurations.
    pub routes: BTreeSet<Arc<str>>,
    /// Clusters.
    pub clusters: BTreeSet<Arc<str>>,
    /// ClusterLoadAssignments.
    pub endpoints: BTreeSet<Arc<str>>,
    /// Hosts outside of the mesh.
    pub hosts: BTreeSet<Host>,
}

/// A destination as shown, with the resources that it was made of.
#[derive(Debug)]
struct Shown {
    listener: Arc<Outbound>,
    routes: Option<Arc<Routes>>,
    destination: Destination,
}

/// Why a destination is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The server has not answered yet.
    Awaited,
    /// It answered with something invalid, and there is no older value.
    Refused,
}

impl Assembler {
    /// What must be followed: whatever the listeners held refer to, and whatever destinations still shown
    /// were made of.
    pub fn references(&self, held: &Held) -> References {
        let mut references = References::default();
        for listener in held.outbound() {
            references.of_listener(listener);
        }
        for shown in self.shown.values() {
            references.of_listener(&shown.listener);
            references.clusters.extend(
                shown
                    .routes
                    .iter()
                    .flat_map(|routes| routes.clusters())
                    .cloned(),
            );
        }
        for name in &references.routes {
            let routes = held.routes.get(name).and_then(Slot::held);
            let clusters = routes.into_iter().flat_map(|routes| routes.clusters());
            references.clusters.extend(clusters.cloned());
        }
        for name in &references.clusters {
            let config = held.clusters.get(name).and_then(Slot::held);
            match config.map(|config| &config.endpoints) {
                Some(EndpointSource::Named(name)) => {
                    references.endpoints.insert(name.clone());
                }
                Some(EndpointSource::Dns(host)) => {
                    references.hosts.insert(host.clone());
                }
                Some(EndpointSource::Inline(_)) | None => {}
            }
        }
        references
    }

    /// Everything that changed for workers since the last time.
    pub fn assemble(&mut self, held: &Held) -> Vec<Change> {
        self.assemble_clusters(held);
        let mut changes = Vec::new();
        self.shown
            .retain(|name, _| held.listeners.contains_key(name));
        self.unknown
            .retain(|name| held.listeners.contains_key(name));
        let mut gone = Vec::new();
        for (name, slot) in &held.listeners {
            match &slot.value {
                Value::Held(Listener::Inbound(inbound)) => {
                    if self.inbound.as_ref() != Some(inbound) {
                        self.inbound = Some(inbound.clone());
                        changes.push(Change::Inbound(inbound.clone()));
                    }
                }
                Value::Held(Listener::Outbound(listener)) => {
                    changes.extend(self.destination(name, listener, held));
                }
                Value::Absent => {
                    if *name != held.own_inbound && self.unknown.insert(name.clone()) {
                        gone.push((name.clone(), self.shown.remove(name)));
                    }
                }
                Value::Awaited if slot.refused.is_some() => {
                    changes.push(Change::Unavailable(name.clone()));
                }
                Value::Awaited => {}
            }
        }
        // Last, because what is left of them depends on what the others still use.
        for (name, shown) in gone {
            let rest = shown.map(|shown| self.without_endpoints(shown.destination));
            changes.push(Change::Unknown(name, rest));
        }
        changes
    }

    fn destination(
        &mut self,
        name: &Arc<str>,
        listener: &Arc<Outbound>,
        held: &Held,
    ) -> Option<Change> {
        let before = self.shown.get(name);
        let built = self
            .routes(listener, held)
            .and_then(|routes| {
                let destination = self.build(listener, routes.as_ref(), before, held)?;
                Ok((listener.clone(), routes, destination))
            })
            // Not complete: the resources that the shown one was made of, with their clusters as of now.
            .or_else(|missing| match before {
                None => Err(missing),
                Some(shown) => {
                    let (listener, routes) = (shown.listener.clone(), shown.routes.clone());
                    let destination = self.build(&listener, routes.as_ref(), before, held)?;
                    Ok((listener, routes, destination))
                }
            });
        let (listener, routes, destination) = match built {
            Ok(built) => built,
            Err(Missing::Refused) if before.is_none() => {
                return Some(Change::Unavailable(name.clone()));
            }
            Err(Missing::Refused | Missing::Awaited) => return None,
        };
        self.unknown.remove(name);
        let changed = before.is_none_or(|shown| shown.destination != destination);
        let shown = Shown {
            listener,
            routes,
            destination: destination.clone(),
        };
        self.shown.insert(name.clone(), shown);
        changed.then_some(Change::Destination(destination))
    }

    /// The routes of a listener; `None` for one without.
    fn routes(&self, listener: &Outbound, held: &Held) -> Result<Option<Arc<Routes>>, Missing> {
        match &listener.routes {
            None => Ok(None),
            Some(RouteSource::Inline(routes)) => Ok(Some(routes.clone())),
            Some(RouteSource::Named(name)) => {
                let slot = held.routes.get(name).ok_or(Missing::Awaited)?;
                match &slot.value {
                    Value::Held(routes) => Ok(Some(routes.clone())),
                    // No route matches: each request is told so.
                    Value::Absent => Ok(Some(Arc::new(Routes {
                        name: name.clone(),
                        virtual_hosts: Vec::new(),
                    }))),
                    Value::Awaited => Err(missing(slot)),
                }
            }
        }
    }

    fn build(
        &self,
        listener: &Outbound,
        routes: Option<&Arc<Routes>>,
        before: Option<&Shown>,
        held: &Held,
    ) -> Result<Destination, Missing> {
        let before = before.and_then(|shown| shown.destination.routes.as_ref());
        Ok(Destination {
            name: listener.name.clone(),
            protocol: listener.protocol,
            routes: routes
                .map(|routes| self.table(routes, listener.stream_idle_timeout, before, held))
                .transpose()?,
            tcp: listener
                .tcp
                .as_ref()
                .map(|name| self.cluster(name, held))
                .transpose()?,
        })
    }

    fn table(
        &self,
        routes: &Routes,
        stream_idle_timeout: Option<Duration>,
        before: Option<&Arc<RouteTable>>,
        held: &Held,
    ) -> Result<Arc<RouteTable>, Missing> {
        let earlier = |host: usize, route: usize| {
            let host = before?.virtual_hosts.get(host)?;
            host.routes.get(route)
        };
        let mut virtual_hosts = Vec::with_capacity(routes.virtual_hosts.len());
        for (h, host) in routes.virtual_hosts.iter().enumerate() {
            let mut table = VirtualHost {
                domains: host.domains.clone(),
                routes: Vec::with_capacity(host.routes.len()),
            };
            for (r, rule) in host.routes.iter().enumerate() {
                let mut action = rule.action.try_map(|name| self.cluster(name, held))?;
                if let Action::Forward(forward) = &mut action
                    && forward.absent_is_error
                {
                    let is_absent = |cluster: &Arc<Cluster>| absent(&cluster.name, held);
                    forward.backends.mark_absent(is_absent);
                }
                let route = Route {
                    name: rule.name.clone(),
                    path: rule.path.clone(),
                    conditions: rule.conditions.clone(),
                    fault: rule.fault.clone(),
                    idle_timeout: match rule.idle_timeout {
                        IdleTimeout::OfListener => stream_idle_timeout,
                        IdleTimeout::Of(timeout) => timeout,
                    },
                    action,
                };
                table.routes.push(match earlier(h, r) {
                    Some(same) if **same == route => same.clone(),
                    _ => Arc::new(route),
                });
            }
            virtual_hosts.push(table);
        }
        let table = RouteTable::new(routes.name.clone(), virtual_hosts);
        Ok(match before {
            Some(same) if **same == table => same.clone(),
            _ => Arc::new(table),
        })
    }

    fn cluster(&self, name: &Arc<str>, held: &Held) -> Result<Arc<Cluster>, Missing> {
        if let Some(cluster) = self.clusters.get(name) {
            return Ok(cluster.clone());
        }
        let Some(slot) = held.clusters.get(name) else {
            return Err(Missing::Awaited);
        };
        match slot.held().map(|config| &config.endpoints) {
            Some(EndpointSource::Named(endpoints)) => Err(held
                .endpoints
                .get(endpoints)
                .map_or(Missing::Awaited, missing)),
            Some(EndpointSource::Dns(_)) => Err(Missing::Awaited),
            Some(EndpointSource::Inline(_)) | None => Err(missing(slot)),
        }
    }

    /// Brings the clusters up to date. One whose update is not complete stays as it was.
    fn assemble_clusters(&mut self, held: &Held) {
        self.clusters
            .retain(|name, _| held.clusters.contains_key(name));
        for (name, slot) in &held.clusters {
            let cluster = match &slot.value {
                Value::Awaited => continue,
                // Something refers to it and it does not exist: it has nobody to send to.
                Value::Absent => Cluster::new(name.clone()),
                Value::Held(config) => match endpoints(config, held) {
                    Some(endpoints) => with_endpoints(config, endpoints),
                    None => continue,
                },
            };
            let same = self
                .clusters
                .get(name)
                .is_some_and(|before| **before == cluster);
            if !same {
                self.clusters.insert(name.clone(), Arc::new(cluster));
            }
        }
    }

    /// What is left of a destination that is gone. Live state is kept by the name of the cluster: one that
    /// other destinations still use must not lose its endpoints, so this one gets a name of its own.
    fn without_endpoints(&self, mut destination: Destination) -> Destination {
        let empty = |cluster: &Cluster| {
            let in_use = self.shown.values().any(|shown| {
                let mut references = References::default();
                references.of_listener(&shown.listener);
                let routed = shown.routes.iter().flat_map(|routes| routes.clusters());
                references.clusters.extend(routed.cloned());
                references.clusters.contains(&cluster.name)
            });
            Arc::new(Cluster {
                name: if in_use {
                    format!("{} (removed)", cluster.name).into()
                } else {
                    cluster.name.clone()
                },
                endpoints: Arc::default(),
                ..cluster.clone()
            })
        };
        destination.tcp = destination.tcp.as_deref().map(empty);
        destination.routes = destination.routes.map(|table| {
            let mut table = RouteTable::clone(&table);
            for route in table
                .virtual_hosts
                .iter_mut()
                .flat_map(|host| &mut host.routes)
            {
                let Ok(action) = route
                    .action
                    .try_map(|cluster| Ok::<_, Infallible>(empty(cluster)));
                *route = Arc::new(Route {
                    action,
                    ..Route::clone(route)
                });
            }
            Arc::new(table)
        });
        destination
    }
}

impl References {
    fn of_listener(&mut self, listener: &Outbound) {
        self.clusters.extend(listener.tcp.clone());
        match &listener.routes {
            Some(RouteSource::Named(name)) => {
                self.routes.insert(name.clone());
            }
            Some(RouteSource::Inline(routes)) => self.clusters.extend(routes.clusters().cloned()),
            None => {}
        }
    }
}

/// Whether the server says that there is no such cluster.
fn absent(name: &Arc<str>, held: &Held) -> bool {
    let slot = held.clusters.get(name);
    slot.is_some_and(|slot| matches!(slot.value, Value::Absent))
}

fn missing<T>(slot: &Slot<T>) -> Missing {
    if slot.refused.is_some() {
        Missing::Refused
    } else {
        Missing::Awaited
    }
}

/// `None` when they are still awaited.
fn endpoints(config: &ClusterConfig, held: &Held) -> Option<Arc<[Arc<Endpoint>]>> {
    match &config.endpoints {
        EndpointSource::Inline(endpoints) => Some(endpoints.clone()),
        EndpointSource::Named(name) => match &held.endpoints.get(name)?.value {
            Value::Held(endpoints) => Some(endpoints.clone()),
            Value::Absent => Some(Arc::default()),
            Value::Awaited => None,
        },
        EndpointSource::Dns(host) => held.hosts.get(host)?.clone(),
    }
}

fn with_endpoints(config: &ClusterConfig, endpoints: Arc<[Arc<Endpoint>]>) -> Cluster {
    Cluster {
        endpoints,
        ..config.settings.clone()
    }
}
