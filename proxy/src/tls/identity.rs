//! The workload's identity: the credentials in force, from wherever they come.

#[cfg(test)]
mod tests;

use super::{Credentials, InvalidIssued, Issued, Roots, Summary, issued::Valid};
use arc_swap::ArcSwapOption;
use serde::Serialize;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};
use tokio::sync::watch;
use weft_xds_proto::spiffe::SpiffeId;

/// The credentials in force. Cheap to clone; all clones are the same identity.
///
/// [`super::rotation::run`] puts certificates in, the xDS client the roots that the control plane pushes, and
/// every connection takes what is in force when it begins.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    current: ArcSwapOption<Credentials>,
    material: Mutex<Material>,
    /// Counts installations.
    installed: watch::Sender<u64>,
}

/// What the credentials are made of, and where each root came from.
#[derive(Debug, Default)]
struct Material {
    leaf: Option<Valid>,
    pushed_roots: Option<Roots>,
    failure: Option<String>,
    rotations: u64,
    failures: u64,
}

/// What `/certs` and the metrics show.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Our certificate, expired or not.
    pub certificate: Option<Summary>,
    /// The roots of the trust domain as we know them.
    pub roots: Vec<Summary>,
    /// Certificates taken into use since start.
    pub rotations: u64,
    /// Failed attempts to get one since start.
    pub failures: u64,
    /// Why the last attempt failed; absent after a success.
    pub failure: Option<String>,
}

impl Identity {
    /// An identity without a certificate yet.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            current: ArcSwapOption::empty(),
            material: Mutex::default(),
            installed: watch::Sender::new(0),
        }))
    }

    /// The credentials in force; `None` when there were none yet or they expired.
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.0
            .current
            .load_full()
            .filter(|credentials| SystemTime::now() <= credentials.not_after)
    }

    /// Waits for the first credentials.
    pub async fn ready(&self) -> Arc<Credentials> {
        let mut installed = self.0.installed.subscribe();
        loop {
            if let Some(credentials) = self.current() {
                return credentials;
            }
            installed
                .changed()
                .await
                .expect("the sender lives as long as self");
        }
    }

    /// Changes with every installation of credentials, for those who hold on to something made of them.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.installed.subscribe()
    }

    /// What `/certs` and the metrics show.
    pub fn status(&self) -> Status {
        let material = self.material();
        Status {
            certificate: material.leaf.as_ref().map(|leaf| leaf.leaf.clone()),
            roots: material
                .roots()
                .map(|roots| roots.summaries().to_vec())
                .unwrap_or_default(),
            rotations: material.rotations,
            failures: material.failures,
            failure: material.failure.clone(),
        }
    }

    /// Takes a certificate into use, after checking every part of it. On error the last good one stays.
    ///
    /// `requested` is who it must be for, when the source knows.
    pub fn install(
        &self,
        issued: Issued,
        requested: Option<&SpiffeId>,
        now: SystemTime,
    ) -> Result<Arc<Credentials>, InvalidIssued> {
        let mut material = self.material();
        let valid = issued.validate(requested, material.roots().as_ref(), now)?;
        material.leaf = Some(valid);
        material.rotations += 1;
        material.failure = None;
        let credentials = self
            .renew(&material)
            .map_err(|error| InvalidIssued::Key(error.to_string()))?;
        Ok(credentials.expect("there is a leaf"))
    }

    /// Takes the roots that the control plane pushes (the `ROOTCA` secret). One that is no longer among them
    /// is trusted as long as our own certificate chains to it.
    pub fn set_pushed_roots(&self, roots: Roots) {
        let mut material = self.material();
        let before = material.roots();
        material.pushed_roots = Some(roots);
        if let Some(leaf) = &mut material.leaf {
            // The push is the later word on what the issuer listed.
            leaf.issued_roots = None;
        }
        if material.roots() == before {
            return;
        }
        if let Err(error) = self.renew(&material) {
            // The same key and chain made a configuration before.
            tracing::error!(%error, "new roots could not be taken into use");
        }
    }

    /// The roots known now, from either source.
    pub fn roots(&self) -> Option<Roots> {
        self.material().roots()
    }

    /// Notes a failed attempt, for the status.
    pub(super) fn note_failure(&self, failure: String) {
        let mut material = self.material();
        material.failures += 1;
        material.failure = Some(failure);
    }

    fn renew(&self, material: &Material) -> Result<Option<Arc<Credentials>>, rustls::Error> {
        let (Some(leaf), Some(roots)) = (&material.leaf, material.roots()) else {
            return Ok(None);
        };
        let credentials = Arc::new(Credentials::new(
            leaf.id.clone(),
            leaf.leaf.clone(),
            leaf.certified_key.clone(),
            Arc::new(roots),
        )?);
        self.0.current.store(Some(credentials.clone()));
        self.0.installed.send_modify(|count| *count += 1);
        Ok(Some(credentials))
    }

    fn material(&self) -> MutexGuard<'_, Material> {
        self.0
            .material
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new()
    }
}

impl Material {
    /// The roots in force: those of the last push, those of a certificate issued since, and always the one
    /// that our own certificate chains to, since peers that have not rotated yet chain to it as well.
    fn roots(&self) -> Option<Roots> {
        let issued = self
            .leaf
            .as_ref()
            .and_then(|leaf| leaf.issued_roots.as_ref());
        let anchor = self.leaf.as_ref().map(|leaf| &leaf.anchor);
        [self.pushed_roots.as_ref(), issued, anchor]
            .into_iter()
            .flatten()
            .cloned()
            .reduce(|all, roots| all.union(&roots))
    }
}
