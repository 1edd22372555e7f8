//! The watched directory: which files there are, which changed, and when to look.

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A directory and everything below it, as it was last seen.
pub(super) struct Directory {
    root: PathBuf,
    watcher: RecommendedWatcher,
    /// Directories with a watch each: notify's own recursion adds them after it told of a new directory,
    /// so that what is written into it in between goes unseen.
    watched: HashMap<PathBuf, Inode>,
    files: BTreeMap<PathBuf, Seen>,
}

/// What there is to do after looking.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Files to read.
    pub(super) changed: BTreeSet<PathBuf>,
    /// Files that are gone.
    pub(super) gone: BTreeSet<PathBuf>,
    /// Directories that cannot be read or watched, with what that means.
    pub(super) troubled: BTreeMap<PathBuf, String>,
    /// Whether everything was looked at.
    pub(super) complete: bool,
}

/// What some events ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Hints {
    /// To read these files.
    files: BTreeSet<PathBuf>,
    /// To look at everything.
    scan: Option<Scan>,
}

/// How far to trust that a file which is being written will be told of when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scan {
    /// A known file that only grew is left to its own event.
    Trusting,
    /// Whatever differs is read: events may have been lost.
    Thorough,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Inode {
    device: u64,
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    inode: Inode,
    size: u64,
    modified: (i64, i64),
    /// Includes changes of mode and owner: what could not be read may be readable now.
    changed: (i64, i64),
}

impl Directory {
    /// Nothing is read or watched before the first [`Self::look`].
    pub(super) fn new(root: PathBuf, watcher: RecommendedWatcher) -> Self {
        Self {
            root,
            watcher,
            watched: HashMap::new(),
            files: BTreeMap::new(),
        }
    }

    /// Adds to the hints what an event asks for. `unreadable` are the files that could not be read last.
    pub(super) fn interpret(
        &self,
        event: &notify::Result<Event>,
        unreadable: &HashSet<PathBuf>,
        hints: &mut Hints,
    ) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            _ => return hints.scan(Scan::Thorough),
        };
        for path in &event.paths {
            match event.kind {
                // A file is read when its writer closed it: before, it may be half of itself.
                EventKind::Access(AccessKind::Close(AccessMode::Write)) => hints.file(path),
                EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => {}
                EventKind::Modify(ModifyKind::Metadata(_)) => {
                    if unreadable.contains(path) || self.watched.contains_key(path) {
                        self.entry(path, hints);
                    }
                }
                EventKind::Create(_) => {
                    // A regular file with one name was created by opening it: its writer closes it yet.
                    let is_open = fs::symlink_metadata(path)
                        .is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1);
                    if !is_open {
                        self.entry(path, hints);
                    }
                }
                EventKind::Remove(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => {
                    self.entry(path, hints);
                }
            }
        }
    }

    /// An entry of a directory came, went or became another.
    fn entry(&self, path: &Path, hints: &mut Hints) {
        if is_link_of_configmap(path) {
            return hints.scan(Scan::Trusting);
        }
        // Editors' backups and swap files mean nothing.
        if is_hidden(path) {
            return;
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => hints.scan(Scan::Trusting),
            Ok(_) => hints.file(path),
            Err(_) if self.files.contains_key(path) || self.watched.contains_key(path) => {
                hints.scan(Scan::Trusting);
            }
            Err(_) => {}
        }
    }

    /// Looks at what the hints ask for.
    pub(super) fn look(&mut self, hints: &Hints) -> Found {
        if let Some(scan) = hints.scan {
            return self.scan(scan, hints);
        }
        let mut found = Found::default();
        for path in &hints.files {
            match fs::metadata(path) {
                Ok(metadata) if metadata.is_file() => {
                    self.files.insert(path.clone(), Seen::of(&metadata));
                    found.changed.insert(path.clone());
                }
                // It was renamed or replaced since. A rename is one step for the file system: only a look
                // at everything sees the old and the new name in one step as well.
                _ => return self.scan(Scan::Trusting, hints),
            }
        }
        found
    }

    fn scan(&mut self, scan: Scan, hints: &Hints) -> Found {
        let mut walk = Walk::default();
        self.walk(&self.root.clone(), &mut walk);
        let mut found = Found {
            complete: true,
            troubled: walk.unwatched,
            ..Found::default()
        };
        for (path, seen) in &walk.files {
            let differs = match self.files.get(path) {
                None => true,
                Some(old) if old.inode != seen.inode => true,
                Some(old) => old != seen && scan == Scan::Thorough,
            };
            if differs || hints.files.contains(path) {
                found.changed.insert(path.clone());
                self.files.insert(path.clone(), *seen);
            }
        }
        let gone = self.files.keys().filter(|path| {
            // What stands below a directory that cannot be read is as it was.
            let out_of_sight = walk.unreadable.keys().any(|dir| path.starts_with(dir));
            !walk.files.contains_key(*path) && !out_of_sight
        });
        found.gone = gone.cloned().collect();
        for path in &found.gone {
            self.files.remove(path);
        }
        found.troubled.extend(walk.unreadable);
        let forgotten: Vec<_> = self
            .watched
            .keys()
            .filter(|path| !walk.directories.contains(*path))
            .cloned()
            .collect();
        for path in forgotten {
            self.watched.remove(&path);
            // The watch of a directory that was removed is gone already.
            let _ = self.watcher.unwatch(&path);
        }
        found
    }

    fn walk(&mut self, directory: &Path, walk: &mut Walk) {
        let metadata = match fs::metadata(directory) {
            Ok(metadata) if metadata.is_dir() => metadata,
            Ok(_) => return walk.not_read(directory, "is not a directory any more"),
            // A directory below may go at any time; the root may not.
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory != self.root => {
                return;
            }
            Err(error) => return walk.not_read(directory, &error.to_string()),
        };
        let inode = Inode::of(&metadata);
        if !walk.inodes.insert(inode) {
            return;
        }
        // Before it is listed, so that nothing falls between.
        self.watch(directory, inode, walk);
        walk.directories.insert(directory.to_owned());
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return walk.not_read(directory, &error.to_string()),
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => return walk.not_read(directory, &error.to_string()),
            };
            let path = entry.path();
            if is_hidden(&path) {
                continue;
            }
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.walk(&path, walk),
                Ok(metadata) if metadata.is_file() && is_object_file(&path) => {
                    walk.files.insert(path, Seen::of(&metadata));
                }
                // Gone since it was listed, a dangling link, a socket: no file of objects.
                _ => {}
            }
        }
    }

    fn watch(&mut self, directory: &Path, inode: Inode, walk: &mut Walk) {
        match self.watched.get(directory) {
            Some(watched) if *watched == inode => return,
            Some(_) => {
                // Another directory of the same name: the old watch follows the old one, or is gone.
                let _ = self.watcher.unwatch(directory);
            }
            None => {}
        }
        match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(directory.to_owned(), inode);
            }
            Err(error) => walk.not_watched(directory, &error),
        }
    }
}

