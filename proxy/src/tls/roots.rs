//! The roots of the trust domain, and when one of them may be forgotten.

use super::{InvalidCertificate, Summary};
use rustls_pki_types::{CertificateDer, TrustAnchor};

/// The certificates that every chain in the trust domain must lead to.
#[derive(Debug, Clone)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    summaries: Vec<Summary>,
}

/// Why certificates cannot be the roots of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRoots {
    /// There is none: nobody could be trusted.
    #[error("no root certificate")]
    None,
    /// One of them cannot be read.
    #[error("root certificate {position}: {reason}")]
    Malformed {
        /// Which one, from 0.
        position: usize,
        /// Why.
        reason: InvalidCertificate,
    },
    /// One of them can be read, but does not serve to verify.
    #[error("root certificate {position} ({subject:?}): {reason}")]
    Unusable {
        /// Which one, from 0.
        position: usize,
        /// Its distinguished name.
        subject: String,
        /// Why.
        reason: String,
    },
}

impl Roots {
    /// Roots from certificates; a repeated one counts once.
    pub fn new(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self, InvalidRoots> {
        let mut roots = Self {
            certificates: Vec::new(),
            anchors: Vec::new(),
            summaries: Vec::new(),
        };
        for (position, certificate) in certificates.into_iter().enumerate() {
            if roots.certificates.contains(&certificate) {
                continue;
            }
            let summary = Summary::of(&certificate)
                .map_err(|reason| InvalidRoots::Malformed { position, reason })?;
            let anchor = webpki::anchor_from_trusted_cert(&certificate)
                .map_err(|error| InvalidRoots::Unusable {
                    position,
                    subject: summary.subject.clone(),
                    reason: error.to_string(),
                })?
                .to_owned();
            roots.anchors.push(anchor);
            roots.summaries.push(summary);
            roots.certificates.push(certificate);
        }
        if roots.certificates.is_empty() {
            return Err(InvalidRoots::None);
        }
        Ok(roots)
    }

    /// The certificates themselves.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// What they say, in the same order.
    pub fn summaries(&self) -> &[Summary] {
        &self.summaries
    }

    pub(super) fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The roots of both.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (position, certificate) in other.certificates.iter().enumerate() {
            if !all.certificates.contains(certificate) {
                all.certificates.push(certificate.clone());
                all.anchors.push(other.anchors[position].clone());
                all.summaries.push(other.summaries[position].clone());
            }
        }
        all
    }

    /// Only the root that anchors a chain, found by what identifies an anchor: its name and key.
    pub(super) fn only(&self, anchor: &TrustAnchor<'_>) -> Option<Self> {
        let position = self.anchors.iter().position(|own| {
            own.subject == anchor.subject
                && own.subject_public_key_info == anchor.subject_public_key_info
        })?;
        Some(Self {
            certificates: vec![self.certificates[position].clone()],
            anchors: vec![self.anchors[position].clone()],
            summaries: vec![self.summaries[position].clone()],
        })
    }
}

impl PartialEq for Roots {
    /// The same certificates, in whatever order.
    fn eq(&self, other: &Self) -> bool {
        self.certificates.len() == other.certificates.len()
            && self
                .certificates
                .iter()
                .all(|certificate| other.certificates.contains(certificate))
    }
}
