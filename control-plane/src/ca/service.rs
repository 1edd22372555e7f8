//! The certificate signing service: `istio.v1.auth.IstioCertificateService`.

use std::{sync::Arc, time::Duration};

use tonic::{Request, Response, Status};
use weft_xds_proto::csr::{
    IstioCertificateRequest, IstioCertificateResponse,
    istio_certificate_service_server::IstioCertificateService,
};

use super::{Ca, SignError};
use crate::{caller::Authenticator, monitoring::metrics::CsrMetrics};

/// Signs requests of callers that prove who they are.
#[derive(Debug)]
pub struct CertificateService {
    ca: Arc<Ca>,
    authenticator: Authenticator,
    metrics: CsrMetrics,
}

impl CertificateService {
    /// Signs with this CA, for callers known to this authenticator.
    pub fn new(ca: Arc<Ca>, authenticator: Authenticator, metrics: CsrMetrics) -> Self {
        Self {
            ca,
            authenticator,
            metrics,
        }
    }

    async fn create(
        &self,
        request: &Request<IstioCertificateRequest>,
    ) -> Result<IstioCertificateResponse, Status> {
        let caller = self.authenticator.caller(request).await?;
        let IstioCertificateRequest {
            csr,
            validity_duration,
            ..
        } = request.get_ref();
        let ttl = match u64::try_from(*validity_duration) {
            Ok(0) => None,
            Ok(seconds) => Some(Duration::from_secs(seconds)),
            Err(_) => {
                return Err(Status::invalid_argument(format!(
                    "validity_duration: {validity_duration} is negative; it is a number of seconds, \
                     0 for the default"
                )));
            }
        };
        match self.ca.sign(csr, &caller.identity, ttl) {
            Ok(cert_chain) => {
                tracing::debug!(identity = %caller.identity, "certificate signed");
                Ok(IstioCertificateResponse { cert_chain })
            }
            Err(error) => Err(status(&error)),
        }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for CertificateService {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let result = self.create(&request).await;
        match &result {
            Ok(_) => {
                self.metrics.signed.inc();
            }
            Err(status) => {
                self.metrics.refused.inc();
                tracing::warn!(
                    code = ?status.code(),
                    reason = status.message(),
                    "certificate refused"
                );
            }
        }
        result.map(Response::new)
    }
}

fn status(error: &SignError) -> Status {
    let message = error.to_string();
    match error {
        SignError::Request(_) => Status::invalid_argument(message),
        SignError::Identity { .. } | SignError::TrustDomain { .. } => {
            Status::permission_denied(message)
        }
        SignError::RootEnds => Status::failed_precondition(message),
        SignError::Sign(_) => Status::internal(message),
    }
}
