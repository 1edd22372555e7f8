//! The directory in which the CA keeps what must survive it: written whole or not at all, secrets for
//! the owner's eyes only.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::KeyPair;

use super::authority::{Authority, Flaw, Material, Part, new_key, self_signed};

/// The private key that signs.
const KEY: &str = "ca-key.pem";
/// The root that the key belongs to.
const CERTIFICATE: &str = "ca-cert.pem";
/// Files with this ending hold further roots to trust: the one before a change of roots, or after.
const FURTHER_ROOTS: &str = ".root.pem";
/// All roots, written for proxies to read.
const BUNDLE: &str = "root-cert.pem";

const REPAIR: &str = "restore it from a backup, or move ca-key.pem and ca-cert.pem away to start a \
                      new root, which every workload must then be given";

/// Why something of the CA's directory cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The system refuses.
    #[error("--ca-dir: cannot {action} {}: {error}; the directory must belong to this user and be writable", path.display())]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The content is not what it should be.
    #[error("--ca-dir: {} cannot be used: {reason}; {fix}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
        /// What to do.
        fix: &'static str,
    },
}

/// Loads the authority of a directory, or makes one when there is none, and writes the bundle of roots.
pub(super) fn load_authority(path: &Path, trust_domain: &str) -> Result<Authority, StorageError> {
    let directory = Directory::open(path)?;
    let key = directory.read_or_create(KEY, 0o600, || new_key().serialize_pem())?;
    if directory.is_exposed(KEY) {
        tracing::warn!(
            file = %directory.path(KEY).display(),
            "others than the owner can read the key of the mesh's root; chmod 600 it"
        );
    }
    let now = SystemTime::now();
    let parsed = KeyPair::from_pem(&key).map_err(|error| directory.unusable(KEY, error, REPAIR))?;
    let certificate = directory.read_or_create(CERTIFICATE, 0o644, || {
        self_signed(trust_domain, &parsed, now)
    })?;
    let mut further = Vec::new();
    for name in directory.names_ending(FURTHER_ROOTS)? {
        let text = directory.read(&name)?.unwrap_or_default();
        further.push((name, text));
    }
    let material = Material {
        key: &key,
        certificate: &certificate,
        further: further
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect(),
    };
    let authority =
        Authority::parse(&material, trust_domain, now).map_err(|flaw| directory.flawed(flaw))?;
    directory.write(BUNDLE, 0o644, &authority.bundle())?;
    Ok(authority)
}

/// A directory of small files.
#[derive(Debug, Clone)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// Opens the directory, and makes it if it is not there. Others may look into it: proxies read the
    /// roots there.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let directory = Self::at(path);
        fs::create_dir_all(path).map_err(|error| directory.io("write", "", error))?;
        Ok(directory)
    }

    /// The directory as it is, even if it is not there.
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The text of a file, or `None` when it is not there.
    pub(super) fn read(&self, name: &str) -> Result<Option<String>, StorageError> {
        match fs::read_to_string(self.path(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("read", name, error)),
        }
    }

    /// The names of the files that have this ending, in order.
    pub(super) fn names_ending(&self, ending: &str) -> Result<Vec<String>, StorageError> {
        let entries = fs::read_dir(&self.0).map_err(|error| self.io("read", "", error))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.io("read", "", error))?;
            if let Ok(name) = entry.file_name().into_string()
                && name.ends_with(ending)
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// The text of a secret file. When it is not there, it is made: of several processes that do so
    /// at a time one wins, and all get the winner's.
    pub(super) fn read_or_create(
        &self,
        name: &str,
        mode: u32,
        make: impl FnOnce() -> String,
    ) -> Result<String, StorageError> {
        if let Some(text) = self.read(name)? {
            return Ok(text);
        }
        let draft = self.draft(name, mode, &make())?;
        // Unlike a rename, a link fails when somebody was faster.
        match fs::hard_link(&draft, self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(self.io("write", name, error));
            }
            _ => {}
        }
        fs::remove_file(&draft).map_err(|error| self.io("write", name, error))?;
        self.read(name)?
            .ok_or_else(|| self.io("read", name, io::Error::from(io::ErrorKind::NotFound)))
    }

    /// Replaces a file.
    pub(super) fn write(&self, name: &str, mode: u32, text: &str) -> Result<(), StorageError> {
        let draft = self.draft(name, mode, text)?;
        fs::rename(&draft, self.path(name)).map_err(|error| self.io("write", name, error))
    }

    /// Whether others than the owner can read a file.
    pub(super) fn is_exposed(&self, name: &str) -> bool {
        fs::metadata(self.path(name)).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
    }

    pub(super) fn unusable(
        &self,
        name: &str,
        reason: impl ToString,
        fix: &'static str,
    ) -> StorageError {
        StorageError::Content {
            path: self.path(name),
            reason: reason.to_string(),
            fix,
        }
    }

    fn flawed(&self, flaw: Flaw) -> StorageError {
        let (name, fix) = match &flaw.part {
            Part::Key => (KEY, REPAIR),
            Part::Certificate => (CERTIFICATE, REPAIR),
            Part::TrustDomain => (
                CERTIFICATE,
                "set --trust-domain accordingly, or use another --ca-dir",
            ),
            Part::Further(name) => (
                name.as_str(),
                "it must hold PEM certificates; repair or remove it",
            ),
        };
        self.unusable(name, &flaw.reason, fix)
    }

    /// Writes a file beside its place, complete and on disk.
    fn draft(&self, name: &str, mode: u32, text: &str) -> Result<PathBuf, StorageError> {
        let unique = u64::from_ne_bytes(super::root::random());
        let draft = self.path(&format!(".{name}.{unique:016x}"));
        let written = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            });
        written.map_err(|error| self.io("write", name, error))?;
        Ok(draft)
    }

    fn io(&self, action: &'static str, name: &str, error: io::Error) -> StorageError {
        StorageError::Io {
            action,
            path: self.path(name),
            error,
        }
    }
}
