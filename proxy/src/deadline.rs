//! Deadlines of a worker's requests, kept by one task per worker.
//!
//! A timer of the runtime costs 0.5-1.5 µs each time it is set, and nearly every request is done long
//! before its time is up. Setting one of these writes a few words into a slab; one task looks through them
//! when the earliest may have passed. The price is precision: a deadline fires up to [`TICK`] late.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How late a deadline may fire.
pub const TICK: Duration = Duration::from_millis(10);

/// The deadlines of one worker. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    inner: Rc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    slots: RefCell<Slots>,
    /// When the sweep wakes up; `None` while it has no reason to.
    next: Cell<Option<Instant>>,
    earlier: Notify,
}

#[derive(Debug, Default)]
struct Slots {
    all: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Slot {
    at: Option<Instant>,
    /// The sweep has seen that it is over: nobody else has to read a clock.
    passed: bool,
    waker: Option<Waker>,
}

/// A point in time that may be moved, taken away, or never set.
#[derive(Debug)]
pub struct Deadline {
    deadlines: Deadlines,
    slot: usize,
}

impl Deadlines {
    /// None yet. Somebody must run [`Deadlines::sweep`].
    pub fn new() -> Self {
        Self::default()
    }

    /// A deadline that is not set.
    pub fn deadline(&self) -> Deadline {
        let mut slots = self.inner.slots.borrow_mut();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.all.push(Slot::default());
            slots.all.len() - 1
        });
        Deadline {
            deadlines: self.clone(),
            slot,
        }
    }

    /// Wakes those whose deadline has passed, for ever. One task per worker.
    pub async fn sweep(&self) {
        loop {
            let earlier = self.inner.earlier.notified();
            match self.inner.next.get() {
                None => earlier.await,
                Some(at) => tokio::select! {
                    () = earlier => {}
                    () = sleep_until(at + TICK) => self.wake_passed(Instant::now()),
                },
            }
        }
    }

    fn wake_passed(&self, now: Instant) {
        let mut passed = Vec::new();
        let mut next: Option<Instant> = None;
        for slot in &mut self.inner.slots.borrow_mut().all {
            match slot.at {
                Some(at) if at <= now => {
                    slot.passed = true;
                    passed.extend(slot.waker.take());
                }
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        self.inner.next.set(next);
        // Outside of the borrow: a waker may run code of others.
        for waker in passed {
            waker.wake();
        }
    }

    fn note(&self, at: Instant) {
        if self.inner.next.get().is_none_or(|next| at < next) {
            self.inner.next.set(Some(at));
            self.inner.earlier.notify_one();
        }
    }
}

impl Deadline {
    /// Moves the deadline; `None` takes it away.
    pub fn set(&self, at: Option<Instant>) {
        {
            let mut slots = self.deadlines.inner.slots.borrow_mut();
            let slot = &mut slots.all[self.slot];
            slot.at = at;
            slot.passed = false;
        }
        if let Some(at) = at {
            self.deadlines.note(at);
        }
    }

    /// Ready once the deadline has passed; otherwise the task is woken when it does.
    pub fn poll_passed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut slots = self.deadlines.inner.slots.borrow_mut();
        let slot = &mut slots.all[self.slot];
        if slot.passed {
            return Poll::Ready(());
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Waits for the deadline, wherever it is moved meanwhile.
    pub async fn passed(&self) {
        std::future::poll_fn(|cx| self.poll_passed(cx)).await;
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut slots = self.deadlines.inner.slots.borrow_mut();
        slots.all[self.slot] = Slot::default();
        slots.free.push(self.slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::{LocalSet, spawn_local};

    async fn swept<T>(test: impl AsyncFnOnce(Deadlines) -> T) -> T {
        LocalSet::new()
            .run_until(async {
                let deadlines = Deadlines::new();
                let sweeper = deadlines.clone();
                spawn_local(async move { sweeper.sweep().await });
                test(deadlines).await
            })
            .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_fires_at_most_a_tick_late() {
        swept(async |deadlines| {
            let start = Instant::now();
            let (late, early) = (deadlines.deadline(), deadlines.deadline());
            late.set(Some(start + Duration::from_secs(15)));
            early.set(Some(start + Duration::from_millis(50)));
            early.passed().await;
            assert!(start.elapsed() >= Duration::from_millis(50));
            assert!(start.elapsed() <= Duration::from_millis(50) + TICK * 2);
            late.passed().await;
            assert!(start.elapsed() <= Duration::from_secs(15) + TICK * 2);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_moved_fires_at_its_new_time() {
        swept(async |deadlines| {
            let start = Instant::now();
            let deadline = Rc::new(deadlines.deadline());
            deadline.set(Some(start + Duration::from_secs(1)));
            let mover = deadline.clone();
            spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(900)).await;
                mover.set(Some(start + Duration::from_secs(3)));
            });
            deadline.passed().await;
            assert!(start.elapsed() >= Duration::from_secs(3));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_is_taken_away_never_fires() {
        swept(async |deadlines| {
            let deadline = deadlines.deadline();
            deadline.set(Some(Instant::now() + Duration::from_secs(1)));
            deadline.set(None);
            let hour = Duration::from_secs(3600);
            assert!(tokio::time::timeout(hour, deadline.passed()).await.is_err());
        })
        .await;
    }

    #[test]
    fn slots_are_used_again() {
        let deadlines = Deadlines::new();
        let first = deadlines.deadline();
        first.set(Some(Instant::now()));
        drop(first);
        let second = deadlines.deadline();
        assert!(
            second
                .poll_passed(&mut Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert_eq!(deadlines.inner.slots.borrow().all.len(), 1);
    }
}
