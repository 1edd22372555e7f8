//! The resources that this proxy follows, and what it holds of each.

use super::{
    convert::{self, ClusterConfig, Invalid, Listener, Routes, listener::Outbound},
    dns::{Answer, Host},
};
use crate::{snapshot::Endpoint, tls::Roots};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::SystemTime,
};
use weft_xds_proto::{
    envoy::{envoy::service::discovery::v3::Resource, google::protobuf::Any},
    resource::ResourceType,
};

/// Everything followed, by type and name.
#[derive(Debug)]
pub struct Held {
    /// The name of this workload's inbound listener.
    pub own_inbound: Arc<str>,
    /// Roots of the trust domain.
    pub secrets: Slots<Roots>,
    /// Clusters without their endpoints.
    pub clusters: Slots<Arc<ClusterConfig>>,
    /// Endpoints of clusters.
    pub endpoints: Slots<Arc<[Arc<Endpoint>]>>,
    /// Destinations, and the inbound side.
    pub listeners: Slots<Listener>,
    /// Routes of listeners.
    pub routes: Slots<Arc<Routes>>,
    /// What DNS says of hosts outside of the mesh; `None` before its first answer.
    pub hosts: BTreeMap<Host, Option<Arc<[Arc<Endpoint>]>>>,
}

/// The resources of one type.
pub type Slots<T> = BTreeMap<Arc<str>, Slot<T>>;

/// What is held of one resource.
#[derive(Debug, Clone)]
pub struct Slot<T> {
    /// Its last valid value.
    pub value: Value<T>,
    /// The version of that value.
    pub version: String,
    /// When the server last said something about it.
    pub updated: Option<SystemTime>,
    /// The last version offered, if it was refused.
    pub refused: Option<Refused>,
}

/// The value of a resource that is followed.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<T> {
    /// No valid value yet.
    Awaited,
    /// The server says that there is no such resource.
    Absent,
    /// As converted.
    Held(T),
}

/// A version that could not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub version: String,
    /// Why.
    pub reason: Invalid,
}

impl Held {
    /// Follows nothing.
    pub fn new(own_inbound: Arc<str>) -> Self {
        Self {
            own_inbound,
            secrets: Slots::new(),
            clusters: Slots::new(),
            endpoints: Slots::new(),
            listeners: Slots::new(),
            routes: Slots::new(),
            hosts: BTreeMap::new(),
        }
    }

    /// Follows exactly these hosts from now on. What is known of those that stay is kept.
    pub fn follow_hosts(&mut self, wanted: &BTreeSet<Host>) {
        self.hosts.retain(|host, _| wanted.contains(host));
        for host in wanted {
            self.hosts.entry(host.clone()).or_default();
        }
    }

    /// Takes in what DNS says of a host, if that is still followed.
    pub(super) fn resolved(&mut self, answer: Answer) {
        if let Some(held) = self.hosts.get_mut(&answer.host) {
            let endpoints = reuse(held.as_ref(), answer.endpoints);
            if held.as_ref() != Some(&endpoints) {
                *held = Some(endpoints);
            }
        }
    }

    /// Makes room for a resource that is followed from now on.
    pub fn follow(&mut self, ty: ResourceType, name: &Arc<str>) {
        match ty {
            ResourceType::Secret => follow(&mut self.secrets, name),
            ResourceType::Cluster => follow(&mut self.clusters, name),
            ResourceType::Endpoints => follow(&mut self.endpoints, name),
            ResourceType::Listener => follow(&mut self.listeners, name),
            ResourceType::Route => follow(&mut self.routes, name),
        }
    }

    /// Drops a resource that is no longer followed.
    pub fn forget(&mut self, ty: ResourceType, name: &str) {
        match ty {
            ResourceType::Secret => drop(self.secrets.remove(name)),
            ResourceType::Cluster => drop(self.clusters.remove(name)),
            ResourceType::Endpoints => drop(self.endpoints.remove(name)),
            ResourceType::Listener => drop(self.listeners.remove(name)),
            ResourceType::Route => drop(self.routes.remove(name)),
        }
    }

    /// The names followed of a type.
    pub fn names(&self, ty: ResourceType) -> Vec<Arc<str>> {
        match ty {
            ResourceType::Secret => self.secrets.keys().cloned().collect(),
            ResourceType::Cluster => self.clusters.keys().cloned().collect(),
            ResourceType::Endpoints => self.endpoints.keys().cloned().collect(),
            ResourceType::Listener => self.listeners.keys().cloned().collect(),
            ResourceType::Route => self.routes.keys().cloned().collect(),
        }
    }

    /// How many resources of a type have a value.
    pub fn count(&self, ty: ResourceType) -> usize {
        match ty {
            ResourceType::Secret => count(&self.secrets),
            ResourceType::Cluster => count(&self.clusters),
            ResourceType::Endpoints => count(&self.endpoints),
            ResourceType::Listener => count(&self.listeners),
            ResourceType::Route => count(&self.routes),
        }
    }

