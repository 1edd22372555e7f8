//! The signal that the proxy is about to exit, and the count of what still has to finish.
//!
//! One [`Drain`] is shared by every thread of the process: admin and the signal handler start it,
//! connections watch it, `app` waits for the last [`Guard`]. Deadlines are not its business: whoever
//! waits for [`Drain::quiet`] decides how long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// A shared, one-way switch from serving to draining.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    draining: AtomicBool,
    started: Notify,
    guards: AtomicUsize,
    guarded: AtomicU64,
    released: Notify,
}

/// Keeps the process alive, up to its drain deadline, for as long as it is held: one per connection.
#[derive(Debug)]
pub struct Guard {
    shared: Arc<Shared>,
}

impl Drain {
    /// A switch that nobody has thrown.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to drain. Later calls change nothing.
    pub fn start(&self) {
        // SeqCst on both sides: a waiter registers with `started` before it reads `draining`, and this
        // writes before it notifies, so that no waiter misses the change.
        self.shared.draining.store(true, Ordering::SeqCst);
        self.shared.started.notify_waiters();
    }

    /// Whether the proxy drains. Cheap: for use on every request.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Returns as soon as the proxy drains, at once if it does so already.
    pub async fn signaled(&self) {
        let started = self.shared.started.notified();
        tokio::pin!(started);
        started.as_mut().enable();
        if self.shared.draining.load(Ordering::SeqCst) {
            return;
        }
        started.await;
    }

    /// Counts something that a drain has to wait for.
    pub fn guard(&self) -> Guard {
        self.shared.guards.fetch_add(1, Ordering::SeqCst);
        self.shared.guarded.fetch_add(1, Ordering::SeqCst);
        Guard {
            shared: self.shared.clone(),
        }
    }

    /// How many guards are held.
    pub fn in_flight(&self) -> usize {
        self.shared.guards.load(Ordering::SeqCst)
    }

    /// Returns once no guard was held, and none was taken, for so long.
    pub async fn quiet(&self, period: Duration) {
        loop {
            self.all_done().await;
            let before = self.shared.guarded.load(Ordering::SeqCst);
            tokio::time::sleep(period).await;
            if self.shared.guarded.load(Ordering::SeqCst) == before {
                return;
            }
        }
    }

    /// Returns as soon as no guard is held, whether the proxy drains or not.
    pub async fn all_done(&self) {
        loop {
            let released = self.shared.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            released.await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.shared.guards.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.shared.released.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn whoever_waits_before_or_after_the_start_is_told() {
        let drain = Drain::new();
        let mut early = Box::pin(drain.signaled());
        assert!(early.as_mut().now_or_never().is_none());
        assert!(!drain.is_draining());
        drain.start();
        assert!(drain.is_draining());
        assert!(early.now_or_never().is_some());
        assert!(drain.signaled().now_or_never().is_some());
    }

    #[test]
    fn all_is_done_when_the_last_guard_is_dropped() {
        let drain = Drain::new();
        assert!(drain.all_done().now_or_never().is_some());
        let (first, second) = (drain.guard(), drain.clone().guard());
        let mut done = Box::pin(drain.all_done());
        assert!(done.as_mut().now_or_never().is_none());
        drop(first);
        assert!(done.as_mut().now_or_never().is_none());
        drop(second);
        assert!(done.now_or_never().is_some());
        assert_eq!(drain.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_when_nothing_came_for_the_period() {
        let drain = Drain::new();
        let period = Duration::from_secs(1);
        let start = tokio::time::Instant::now();
        let comes_late = async {
            tokio::time::sleep(period / 2).await;
            let guard = drain.guard();
            tokio::time::sleep(period * 3).await;
            drop(guard);
        };
        tokio::join!(drain.quiet(period), comes_late);
        assert_eq!(start.elapsed(), period / 2 + period * 3 + period);
    }
}
