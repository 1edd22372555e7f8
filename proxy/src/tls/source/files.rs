//! Certificates from a directory that somebody else keeps fresh: `--certificate-dir`.

#[cfg(test)]
mod tests;

use super::{CertificateSource, Clock, Credentials, Issued, SourceError};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use weft_xds_proto::spiffe::SpiffeId;

/// Between two looks at the files.
const POLL: Duration = Duration::from_secs(10);

const CHAIN: &str = "cert-chain.pem";
const KEY: &str = "key.pem";
const ROOTS: &str = "root-cert.pem";

/// A directory with `cert-chain.pem`, `key.pem` and `root-cert.pem`, the names that Istio and Envoy use.
/// The files are read again when one of them changes.
#[derive(Debug)]
pub struct Files {
    directory: PathBuf,
    read: Stamps,
}

/// Modification time and length of each file, as far as they exist: some editors keep one of the two.
type Stamps = [Option<(SystemTime, u64)>; 3];

impl Files {
    /// Nothing is read yet.
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            read: [None; 3],
        }
    }

    async fn stamps(&self) -> Stamps {
        let mut stamps = [None; 3];
        for (stamp, name) in stamps.iter_mut().zip([CHAIN, KEY, ROOTS]) {
            *stamp = tokio::fs::metadata(self.directory.join(name))
                .await
                .ok()
                .and_then(|metadata| Some((metadata.modified().ok()?, metadata.len())));
        }
        stamps
    }
}

impl CertificateSource for Files {
    fn describe(&self) -> String {
        format!("files in {}", self.directory.display())
    }

    fn requested(&self) -> Option<&SpiffeId> {
        None
    }

    async fn obtain(&mut self) -> Result<Issued, SourceError> {
        // Before the contents: what changes in between is noticed at the next look.
        self.read = self.stamps().await;
        let key = self.directory.join(KEY);
        Ok(Issued {
            key: PrivateKeyDer::from_pem_slice(&read(&key).await?)
                .map_err(|error| pem_error(&key, &error))?,
            chain: certificates(&self.directory.join(CHAIN)).await?,
            roots: certificates(&self.directory.join(ROOTS)).await?,
        })
    }

    /// When a file changed; or when the certificate is over, so that somebody hears of it.
    async fn renewal_due(&mut self, current: &Credentials, clock: &Clock) {
        loop {
            tokio::time::sleep(POLL).await;
            if self.stamps().await != self.read || clock() > current.not_after {
                return;
            }
        }
    }
}

async fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SourceError> {
    CertificateDer::pem_slice_iter(&read(path).await?)
        .collect::<Result<_, _>>()
        .map_err(|error| pem_error(path, &error))
}

async fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    tokio::fs::read(path)
        .await
        .map_err(|error| SourceError::File {
            path: path.to_owned(),
            error,
        })
}

fn pem_error(path: &Path, error: &rustls_pki_types::pem::Error) -> SourceError {
    SourceError::Pem {
        name: path.display().to_string(),
        reason: error.to_string(),
    }
}
