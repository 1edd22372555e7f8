//! What makes a peer trustworthy: a valid chain to the roots of the trust domain, and an identity in it.

use super::{InvalidCertificate, Roots, Summary, certificate::rfc3339, provider};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use webpki::{EndEntityCert, KeyUsage};
use weft_xds_proto::spiffe::SpiffeId;

/// Why a peer, or a certificate issued to us, is not to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It showed no certificate.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// Its certificate cannot be read or names no workload.
    #[error(transparent)]
    Certificate(#[from] InvalidCertificate),
    /// It belongs elsewhere.
    #[error("{identity} is of trust domain {:?}, not of {expected:?}", identity.trust_domain())]
    TrustDomain {
        /// Who it says it is.
        identity: SpiffeId,
        /// Our trust domain.
        expected: String,
    },
    /// It is too late.
    #[error(
        "the certificate of {who} (serial {serial}) expired at {}; now is {}",
        rfc3339(*not_after), rfc3339(*now)
    )]
    Expired {
        /// Whose certificate.
        who: String,
        /// Its serial number.
        serial: String,
        /// When it expired.
        not_after: SystemTime,
        /// The time of the check.
        now: SystemTime,
    },
    /// It is too early: mostly a clock that is wrong.
    #[error(
        "the certificate of {who} (serial {serial}) is valid from {}; now is {}: compare the clocks",
        rfc3339(*not_before), rfc3339(*now)
    )]
    NotYetValid {
        /// Whose certificate.
        who: String,
        /// Its serial number.
        serial: String,
        /// When it becomes valid.
        not_before: SystemTime,
        /// The time of the check.
        now: SystemTime,
    },
    /// No root of ours issued it.
    #[error(
        "the certificate of {who} was issued by {issuer:?}, which leads to no root of the trust domain ({roots})"
    )]
    UnknownIssuer {
        /// Whose certificate.
        who: String,
        /// Who issued it.
        issuer: String,
        /// The roots that we have.
        roots: String,
    },
    /// Anything else that webpki refuses.
    #[error("the certificate of {who} is refused: {reason}")]
    Refused {
        /// Whose certificate.
        who: String,
        /// What webpki says.
        reason: String,
    },
}

/// The identity that a peer has proven, from the certificates of a completed handshake
/// (`connection.peer_certificates()`), its own first.
///
/// The chain was verified when the session began; a resumed session brings the certificates of that first
/// handshake, which may have expired since, so their validity is checked here again.
pub fn peer_identity(certificates: Option<&[CertificateDer<'_>]>) -> Result<SpiffeId, PeerError> {
    let leaf = certificates
        .and_then(<[_]>::first)
        .ok_or(PeerError::NoCertificate)?;
    let (id, summary) = Summary::of_workload(leaf)?;
    check_validity(&summary, SystemTime::now())?;
    Ok(id)
}

/// Verifies a chain for a use, and returns the identity of its leaf and the root that it leads to.
pub(super) fn verify_chain<'r>(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &'r Roots,
    trust_domain: &str,
    usage: KeyUsage,
    now: UnixTime,
) -> Result<(SpiffeId, TrustAnchor<'r>), PeerError> {
    let (id, summary) = Summary::of_workload(leaf)?;
    if id.trust_domain() != trust_domain {
        return Err(PeerError::TrustDomain {
            identity: id,
            expected: trust_domain.to_owned(),
        });
    }
    let now_system = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
    check_validity(&summary, now_system)?;
    let end_entity = EndEntityCert::try_from(leaf)
        .map_err(|error| InvalidCertificate::Malformed(error.to_string()))?;
    let path = end_entity
        .verify_for_usage(
            algorithms().all,
            roots.anchors(),
            intermediates,
            now,
            usage,
            None,
            None,
        )
        .map_err(|error| refusal(error, &summary, roots))?;
    let anchor = path.anchor();
    let anchor = roots
        .anchors()
        .iter()
        .find(|own| *own == anchor)
        .expect("webpki picks the anchor from those it was given")
        .clone();
    Ok((id, anchor))
}

/// Verifies servers that our client side dials: other sidecars.
#[derive(Debug)]
pub(super) struct PeerVerifier {
    pub(super) roots: Arc<Roots>,
    pub(super) trust_domain: String,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::server_auth(), now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

/// Verifies clients that dial our server side. Without a certificate there is no connection.
impl ClientCertVerifier for PeerVerifier {
    /// Empty: a workload has one certificate to choose from, hints would only be bytes.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, KeyUsage::client_auth(), now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl PeerVerifier {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: KeyUsage,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        verify_chain(
            end_entity,
            intermediates,
            &self.roots,
            &self.trust_domain,
            usage,
            now,
        )
        .map(drop)
        .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))).into())
    }
}

pub(super) fn check_validity(summary: &Summary, now: SystemTime) -> Result<(), PeerError> {
    if now > summary.not_after {
        return Err(PeerError::Expired {
            who: summary.who(),
            serial: summary.serial.clone(),
            not_after: summary.not_after,
            now,
        });
    }
    if now < summary.not_before {
        return Err(PeerError::NotYetValid {
            who: summary.who(),
            serial: summary.serial.clone(),
            not_before: summary.not_before,
            now,
        });
    }
    Ok(())
}

fn refusal(error: webpki::Error, summary: &Summary, roots: &Roots) -> PeerError {
    let who = summary.who();
    match error {
        webpki::Error::UnknownIssuer => PeerError::UnknownIssuer {
            who,
            issuer: summary.issuer.clone(),
            roots: roots
                .summaries()
                .iter()
                .map(|root| format!("{:?} serial {}", root.subject, root.serial))
                .collect::<Vec<_>>()
                .join(", "),
        },
        // The leaf's own validity has been checked: this is an intermediate.
        webpki::Error::CertExpired { not_after, time } => PeerError::Refused {
            who,
            reason: format!(
                "an intermediate certificate expired at {}; now is {}",
                rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(not_after.as_secs())),
                rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())),
            ),
        },
        other => PeerError::Refused {
            who,
            reason: other.to_string(),
        },
    }
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}
