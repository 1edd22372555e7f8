//! Keeps the identity's certificate fresh: the loop around a [`CertificateSource`].
//!
//! A certificate is renewed at about two thirds of its life. When that fails it is tried again with backoff;
//! the old one stays in force until it ends. Connections are never touched: they keep what they began with.

#[cfg(test)]
mod tests;

use super::{
    CertificateSource, Credentials, Identity, InvalidIssued,
    backoff::Backoff,
    certificate::rfc3339,
    source::{Clock, SourceError},
};
use std::{sync::Arc, time::Duration};
use weft_xds_proto::spiffe::SpiffeId;

/// The delays after a failure: from 250 ms to a twentieth of the certificate's life, at most a minute.
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_CAP: Duration = Duration::from_secs(60);
const RETRY_CAP_BEFORE_FIRST: Duration = Duration::from_secs(5);

/// A single attempt that takes longer has failed; less for a certificate with a short life.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPT_TIMEOUT_LEAST: Duration = Duration::from_secs(1);

/// Runs for as long as the process does. `clock` is the wall clock, `SystemTime::now` outside of tests.
pub async fn run(mut source: impl CertificateSource, identity: Identity, clock: Clock) {
    let mut backoff = Backoff::new(RETRY_FIRST, RETRY_CAP_BEFORE_FIRST);
    let mut timeout = ATTEMPT_TIMEOUT;
    loop {
        match attempt(&mut source, &identity, &clock, timeout).await {
            Ok(credentials) => {
                let life = credentials
                    .not_after
                    .duration_since(clock())
                    .unwrap_or(Duration::ZERO);
                backoff = Backoff::new(RETRY_FIRST, (life / 20).clamp(RETRY_FIRST, RETRY_CAP));
                timeout = (life / 5).clamp(ATTEMPT_TIMEOUT_LEAST, ATTEMPT_TIMEOUT);
                tracing::info!(
                    identity = %credentials.id,
                    serial = credentials.leaf.serial,
                    valid_until = rfc3339(credentials.not_after),
                    roots = credentials.roots.certificates().len(),
                    source = source.describe(),
                    "certificate in use",
                );
                source.renewal_due(&credentials, &clock).await;
            }
            Err(error) => {
                let retry_in = backoff.delay(fastrand::f64());
                identity.note_failure(error.to_string());
                match identity.current() {
                    Some(current) => tracing::warn!(
                        identity = %current.id,
                        in_force_until = rfc3339(current.not_after),
                        source = source.describe(),
                        %error,
                        ?retry_in,
                        "certificate not renewed, the last one stays in force",
                    ),
                    None => tracing::error!(
                        identity = source.requested().map(SpiffeId::as_str),
                        source = source.describe(),
                        %error,
                        ?retry_in,
                        "no certificate: connections that need mutual TLS fail until there is one",
                    ),
                }
                tokio::time::sleep(retry_in).await;
            }
        }
    }
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("the certificate cannot be used: {0}")]
    Invalid(#[from] InvalidIssued),
    #[error("the issuer did not answer within {0:?}")]
    Timeout(Duration),
}

async fn attempt(
    source: &mut impl CertificateSource,
    identity: &Identity,
    clock: &Clock,
    timeout: Duration,
) -> Result<Arc<Credentials>, AttemptError> {
    let issued = tokio::time::timeout(timeout, source.obtain())
        .await
        .map_err(|_| AttemptError::Timeout(timeout))??;
    Ok(identity.install(issued, source.requested(), clock())?)
}
