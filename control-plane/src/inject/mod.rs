//! The injector: from a pod to a pod with a sidecar.
//!
//! Owns what is injected and when a pod is left alone: [`inject`], a pure function of the pod, where it is
//! to run and the [`Settings`]. Does not own how pods come in: over the webhook, or from a file on the
//! command line ([`manifest`]).
//!
//! Pods are read and changed as JSON. Types of one version of Kubernetes would drop the fields of a newer
//! one, and the patch would take them away from the pod.

mod annotations;
pub mod manifest;
mod pod;
mod probes;
mod quantity;
mod ranges;
pub mod settings;
mod sidecar;
mod verdict;

#[cfg(test)]
mod tests;

pub use quantity::{InvalidQuantity, Quantity};
pub use ranges::{InvalidRange, PortRange, Subnet};
pub use settings::{InvalidSettings, Settings};
pub use verdict::{Invalid, Left};

use annotations::Wishes;
use pod::Pod;
use serde_json::Value;
use sidecar::Sidecar;

/// The container of the proxy. Whoever has one is of the mesh.
const PROXY: &str = "weft-proxy";
/// The init step that sets up interception.
const INIT: &str = "weft-init";
/// The volume with the token and the roots of the mesh.
const VOLUME: &str = "weft-token";
/// The annotation that says which version of the injector was here.
const INJECTED: &str = "weft.dev/injected";
/// Whether a pod is to be injected: as a label, which selectors can see, or as an annotation.
const INJECT: &str = "weft.dev/inject";

/// What the injector has to know of where a pod is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// The workload that it is one of, where the pod doesn't say so itself.
    pub workload: Option<&'a str>,
    /// Whether the cluster has native sidecars.
    pub native_sidecars: bool,
}

/// What became of a pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The pod with its sidecar.
    Patched(Value),
    /// Nothing is to be changed.
    Left(Left),
}

/// Gives a pod its sidecar, or the reason why it gets none. The pod may be a template.
///
/// Doing it again changes nothing, unless something was added to the pod in between: the probes of a new
/// container are brought to the proxy then.
pub fn inject(pod: &Value, place: &Place<'_>, settings: &Settings) -> Result<Outcome, Invalid> {
    let read = Pod::read(pod)?;
    if let Some(left) = verdict::left_alone(&read, place)? {
        return Ok(Outcome::Left(left));
    }
    let wishes = Wishes::read(read.annotations())?;
    verdict::check(&read, settings)?;
    let mut patched = pod.clone();
    if read.is_injected() {
        let changed = probes::bring_to_injected(&mut patched, &read)?;
        return Ok(if changed {
            Outcome::Patched(patched)
        } else {
            Outcome::Left(Left::Injected)
        });
    }
    let probes = probes::bring(&mut patched, &read)?;
    Sidecar::new(&read, &wishes, place, settings, &probes)?.add_to(&mut patched);
    Ok(Outcome::Patched(patched))
}
