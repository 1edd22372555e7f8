//! Whether the cluster has native sidecars, by the version of its API server.

use std::{convert::Infallible, time::Duration};

use kube::Client;
use tokio::sync::watch;

use crate::inject::manifest;

/// After an attempt that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// A cluster may be upgraded while we run.
const INTERVAL: Duration = Duration::from_secs(3600);

/// Whether the cluster has native sidecars, as soon as that is known. Clones tell the same.
#[derive(Debug, Clone)]
pub struct NativeSidecars(watch::Receiver<Option<bool>>);

impl NativeSidecars {
    /// Known from the start.
    pub fn settled(native: bool) -> Self {
        Self(watch::channel(Some(native)).1)
    }

    /// Asks the API server, now and again. The future does the work and never ends.
    pub fn ask(client: Client) -> (Self, impl Future<Output = Infallible> + Send + 'static) {
        let (tell, told) = watch::channel(None);
        let asking = async move {
            loop {
                let pause = match client.apiserver_version().await {
                    Ok(version) => {
                        let native = has_native_sidecars(&version.major, &version.minor);
                        if tell.send_replace(Some(native)) != Some(native) {
                            let version = version.git_version;
                            tracing::info!(version, native_sidecars = native, "API server");
                        }
                        INTERVAL
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot ask the API server for its version");
                        PAUSE
                    }
                };
                tokio::time::sleep(pause).await;
            }
        };
        (Self(told), asking)
    }

    /// Whether the cluster has them. Waits for the first answer of the API server.
    pub async fn known(&self) -> bool {
        let mut told = self.0.clone();
        let known = told.wait_for(Option::is_some).await.map(|native| *native);
        match known {
            Ok(native) => native.unwrap_or_default(),
            // Nobody asks any more: we are on our way out.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Providers append to the minor version: `29+`.
fn has_native_sidecars(major: &str, minor: &str) -> bool {
    let number = |text: &str| {
        let digits = text.find(|c: char| !c.is_ascii_digit());
        text[..digits.unwrap_or(text.len())].parse::<u32>().ok()
    };
    let version = number(major).zip(number(minor));
    version.is_none_or(manifest::has_native_sidecars)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_compared_without_what_providers_append() {
        for (major, minor, native) in [
            ("1", "28", false),
            ("1", "28+", false),
            ("1", "29", true),
            ("1", "29+", true),
            ("1", "100", true),
            ("2", "0", true),
            ("", "", true),
        ] {
            assert_eq!(has_native_sidecars(major, minor), native, "{major}.{minor}");
        }
    }
}
