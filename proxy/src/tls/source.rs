//! Where certificates come from: the seam, and the two sources there are.

mod csr;
mod files;

pub use csr::Csr;
pub use files::Files;

use super::{Credentials, Issued, control_plane::ConnectError};
use std::{
    future::Future,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use weft_xds_proto::spiffe::SpiffeId;

/// The wall clock, a seam for tests.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A source of certificates for this workload.
pub trait CertificateSource: Send {
    /// What logs call it: `control plane`, `files in certs/`.
    fn describe(&self) -> String;

    /// Who its certificates must be for; `None` to take whoever they name.
    fn requested(&self) -> Option<&SpiffeId>;

    /// A certificate, its key and roots, unverified.
    fn obtain(&mut self) -> impl Future<Output = Result<Issued, SourceError>> + Send;

    /// Returns when it is time to ask again, given what is in force.
    fn renewal_due(
        &mut self,
        current: &Credentials,
        clock: &Clock,
    ) -> impl Future<Output = ()> + Send;
}

/// Why a source has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file, or the issuer's answer, is not PEM of the right kind.
    #[error("{name}: {reason}")]
    Pem {
        /// Which file or field.
        name: String,
        /// Why.
        reason: String,
    },
    /// No key or signing request could be made.
    #[error("certificate signing request: {0}")]
    Request(#[from] rcgen::Error),
    /// There is no connection to the issuer.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The issuer refused, or failed.
    #[error("the issuer answered {code:?}: {message}")]
    Issuer {
        /// The gRPC status code.
        code: tonic::Code,
        /// The status message.
        message: String,
    },
}

/// The clock is looked at again after at most this: it may have been set, or the machine suspended.
const CLOCK_CHECK: Duration = Duration::from_secs(30);

/// Waits until about two thirds of the time to `not_after` have passed, spread so that proxies that started
/// together do not come back together.
pub(super) async fn renewal_due(not_after: SystemTime, clock: &Clock) {
    let now = clock();
    let life = not_after.duration_since(now).unwrap_or(Duration::ZERO);
    let due = now + life.mul_f64(0.60 + 0.12 * fastrand::f64());
    while let Ok(wait) = due.duration_since(clock())
        && !wait.is_zero()
    {
        tokio::time::sleep(wait.min(CLOCK_CHECK)).await;
    }
}
