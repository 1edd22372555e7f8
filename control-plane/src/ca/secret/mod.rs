//! The root of the mesh in a Secret, which all replicas of a control plane share.
//!
//! Owns: the Secret `weft-ca` of the control plane's namespace, made on the first start by whichever replica is
//! first, rotated by the leader; and the reading of a Secret that is supplied instead (`--ca-secret`), in which
//! case `weft-ca` only remembers which roots it had. All replicas watch both and take a change over at once.
//!
//! Needs, on `secrets` in the control plane's namespace: `create`; and by name, on `weft-ca` `get`, `list`, `watch`
//! and `update`, on the supplied one `get`, `list` and `watch`.

mod keeper;
mod ledger;
mod rotation;
mod supplied;

use std::{sync::Arc, time::Duration};

pub use keeper::Keeper;

use self::{
    ledger::{CERTIFICATE, KEY, Malformed},
    supplied::{TLS_CERTIFICATE, TLS_KEY},
};
use super::{
    Leaves,
    authority::{Flaw, Part},
};

/// The Secret of the control plane's own root.
pub const NAME: &str = "weft-ca";

/// What a CA needs to know whose root is in a Secret.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What it signs.
    pub leaves: Leaves,
    /// The Secret that signs, if it is not `weft-ca`.
    pub supplied: Option<Arc<str>>,
    /// How long a new root is trusted before it signs.
    pub overlap: Duration,
}

/// Why a Secret cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The API refuses, or does not answer.
    #[error("the Secret {secret} cannot be {action}: {error}{}", hint(.error))]
    Api {
        /// Namespace and name.
        secret: String,
        /// `read`, `made` or `changed`.
        action: &'static str,
        /// Why.
        error: Box<kube::Error>,
    },
    /// It is not there.
    #[error(
        "the Secret {secret} of --ca-secret is not there; have it made by cert-manager or by hand, of type kubernetes.io/tls"
    )]
    Missing {
        /// Namespace and name.
        secret: String,
    },
    /// Its content is not what it should be.
    #[error("the Secret {secret} cannot be used: {key}: {reason}; {fix}")]
    Content {
        /// Namespace and name.
        secret: String,
        /// The key or annotation.
        key: String,
        /// Why.
        reason: String,
        /// What to do.
        fix: &'static str,
    },
}

const REPAIR: &str = "restore it from a backup; only where no workload has a certificate yet, delete the \
                      Secret and restart the control plane to start a new root";
const REPAIR_NOTE: &str = "correct it (kubectl edit secret)";
const REPAIR_SUPPLIED: &str = "it must hold tls.crt, tls.key and, unless tls.crt is a root, ca.crt";

/// The two Secrets, as errors name them.
#[derive(Debug, Clone)]
struct Names {
    own: String,
    supplied: Option<String>,
}

impl Names {
    fn new(namespace: &str, supplied: Option<&str>) -> Self {
        Self {
            own: format!("{namespace}/{NAME}"),
            supplied: supplied.map(|name| format!("{namespace}/{name}")),
        }
    }

    /// A part of what signs.
    fn flawed(&self, flaw: Flaw) -> SecretError {
        let supplied = self.supplied.as_ref();
        let (secret, key, fix) = match (&flaw.part, supplied) {
            (Part::Further(name), Some(supplied)) if name == supplied::CA_CERTIFICATE => {
                (supplied, name.as_str(), REPAIR_SUPPLIED)
            }
            (Part::Further(name), _) => (
                &self.own,
                name.as_str(),
                "it must hold PEM certificates; repair or remove the key",
            ),
            (Part::Key, Some(supplied)) => (supplied, TLS_KEY, REPAIR_SUPPLIED),
            (Part::Certificate, Some(supplied)) => (supplied, TLS_CERTIFICATE, REPAIR_SUPPLIED),
            (Part::TrustDomain, Some(supplied)) => (supplied, TLS_CERTIFICATE, TRUST_DOMAIN),
            (Part::Key, None) => (&self.own, KEY, REPAIR),
            (Part::Certificate, None) => (&self.own, CERTIFICATE, REPAIR),
            (Part::TrustDomain, None) => (&self.own, CERTIFICATE, TRUST_DOMAIN),
        };
        SecretError::Content {
            secret: secret.clone(),
            key: key.to_owned(),
            reason: flaw.reason,
            fix,
        }
    }

    fn malformed(&self, malformed: Malformed) -> SecretError {
        let is_note = malformed.key.starts_with("weft.dev/");
        SecretError::Content {
            secret: self.own.clone(),
            key: malformed.key,
            reason: malformed.reason,
            fix: if is_note { REPAIR_NOTE } else { REPAIR },
        }
    }

    fn malformed_supplied(&self, malformed: Malformed) -> SecretError {
        SecretError::Content {
            secret: self.supplied.clone().unwrap_or_default(),
            key: malformed.key,
            reason: malformed.reason,
            fix: REPAIR_SUPPLIED,
        }
    }
}

const TRUST_DOMAIN: &str = "set --trust-domain accordingly";

fn hint(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            "; the control plane needs the rights that charts/weft grants it"
        }
        _ => "",
    }
}
