//! The protocol, the resources and their assembly in one: messages in, messages and changes out. No IO.

use super::{
    assemble::{Assembler, Change},
    dns::{Answer, Host},
    held::{Held, Value},
};
use crate::tls::Roots;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use weft_xds_proto::{
    delta::{Client, Update},
    envoy::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
    },
    exchange::{Rejection, UnknownType},
    names::ROOT_SECRET,
    resource::ResourceType,
};

/// This proxy's copy of what the control plane has for it. Outlives connections.
#[derive(Debug)]
pub(super) struct Mirror {
    protocol: Client,
    held: Arc<Mutex<Held>>,
    assembler: Assembler,
    /// The roots last handed out.
    roots: Option<Roots>,
}

/// What a response changed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) changes: Vec<Change>,
    /// New roots of the trust domain.
    pub(super) roots: Option<Roots>,
    /// How many resources were applied, and how many refused.
    pub(super) applied: usize,
    pub(super) refused: usize,
}

/// The types that destinations refer to; listeners are followed because somebody asked for them.
const REFERRED: [ResourceType; 3] = [
    ResourceType::Cluster,
    ResourceType::Endpoints,
    ResourceType::Route,
];

impl Mirror {
    /// Follows the roots of the trust domain and the inbound listener named in `held`.
    pub(super) fn new(node: Node, held: Arc<Mutex<Held>>) -> Self {
        let mut mirror = Self {
            protocol: Client::new(node),
            held,
            assembler: Assembler::default(),
            roots: None,
        };
        let own_inbound = mirror.held().own_inbound.clone();
        mirror.follow(ResourceType::Secret, &ROOT_SECRET.into());
        mirror.follow(ResourceType::Listener, &own_inbound);
        mirror
    }

    /// Follows a destination, and says what is known of it when it is followed already.
    pub(super) fn want(&mut self, name: &Arc<str>) -> Vec<Change> {
        self.follow(ResourceType::Listener, name);
        self.reassemble()
    }

    /// No longer follows destinations, and what only they needed.
    pub(super) fn forget(&mut self, names: &[Arc<str>]) {
        for name in names {
            self.unfollow(ResourceType::Listener, name);
        }
        // Nothing is new to anybody: this only lets go of what was shown.
        self.reassemble();
    }

    /// Takes in what DNS says of a host.
    pub(super) fn resolved(&mut self, answer: Answer) -> Vec<Change> {
        self.held().resolved(answer);
        self.reassemble()
    }

    /// The hosts that DNS is to be asked for.
    pub(super) fn hosts(&self) -> BTreeSet<Host> {
        self.held().hosts.keys().cloned().collect()
    }

    /// The next message for the server, if there is one.
    pub(super) fn next_request(&mut self) -> Option<DeltaDiscoveryRequest> {
        self.protocol.next_request()
    }

    /// Says that the connection is gone: the next requests are for the next one.
    pub(super) fn disconnected(&mut self) {
        self.protocol.disconnected();
    }

    /// Takes in a message of the server. What is invalid is refused by name, its siblings are applied.
    pub(super) fn receive(
        &mut self,
        response: DeltaDiscoveryResponse,
        now: SystemTime,
    ) -> Result<Outcome, UnknownType> {
        let Update {
            resources,
            removed,
            pending,
        } = self.protocol.receive(response)?;
        let ty = pending.ty();
        let mut outcome = Outcome::default();
        let mut rejections: Vec<Rejection> = Vec::new();
        {
            let mut held = self.held();
            for resource in resources {
                match held.offer(ty, resource, now) {
                    Ok(()) => outcome.applied += 1,
                    Err(invalid) => {
                        tracing::warn!(
                            error = %invalid,
                            "resource refused, its last good version stays in force",
                        );
                        outcome.refused += 1;
                        rejections.push(invalid.into());
                    }
                }
            }
            outcome.applied += removed.len();
            for name in removed {
                held.absent(ty, &name, now);
            }
        }
        self.protocol.answer(pending, &rejections);
        outcome.changes = self.reassemble();
        outcome.roots = self.new_roots();
        Ok(outcome)
    }

    /// Follows exactly what the listeners refer to, and assembles until nothing new turns up.
    fn reassemble(&mut self) -> Vec<Change> {
        self.follow_references();
        let held = self.held.clone();
        let changes = {
            let held = held.lock().unwrap_or_else(PoisonError::into_inner);
            self.assembler.assemble(&held)
        };
        // Destinations that were replaced or went away may have been the last to need something.
        self.follow_references();
        changes
    }

    fn follow_references(&mut self) {
        loop {
            let references = self.assembler.references(&self.held());
            let mut settled = true;
            for ty in REFERRED {
                let wanted = match ty {
                    ResourceType::Cluster => &references.clusters,
                    ResourceType::Endpoints => &references.endpoints,
                    _ => &references.routes,
                };
                let followed: BTreeSet<Arc<str>> = self.held().names(ty).into_iter().collect();
                for name in wanted.difference(&followed) {
                    self.follow(ty, name);
                }
                for name in followed.difference(wanted) {
                    // Its own references may now be superfluous too.
                    settled = false;
                    self.unfollow(ty, name);
                }
            }
            if settled {
                self.held().follow_hosts(&references.hosts);
                return;
            }
        }
    }

    fn follow(&mut self, ty: ResourceType, name: &Arc<str>) {
        self.protocol.subscribe(ty, name);
        self.held().follow(ty, name);
    }

    fn unfollow(&mut self, ty: ResourceType, name: &str) {
        self.protocol.unsubscribe(ty, name);
        self.held().forget(ty, name);
    }

    fn new_roots(&mut self) -> Option<Roots> {
        let roots = match &self.held().secrets.get(ROOT_SECRET)?.value {
            Value::Held(roots) => roots.clone(),
            Value::Absent | Value::Awaited => return None,
        };
        if self.roots.as_ref() == Some(&roots) {
            return None;
        }
        self.roots = Some(roots.clone());
        Some(roots)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
