//! The authorities for the control plane's certificate: the file of `--xds-ca`, followed while it changes.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Between two looks at the file while nobody connects. Kubernetes brings a changed ConfigMap to a pod within
/// about a minute.
const POLL: Duration = Duration::from_secs(60);

/// The certificates of a PEM file. Clones follow the same file, and share the last good ones: a file that
/// somebody spoils, or takes away for a moment, costs no connection.
#[derive(Debug, Clone)]
pub struct Authorities(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_good: Vec<CertificateDer<'static>>,
    /// Why the file could not be used when it was read last.
    failure: Option<String>,
    failures: u64,
}

impl Authorities {
    /// Nothing is read yet.
    pub fn at(path: PathBuf) -> Self {
        Self(Arc::new(Inner {
            path,
            state: Mutex::default(),
        }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What the file holds now, or the last good certificates that it held; and why it cannot be used, if so.
    pub async fn read(&self) -> (Vec<CertificateDer<'static>>, Option<String>) {
        let read = match tokio::fs::read(self.path()).await {
            Ok(pem) => parse(&pem),
            Err(error) => Err(error.to_string()),
        };
        let mut state = self.state();
        match read {
            Ok(certificates) => {
                if !state.last_good.is_empty() && state.last_good != certificates {
                    tracing::info!(
                        file = %self.path().display(),
                        certificates = certificates.len(),
                        "the authorities for the control plane changed",
                    );
                }
                state.last_good = certificates;
                state.failure = None;
            }
            // Told and counted once for as long as it stays.
            Err(reason) if state.failure.as_ref() == Some(&reason) => {}
            Err(reason) => {
                tracing::warn!(
                    file = %self.path().display(),
                    reason,
                    last_good = state.last_good.len(),
                    "--xds-ca cannot be used, the last good authorities stay in force",
                );
                state.failures += 1;
                state.failure = Some(reason);
            }
        }
        (state.last_good.clone(), state.failure.clone())
    }

    /// How often the file became unusable since start.
    pub fn failures(&self) -> u64 {
        self.state().failures
    }

    /// Looks at the file from time to time, so that the last good certificates are not those of long ago, and
    /// a bad file is known before the next connection needs it. Never ends.
    pub async fn follow(self) {
        loop {
            tokio::time::sleep(POLL).await;
            self.read().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// At least one certificate, each of which can anchor a chain.
fn parse(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("there is no certificate in it".to_owned());
    }
    let mut store = RootCertStore::empty();
    for certificate in &certificates {
        store
            .add(certificate.clone())
            .map_err(|error| error.to_string())?;
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::TestCa;
    use std::{fs, os::unix::fs::symlink};

    /// As the kubelet writes a ConfigMap: the file leads over `..data` to a directory, and the link is replaced.
    struct Mounted(tempfile::TempDir);

    impl Mounted {
        fn of(version: &str, text: &str) -> Self {
            let mounted = Self(tempfile::tempdir().unwrap());
            mounted.change(version, text);
            symlink("..data/root-cert.pem", mounted.path()).unwrap();
            mounted
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("root-cert.pem")
        }

        fn change(&self, version: &str, text: &str) {
            let directory = self.0.path();
            fs::create_dir(directory.join(version)).unwrap();
            fs::write(directory.join(version).join("root-cert.pem"), text).unwrap();
            symlink(version, directory.join("..tmp")).unwrap();
            fs::rename(directory.join("..tmp"), directory.join("..data")).unwrap();
        }
    }

    #[tokio::test]
    async fn a_mounted_file_that_is_exchanged_is_read_anew() {
        let (old, new) = (TestCa::root("old"), TestCa::root("new"));
        let mounted = Mounted::of("1", old.root_pem());
        let authorities = Authorities::at(mounted.path());
        let (held, failure) = authorities.read().await;
        assert_eq!((held, failure), (vec![old.root_certificate()], None));

        mounted.change("2", &[old.root_pem(), new.root_pem()].concat());
        let both = vec![old.root_certificate(), new.root_certificate()];
        assert_eq!(authorities.read().await, (both, None));
    }

    #[tokio::test]
    async fn a_bad_file_leaves_the_last_good_authorities_and_counts_once() {
        let ca = TestCa::root("mesh");
        let good = vec![ca.root_certificate()];
        let mounted = Mounted::of("1", ca.root_pem());
        let authorities = Authorities::at(mounted.path());
        assert_eq!(authorities.read().await, (good.clone(), None));

        mounted.change("2", "");
        for _ in 0..2 {
            let (held, failure) = authorities.read().await;
            assert_eq!(held, good);
            assert_eq!(failure.as_deref(), Some("there is no certificate in it"));
        }
        assert_eq!(authorities.failures(), 1);

        let torn = &ca.root_pem()[..ca.root_pem().len() / 2];
        mounted.change("3", torn);
        let (held, failure) = authorities.read().await;
        assert_eq!(held, good);
        assert!(failure.is_some());
        assert_eq!(authorities.failures(), 2);

        mounted.change("4", ca.root_pem());
        assert_eq!(authorities.read().await, (good, None));
        assert_eq!(authorities.failures(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_noticed_without_a_connection() {
        let (old, new) = (TestCa::root("old"), TestCa::root("new"));
        let mounted = Mounted::of("1", old.root_pem());
        let authorities = Authorities::at(mounted.path());
        authorities.read().await;
        let following = tokio::spawn(authorities.clone().follow());
        mounted.change("2", new.root_pem());
        while authorities.state().last_good != [new.root_certificate()] {
            tokio::time::sleep(POLL).await;
        }
        following.abort();
    }
}
