//! Changes of the world: files moved into place, at a rate, whatever the control plane does.

use crate::{fleet::Book, server::Draft};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use weft_tests::bench::control_plane::world::{Change, World};

/// Makes changes and writes them into the book. Clones share their numbers.
#[derive(Clone)]
pub(crate) struct Changes {
    world: World,
    directory: PathBuf,
    book: Book,
    shared_percent: u32,
    next: Arc<AtomicU32>,
}

impl Changes {
    /// Changes of a world that is written in `config` of a directory.
    pub(crate) fn new(world: World, directory: &Path, book: Book, shared_percent: u32) -> Self {
        Self {
            world,
            directory: directory.to_owned(),
            book,
            shared_percent,
            next: Arc::new(AtomicU32::new(1)),
        }
    }

    /// Replaces a pod of a service, now.
    pub(crate) fn one(&self, service: u32) -> anyhow::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.make(Change { number, service })
    }

    /// Makes changes for some seconds, on a thread of its own: nothing that the proxies do delays them.
    pub(crate) async fn at_rate(&self, per_second: u32, seconds: u32) -> anyhow::Result<()> {
        let changes = self.clone();
        tokio::task::spawn_blocking(move || changes.run(per_second, seconds)).await?
    }

    fn run(&self, per_second: u32, seconds: u32) -> anyhow::Result<()> {
        let began = Instant::now();
        for n in 1..=per_second * seconds {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            self.make(self.world.change(number, self.shared_percent))?;
            let due = began + Duration::from_secs(1) * n / per_second;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    fn make(&self, change: Change) -> anyhow::Result<()> {
        let draft = Draft::of_change(&self.directory, self.world, change)?;
        // Before anybody can have seen it.
        self.book.changed(change);
        draft.publish()
    }
}
