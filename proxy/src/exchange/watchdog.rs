//! The end of connections whose caller takes nothing.

use super::Shared;
use crate::deadline::{Deadline, Deadlines};
use std::{
    cell::RefCell,
    rc::{Rc, Weak},
    time::Duration,
};
use tokio::time::Instant;

/// A body that is broken off is noticed where it is read. Where nobody reads, as the caller takes nothing,
/// the connection ends this much later.
pub(super) const STALL_GRACE: Duration = Duration::from_secs(1);

/// Ends a connection on which a response is overdue and nobody even looks at its body, since the caller
/// takes nothing (CVE-2020-12604).
///
/// For HTTP/1.1, where a connection has one exchange at a time.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pub(super) deadline: Deadline,
    current: RefCell<Weak<Shared>>,
}

impl Watchdog {
    pub(crate) fn new(deadlines: &Deadlines) -> Self {
        Self {
            deadline: deadlines.deadline(),
            current: RefCell::default(),
        }
    }

    pub(super) fn watch(&self, exchange: &Rc<Shared>) {
        self.current.replace(Rc::downgrade(exchange));
    }

    /// The exchange is over. Lets go of its memory too, which the connection would hold until the next one.
    pub(super) fn rest(&self) {
        self.deadline.set(None);
        self.current.take();
    }

    /// Returns when the connection is to be ended.
    pub(crate) async fn stalled(&self) {
        loop {
            self.deadline.passed().await;
            let Some(exchange) = self.current.borrow().upgrade() else {
                self.deadline.set(None);
                continue;
            };
            let now = Instant::now();
            match exchange.due().map(|due| due + STALL_GRACE) {
                Some(at) if at <= now => return exchange.fail(exchange.overdue(now)),
                // Bytes moved since the deadline was set.
                at => self.deadline.set(at),
            }
        }
    }
}