    /// Takes in a resource as it came. When it is invalid the last valid value stays. What is equal to the
    /// value held keeps its place in memory, so that a comparison of pointers tells whether anything changed.
    pub fn offer(
        &mut self,
        ty: ResourceType,
        resource: Resource,
        now: SystemTime,
    ) -> Result<(), Invalid> {
        let Resource {
            name,
            version,
            resource: body,
            ..
        } = resource;
        let body = body.ok_or_else(|| Invalid::no_body(ty, &name));
        let body = body.as_ref();
        match ty {
            ResourceType::Secret => offer(
                &mut self.secrets,
                &name,
                version,
                now,
                body,
                convert::secret::convert,
            ),
            ResourceType::Cluster => offer(
                &mut self.clusters,
                &name,
                version,
                now,
                body,
                convert::cluster::convert,
            ),
            ResourceType::Endpoints => {
                let held = self
                    .endpoints
                    .get(name.as_str())
                    .and_then(Slot::held)
                    .cloned();
                let convert = |name: &str, body: &Any| {
                    convert::endpoints::convert(name, body)
                        .map(|offered| reuse(held.as_ref(), offered))
                };
                offer(&mut self.endpoints, &name, version, now, body, convert)
            }
            ResourceType::Listener => {
                let own = self.own_inbound.clone();
                let convert = |name: &str, body: &Any| convert::listener::convert(name, body, &own);
                offer(&mut self.listeners, &name, version, now, body, convert)
            }
            ResourceType::Route => offer(
                &mut self.routes,
                &name,
                version,
                now,
                body,
                convert::route::convert,
            ),
        }
    }

    /// Notes that there is no such resource, or no longer.
    pub fn absent(&mut self, ty: ResourceType, name: &str, now: SystemTime) {
        match ty {
            ResourceType::Secret => absent(&mut self.secrets, name, now),
            ResourceType::Cluster => absent(&mut self.clusters, name, now),
            ResourceType::Endpoints => absent(&mut self.endpoints, name, now),
            ResourceType::Listener => absent(&mut self.listeners, name, now),
            ResourceType::Route => absent(&mut self.routes, name, now),
        }
    }

    /// The listeners of destinations that have a value.
    pub fn outbound(&self) -> impl Iterator<Item = &Arc<Outbound>> {
        self.listeners
            .values()
            .filter_map(|slot| match &slot.value {
                Value::Held(Listener::Outbound(outbound)) => Some(outbound),
                Value::Held(Listener::Inbound(_)) | Value::Absent | Value::Awaited => None,
            })
    }
}

impl<T> Slot<T> {
    /// The valid value, if there is one.
    pub fn held(&self) -> Option<&T> {
        match &self.value {
            Value::Held(value) => Some(value),
            Value::Awaited | Value::Absent => None,
        }
    }
}

fn follow<T>(slots: &mut Slots<T>, name: &Arc<str>) {
    slots.entry(name.clone()).or_insert_with(|| Slot {
        value: Value::Awaited,
        version: String::new(),
        updated: None,
        refused: None,
    });
}

fn count<T>(slots: &Slots<T>) -> usize {
    slots.values().filter(|slot| slot.held().is_some()).count()
}

/// A resource that is not followed (any more) is dropped.
fn offer<T: PartialEq>(
    slots: &mut Slots<T>,
    name: &str,
    version: String,
    now: SystemTime,
    body: Result<&Any, &Invalid>,
    convert: impl Fn(&str, &Any) -> Result<T, Invalid>,
) -> Result<(), Invalid> {
    let Some(slot) = slots.get_mut(name) else {
        return Ok(());
    };
    slot.updated = Some(now);
    match body
        .map_err(Invalid::clone)
        .and_then(|body| convert(name, body))
    {
        Ok(offered) => {
            if slot.held() != Some(&offered) {
                slot.value = Value::Held(offered);
            }
            slot.version = version;
            slot.refused = None;
            Ok(())
        }
        Err(reason) => {
            slot.refused = Some(Refused {
                version,
                reason: reason.clone(),
            });
            Err(reason)
        }
    }
}

fn absent<T>(slots: &mut Slots<T>, name: &str, now: SystemTime) {
    if let Some(slot) = slots.get_mut(name) {
        *slot = Slot {
            value: Value::Absent,
            version: String::new(),
            updated: Some(now),
            refused: None,
        };
    }
}

/// The endpoints offered, in the place of the equal ones held.
fn reuse(
    held: Option<&Arc<[Arc<Endpoint>]>>,
    offered: Arc<[Arc<Endpoint>]>,
) -> Arc<[Arc<Endpoint>]> {
    let Some(held) = held else { return offered };
    let by_address: HashMap<SocketAddr, &Arc<Endpoint>> = held
        .iter()
        .map(|endpoint| (endpoint.address, endpoint))
        .collect();
    offered
        .iter()
        .map(|endpoint| match by_address.get(&endpoint.address) {
            Some(same) if *same == endpoint => Arc::clone(same),
            _ => endpoint.clone(),
        })
        .collect()
}
