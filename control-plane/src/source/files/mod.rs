//! The `files` source: a watched directory of Kubernetes objects as YAML or JSON.
//!
//! `directory` says which files to read, `catalog` what that means for the world. What is wrong with a
//! file is a [`Problem`](super::Problem), and never takes away what was good before.

mod catalog;
mod directory;
mod document;

use super::{Origin, Place, Problem, Problems, Severity};
use crate::world::{Changes, Store};
use catalog::{Applied, Catalog, Read};
use directory::{Directory, Found, Hints};
pub(crate) use document::documents;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs, io,
    num::NonZero,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

/// What the source needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory to watch, with what is below it.
    pub directory: PathBuf,
    /// The trust domain of the identities of workloads.
    pub trust_domain: Arc<str>,
}

/// Why the directory cannot be watched.
#[derive(Debug, thiserror::Error)]
#[error("cannot watch the configuration directory {}: {reason}", directory.display())]
pub struct WatchError {
    directory: PathBuf,
    reason: String,
}

/// A running source. Dropping it stops it.
#[derive(Debug)]
pub struct Source {
    messages: Sender<Message>,
}

/// How often everything is looked at without an event: some file systems have none.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Files that take longer to read than a thread takes to start.
const WORTH_A_THREAD: usize = 16;

/// Starts to watch: tells the store what is in the directory, marks it synced, then follows every change.
///
/// Errors when the directory is none, or inotify has no instance left. Whatever happens to the directory
/// or its files later is a problem in the list, and solved when it is mended.
pub fn start(
    settings: Settings,
    store: Arc<Store>,
    problems: Problems,
) -> Result<Source, WatchError> {
    let error = |reason: String| WatchError {
        directory: settings.directory.clone(),
        reason,
    };
    let metadata = fs::metadata(&settings.directory)
        .map_err(|cause| error(format!("{cause}; create it, or name another")))?;
    if !metadata.is_dir() {
        return Err(error("it is not a directory; name one".to_owned()));
    }
    let (messages, inbox) = mpsc::channel();
    let events = messages.clone();
    let watcher = notify::recommended_watcher(move |event| {
        // The other end is gone only when the source was dropped.
        let _ = events.send(Message::Event(event));
    })
    .map_err(|cause| error(format!("{cause}; raise fs.inotify.max_user_instances")))?;
    let follower = Follower {
        catalog: Catalog::new(settings.trust_domain.clone()),
        directory: Directory::new(settings.directory.clone(), watcher),
        unreadable: HashSet::new(),
        troubled: BTreeSet::new(),
        contradictions: BTreeMap::new(),
        changes: store.follow(),
        store,
        problems,
    };
    // A thread of its own: reading ten thousand files would hold up the runtime's.
    thread::Builder::new()
        .name("weft-files".to_owned())
        .spawn(move || follower.run(&inbox))
        .map_err(|cause| error(format!("cannot start a thread: {cause}")))?;
    Ok(Source { messages })
}

impl Drop for Source {
    fn drop(&mut self) {
        // The thread may have ended by itself only if it panicked; there is nothing to stop then.
        let _ = self.messages.send(Message::Stop);
    }
}

enum Message {
    Event(notify::Result<notify::Event>),
    Stop,
}

struct Follower {
    catalog: Catalog,
    directory: Directory,
    unreadable: HashSet<PathBuf>,
    troubled: BTreeSet<PathBuf>,
    /// What the objects of files are together, by the file that is to change.
    contradictions: BTreeMap<PathBuf, Vec<Problem>>,
    store: Arc<Store>,
    changes: Changes,
    problems: Problems,
}

impl Follower {
    fn run(mut self, inbox: &Receiver<Message>) {
        self.follow(&Hints::everything(), Instant::now());
        self.store.mark_synced();
        while let Some((hints, at)) = self.next(inbox) {
            if !hints.is_empty() {
                self.follow(&hints, at);
            }
        }
    }