impl Hints {
    /// To look at everything, and trust nothing.
    pub(super) fn everything() -> Self {
        Self {
            files: BTreeSet::new(),
            scan: Some(Scan::Thorough),
        }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.scan.is_none()
    }

    fn file(&mut self, path: &Path) {
        if is_object_file(path) && !is_hidden(path) {
            self.files.insert(path.to_owned());
        }
    }

    fn scan(&mut self, scan: Scan) {
        self.scan = self.scan.max(Some(scan));
    }
}

#[derive(Default)]
struct Walk {
    files: BTreeMap<PathBuf, Seen>,
    directories: HashSet<PathBuf>,
    /// Links may lead in circles.
    inodes: HashSet<Inode>,
    unreadable: BTreeMap<PathBuf, String>,
    unwatched: BTreeMap<PathBuf, String>,
}

impl Walk {
    fn not_read(&mut self, directory: &Path, reason: &str) {
        let reason = format!("cannot be read: {reason}; objects below it stay as they were");
        self.unreadable.insert(directory.to_owned(), reason);
    }

    fn not_watched(&mut self, directory: &Path, error: &notify::Error) {
        let fix = match error.kind {
            notify::ErrorKind::MaxFilesWatch => "; raise fs.inotify.max_user_watches",
            _ => "",
        };
        let reason = format!("cannot be watched: {error}; its changes are noticed late{fix}");
        self.unwatched.insert(directory.to_owned(), reason);
    }
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: Inode::of(metadata),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Inode {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            number: metadata.ino(),
        }
    }
}

fn is_object_file(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}

fn is_hidden(path: &Path) -> bool {
    starts_with(path, ".")
}

/// The kubelet updates a mounted ConfigMap by renaming a link over `..data`.
fn is_link_of_configmap(path: &Path) -> bool {
    starts_with(path, "..")
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(prefix))
}
