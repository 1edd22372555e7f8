//! What an issuer handed us, and whether it may be used.

#[cfg(test)]
mod tests;

use super::{
    InvalidCertificate, InvalidRoots, PeerError, Roots, Summary, provider, verify::verify_chain,
};
use rustls::{InconsistentKeys, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use webpki::KeyUsage;
use weft_xds_proto::spiffe::SpiffeId;

/// A certificate as it comes from a [`super::CertificateSource`]. Nothing about it is verified yet.
#[derive(Debug)]
pub struct Issued {
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// The leaf, then its intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The roots that the issuer sent along.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Which part of an issued certificate cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIssued {
    /// No certificate.
    #[error("chain: it is empty")]
    NoCertificate,
    /// The leaf cannot be read.
    #[error("chain[0]: {0}")]
    Leaf(#[from] InvalidCertificate),
    /// The leaf is somebody else's.
    #[error("chain[0]: it is the certificate of {issued}, not of {requested}")]
    Identity {
        /// Who we are.
        requested: SpiffeId,
        /// Whose it is.
        issued: SpiffeId,
    },
    /// The key cannot be read.
    #[error("key: {0}")]
    Key(String),
    /// The key belongs to another certificate.
    #[error("key: it does not belong to the certificate (serial {serial})")]
    KeyMismatch {
        /// The serial number of the leaf.
        serial: String,
    },
    /// The roots cannot be used.
    #[error("roots: {0}")]
    Roots(#[from] InvalidRoots),
    /// The chain does not hold for a client or a server.
    #[error("chain: as a {role}: {reason}")]
    Chain {
        /// `client` or `server`.
        role: &'static str,
        /// Why.
        reason: PeerError,
    },
}

/// An issued certificate that may be used.
#[derive(Debug)]
pub(super) struct Valid {
    pub(super) id: SpiffeId,
    pub(super) leaf: Summary,
    pub(super) certified_key: Arc<CertifiedKey>,
    /// The roots that the issuer sent along.
    pub(super) issued_roots: Option<Roots>,
    /// The one that the leaf chains to.
    pub(super) anchor: Roots,
}

impl Issued {
    /// Splits a list of certificates as CAs return it: leaf, intermediates, root last. Self-issued ones are
    /// roots; when none is, the last is (`IstioCertificateResponse.cert_chain`).
    pub fn from_list(key: PrivateKeyDer<'static>, list: Vec<CertificateDer<'static>>) -> Self {
        let self_issued = |certificate: &CertificateDer<'_>| {
            Summary::of(certificate).is_ok_and(|summary| summary.subject == summary.issuer)
        };
        let mut list = list.into_iter();
        let leaf = list.next();
        let (mut roots, mut intermediates): (Vec<_>, Vec<_>) = list.partition(self_issued);
        if roots.is_empty() {
            roots.extend(intermediates.pop());
        }
        Self {
            key,
            chain: leaf.into_iter().chain(intermediates).collect(),
            roots,
        }
    }

    /// Checks every part. `requested` is the identity that was asked for, when there was one; `known` are the
    /// roots that other sources gave us.
    pub(super) fn validate(
        self,
        requested: Option<&SpiffeId>,
        known: Option<&Roots>,
        now: SystemTime,
    ) -> Result<Valid, InvalidIssued> {
        let leaf = self.chain.first().ok_or(InvalidIssued::NoCertificate)?;
        let (id, summary) = Summary::of_workload(leaf)?;
        if let Some(requested) = requested
            && *requested != id
        {
            return Err(InvalidIssued::Identity {
                requested: requested.clone(),
                issued: id,
            });
        }

        let issued_roots = match self.roots {
            roots if roots.is_empty() => None,
            roots => Some(Roots::new(roots)?),
        };
        let roots = match (&issued_roots, known) {
            (Some(issued), Some(known)) => issued.union(known),
            (Some(roots), None) | (None, Some(roots)) => roots.clone(),
            (None, None) => return Err(InvalidRoots::None.into()),
        };
        let now = UnixTime::since_unix_epoch(
            now.duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or(Duration::ZERO),
        );
        let mut anchor = None;
        for (role, usage) in [
            ("client", KeyUsage::client_auth()),
            ("server", KeyUsage::server_auth()),
        ] {
            let (_, found) = verify_chain(
                leaf,
                &self.chain[1..],
                &roots,
                id.trust_domain(),
                usage,
                now,
            )
            .map_err(|reason| InvalidIssued::Chain { role, reason })?;
            anchor = roots.only(&found);
        }

        let key = provider()
            .key_provider
            .load_private_key(self.key)
            .map_err(|error| InvalidIssued::Key(error.to_string()))?;
        let certified_key = CertifiedKey::new(self.chain, key);
        match certified_key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => {
                return Err(InvalidIssued::KeyMismatch {
                    serial: summary.serial,
                });
            }
            Err(error) => return Err(InvalidIssued::Key(error.to_string())),
        }

        Ok(Valid {
            id,
            leaf: summary,
            certified_key: Arc::new(certified_key),
            issued_roots,
            anchor: anchor.expect("a chain that verified leads to one of the roots"),
        })
    }
}