    /// Waits for an event, takes with it what else is there already, and not a moment longer.
    fn next(&self, inbox: &Receiver<Message>) -> Option<(Hints, Instant)> {
        let first = match inbox.recv_timeout(LOOK_AGAIN) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => return Some((Hints::everything(), Instant::now())),
            Err(RecvTimeoutError::Disconnected) => return None,
        };
        let at = Instant::now();
        let mut hints = Hints::default();
        for message in std::iter::once(first).chain(inbox.try_iter()) {
            match message {
                Message::Event(event) => {
                    self.directory
                        .interpret(&event, &self.unreadable, &mut hints);
                }
                Message::Stop => return None,
            }
        }
        Some((hints, at))
    }

    fn follow(&mut self, hints: &Hints, at: Instant) {
        let found = self.directory.look(hints);
        let mut applied = Applied::default();
        for path in &found.gone {
            self.catalog.remove(path, &mut applied);
            self.unreadable.remove(path);
        }
        for (path, read) in self.read(&found.changed) {
            self.set(path, read, &mut applied);
        }
        // All in one step: a rename must not show a world without the file.
        self.store.apply(std::mem::take(&mut applied.updates), at);
        self.look_at_the_whole(&mut applied);
        for path in &applied.files {
            let mut problems = self.catalog.problems(path);
            problems.extend(self.contradictions.get(path).into_iter().flatten().cloned());
            problems.sort();
            self.problems.set(Place::File(path.clone()), problems);
        }
        self.tell_troubled(found);
    }

    /// Finds what only the whole world can tell is wrong: a change of one file may solve it in another.
    fn look_at_the_whole(&mut self, applied: &mut Applied) {
        let changed = self.changes.take();
        let concerned = changed.is_some_and(|published| published.change.concerns_findings());
        // Otherwise what was found before still is, but its document may have moved in its file.
        let moved = || {
            applied
                .files
                .iter()
                .any(|path| self.contradictions.contains_key(path))
        };
        if !concerned && !moved() {
            return;
        }
        let world = self.store.current();
        let mut contradictions: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (file, problem) in world
            .findings()
            .into_iter()
            .filter_map(|finding| self.catalog.located(finding))
        {
            let of_file = contradictions.entry(file.clone()).or_default();
            of_file.push(problem);
        }
        let old = std::mem::replace(&mut self.contradictions, contradictions);
        let paths = old.keys().chain(self.contradictions.keys());
        let changed = paths.filter(|path| old.get(*path) != self.contradictions.get(*path));
        applied.files.extend(changed.cloned());
    }

    /// Reads files, many of them on all processors.
    fn read<'a>(&self, paths: &'a BTreeSet<PathBuf>) -> Vec<(&'a PathBuf, io::Result<Read>)> {
        let read = |path: &'a PathBuf| {
            let content = fs::read(path);
            (
                path,
                content.map(|content| self.catalog.read(path, &content)),
            )
        };
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let readers = processors.min(paths.len() / WORTH_A_THREAD);
        if readers < 2 {
            return paths.iter().map(read).collect();
        }
        let paths: Vec<_> = paths.iter().collect();
        thread::scope(|scope| {
            let readers: Vec<_> = paths
                .chunks(paths.len().div_ceil(readers))
                .map(|part| scope.spawn(move || part.iter().copied().map(read).collect::<Vec<_>>()))
                .collect();
            let read = readers.into_iter().flat_map(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            read.collect()
        })
    }

    fn set(&mut self, path: &PathBuf, read: io::Result<Read>, applied: &mut Applied) {
        match read {
            Ok(read) => {
                self.unreadable.remove(path);
                self.catalog.set(path, read, applied);
            }
            // It went between the look and the read: its removal is an event of its own.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                self.unreadable.insert(path.clone());
                self.catalog
                    .set_unreadable(path, &error.to_string(), applied);
            }
        }
    }

    fn tell_troubled(&mut self, found: Found) {
        if !found.complete {
            return;
        }
        for path in &self.troubled {
            if !found.troubled.contains_key(path) {
                self.problems.set(Place::File(path.clone()), Vec::new());
            }
        }
        self.troubled = found.troubled.keys().cloned().collect();
        for (path, reason) in found.troubled {
            let problem = Problem {
                severity: Severity::Error,
                origin: Origin::File {
                    file: path.clone(),
                    document: None,
                },
                object: None,
                field: None,
                reason,
            };
            self.problems.set(Place::File(path), vec![problem]);
        }
    }
}

#[cfg(test)]
mod tests;
