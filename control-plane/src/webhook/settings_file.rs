//! The file with the injector's settings, and what of it is in force.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;

use crate::inject::{InvalidSettings, Settings};

/// How often the file is looked at. The kubelet takes up to a minute to bring a changed ConfigMap.
const INTERVAL: Duration = Duration::from_secs(5);

/// Settings that follow their file: the last good ones are in force.
#[derive(Debug)]
pub struct SettingsFile {
    path: Option<PathBuf>,
    in_force: ArcSwap<Settings>,
    /// What was read last, good or not: told about once.
    read: Mutex<Result<String, io::ErrorKind>>,
}

/// Why there are no settings to begin with.
#[derive(Debug, thiserror::Error)]
pub enum SettingsFileError {
    /// The file cannot be read.
    #[error("--injector-config {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it says is not good.
    #[error("--injector-config {}: {error}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        error: InvalidSettings,
    },
}

impl SettingsFile {
    /// Reads the file for the first time.
    pub fn open(path: PathBuf) -> Result<Self, SettingsFileError> {
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => return Err(SettingsFileError::Unreadable { path, error }),
        };
        let settings = match Settings::parse(&text) {
            Ok(settings) => settings,
            Err(error) => return Err(SettingsFileError::Invalid { path, error }),
        };
        Ok(Self {
            path: Some(path),
            in_force: ArcSwap::from_pointee(settings),
            read: Mutex::new(Ok(text)),
        })
    }

    /// Settings that never change.
    pub fn fixed(settings: Settings) -> Self {
        Self {
            path: None,
            in_force: ArcSwap::from_pointee(settings),
            read: Mutex::new(Ok(String::new())),
        }
    }

    /// What is in force.
    pub fn current(&self) -> Arc<Settings> {
        self.in_force.load_full()
    }

    /// Follows the file. Never ends.
    pub async fn follow(&self) {
        let mut looks = tokio::time::interval(INTERVAL);
        loop {
            looks.tick().await;
            self.look().await;
        }
    }

    /// Reads the file, and takes what it says if it is new and good.
    pub(super) async fn look(&self) {
        let Some(path) = &self.path else { return };
        let read = tokio::fs::read_to_string(path).await;
        let seen = read.as_ref().map(String::clone).map_err(io::Error::kind);
        let mut last = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == seen {
            return;
        }
        *last = seen;
        drop(last);
        let file = path.display();
        let parsed = read
            .map_err(|error| error.to_string())
            .and_then(|text| Settings::parse(&text).map_err(|error| error.to_string()));
        match parsed {
            Ok(settings) => {
                self.in_force.store(Arc::new(settings));
                tracing::info!(%file, "the injector's settings have changed");
            }
            Err(error) => tracing::error!(
                %file,
                error,
                "the injector's settings are not good; the last good ones stay in force"
            ),
        }
    }
}
