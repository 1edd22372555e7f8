//! Certificates signed by the control plane, or by any other `istio.v1.auth.IstioCertificateService`.

use super::{CertificateSource, Clock, Credentials, Issued, SourceError, renewal_due};
use crate::tls::control_plane::{ControlPlane, Proof, with_sources};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use std::time::Duration;
use tonic::{Code, Request, Status};
use weft_xds_proto::{
    csr::{
        IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient,
    },
    spiffe::SpiffeId,
};

/// Asks the control plane to sign a key made here, a new one every time.
#[derive(Debug)]
pub struct Csr {
    control_plane: ControlPlane,
    id: SpiffeId,
    lifetime: Option<Duration>,
}

impl Csr {
    /// Certificates for `id`. `lifetime` is what is asked for, and the issuer's to grant; its default when
    /// absent.
    pub fn new(control_plane: ControlPlane, id: SpiffeId, lifetime: Option<Duration>) -> Self {
        Self {
            control_plane,
            id,
            lifetime,
        }
    }

    async fn sign(&self, csr: &str, proof: Proof) -> Result<Vec<String>, SourceError> {
        let connection = self.control_plane.connect(proof).await?;
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: self
                .lifetime
                .map_or(0, |life| i64::try_from(life.as_secs()).unwrap_or(i64::MAX)),
            metadata: None,
        });
        if let Some(authorization) = connection.authorization {
            request
                .metadata_mut()
                .insert("authorization", authorization);
        }
        let response = IstioCertificateServiceClient::new(connection.channel)
            .create_certificate(request)
            .await
            .map_err(issuer_error)?;
        Ok(response.into_inner().cert_chain)
    }
}

impl CertificateSource for Csr {
    fn describe(&self) -> String {
        format!("control plane at {}", self.control_plane.url())
    }

    fn requested(&self) -> Option<&SpiffeId> {
        Some(&self.id)
    }

    async fn obtain(&mut self) -> Result<Issued, SourceError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let csr = request(&self.id, &key)?;
        // With the certificate in force if there is one: the token may be long gone on a machine that joined
        // with it once. With the token if the certificate no longer convinces.
        let signed = match self.control_plane.proof() {
            Proof::Token => self.sign(&csr, Proof::Token).await,
            Proof::Certificate => match self.sign(&csr, Proof::Certificate).await {
                Err(SourceError::Issuer {
                    code: Code::Unauthenticated | Code::PermissionDenied,
                    message,
                }) => {
                    tracing::info!(
                        reason = message,
                        "the certificate in force is not accepted as proof, trying the token",
                    );
                    self.sign(&csr, Proof::Token).await
                }
                other => other,
            },
        };
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Issued::from_list(key, certificates(&signed?)?))
    }

    async fn renewal_due(&mut self, current: &Credentials, clock: &Clock) {
        renewal_due(current.not_after, clock).await;
    }
}

/// A signing request for an identity, in PEM. SPIFFE X509-SVID: the URI SAN is the identity, the subject stays
/// empty.
fn request(id: &SpiffeId, key: &KeyPair) -> Result<String, SourceError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    Ok(params.serialize_request(key)?.pem()?)
}

/// Each text holds one certificate, or several one after the other.
fn certificates(chain: &[String]) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    let mut certificates = Vec::with_capacity(chain.len());
    for (position, text) in chain.iter().enumerate() {
        for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
            certificates.push(certificate.map_err(|error| SourceError::Pem {
                name: format!("cert_chain[{position}]"),
                reason: error.to_string(),
            })?);
        }
    }
    Ok(certificates)
}

fn issuer_error(status: Status) -> SourceError {
    SourceError::Issuer {
        code: status.code(),
        message: with_sources(&status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_request_names_the_identity_and_nothing_else() {
        let id = SpiffeId::new("cluster.local", "demo", "user").unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let pem = request(&id, &key).unwrap();
        let parsed = rcgen::CertificateSigningRequestParams::from_pem(&pem).unwrap();
        assert_eq!(
            parsed.params.subject_alt_names,
            [SanType::URI(id.as_str().try_into().unwrap())]
        );
        assert_eq!(parsed.params.distinguished_name, DistinguishedName::new());
    }
}
