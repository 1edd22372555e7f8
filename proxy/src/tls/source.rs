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

/// When to renew a certificate that ends in `life`: at about two thirds, spread by `roll` in 0..1 so that
/// the proxies that started together do not come back together.
fn renew_after(life: Duration, roll: f64) -> Duration {
    life.mul_f64(0.60 + 0.12 * roll)
}
