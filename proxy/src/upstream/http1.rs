//! Idle HTTP/1.1 connections to an endpoint. The last one given back is used first, so that the fewest stay
//! warm and the others reach their idle timeout.

use super::{keep_alive::KeepAlive, limits::Permit, status::EndpointCounters};
use crate::http::h1::Connection;
use http::HeaderValue;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// The most connections that one worker keeps idle per endpoint. A burst opens more; they are closed as
/// their responses complete.
const MOST_IDLE: usize = 256;

/// What a burst has left behind goes before the idle timeout: all but so many connections, once nobody has needed
/// them for so long. Each of them takes memory at both ends.
const KEPT_IDLE: usize = 16;
const SURPLUS_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection that was used so recently is not looked at again before a request that could be replayed.
/// No server retires idle connections so soon, and the look is a system call.
const SURELY_OPEN: Duration = Duration::from_millis(100);

/// The idle connections of one worker to one endpoint, the longest idle at the front.
#[derive(Debug)]
pub(super) struct Pool {
    idle: RefCell<VecDeque<Idle>>,
    keep_alive: Cell<KeepAlive>,
    counters: Arc<EndpointCounters>,
}

/// A connection without a request on it.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) connection: Connection,
    pub(super) permit: Permit,
    pub(super) since: Instant,
}

/// The place of a connection that carries a request.
#[derive(Debug)]
pub(super) struct Active {
    permit: Permit,
    counted: Counted,
}

impl Active {
    pub(super) fn new(permit: Permit, counters: Arc<EndpointCounters>) -> Self {
        Self {
            permit,
            counted: Counted::new(counters),
        }
    }

    /// The connection has answered.
    pub(super) fn idle(self, connection: Connection, now: Instant) -> Idle {
        drop(self.counted);
        Idle {
            connection,
            permit: self.permit,
            since: now,
        }
    }
}

/// One more active connection, until dropped.
#[derive(Debug)]
struct Counted(Arc<EndpointCounters>);

impl Counted {
    fn new(counters: Arc<EndpointCounters>) -> Self {
        counters.http1_active.increment();
        Self(counters)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.http1_active.decrement();
    }
}

impl Pool {
    pub(super) fn new(counters: Arc<EndpointCounters>) -> Self {
        Self {
            idle: RefCell::default(),
            keep_alive: Cell::default(),
            counters,
        }
    }

    /// The connection that was given back last and is still open. Closes those that are not. For a request
    /// that may be replayed, a recent use is enough.
    pub(super) fn take(&self, now: Instant, replayable: bool) -> Option<Idle> {
        let limit = self.keep_alive.get().limit(now);
        self.change(|idle| {
            while let Some(mut last) = idle.pop_back() {
                let age = now.saturating_duration_since(last.since);
                if limit.is_some_and(|limit| age >= limit) {
                    continue;
                }
                if replayable && age < SURELY_OPEN || last.connection.is_open() {
                    return Some(last);
                }
                self.learn(|keep_alive| keep_alive.closed(age, now));
            }
            None
        })
    }

    /// Keeps a connection for the next request; closes the longest idle one when there are too many.
    pub(super) fn put(&self, connection: Idle) {
        self.change(|idle| {
            idle.push_back(connection);
            if idle.len() > MOST_IDLE {
                idle.pop_front();
            }
        });
    }

    /// Closes what has been idle for too long, what a burst has left behind, and what the endpoint closed in the
    /// meantime: otherwise it would keep half a connection until someone tried to use it.
    pub(super) fn retire_idle(&self, idle_timeout: Duration, now: Instant) {
        let learned = self.keep_alive.get().limit(now);
        let most = learned.map_or(idle_timeout, |learned| learned.min(idle_timeout));
        let mut youngest_closed = None;
        self.change(|idle| {
            let mut surplus = idle.len().saturating_sub(KEPT_IDLE);
            idle.retain_mut(|idle| {
                let age = now.saturating_duration_since(idle.since);
                let left_behind = surplus > 0 && age >= SURPLUS_TIMEOUT;
                surplus = surplus.saturating_sub(1);
                if age >= most || left_behind {
                    return false;
                }
                let open = idle.connection.is_open();
                if !open {
                    // From the longest idle to the youngest.
                    youngest_closed = Some(age);
                }
                open
            });
            if idle.len() <= KEPT_IDLE {
                idle.shrink_to(KEPT_IDLE);
            }
        });
        if let Some(age) = youngest_closed {
            self.learn(|keep_alive| keep_alive.closed(age, now));
        }
    }

    /// Takes in what the endpoint says of how long it keeps connections.
    pub(super) fn announced(&self, field: &HeaderValue, now: Instant) {
        self.learn(|keep_alive| keep_alive.announced(field, now));
    }

    /// Closes the connection that has been idle for longest. False when there is none.
    pub(super) fn evict_idle(&self) -> bool {
        self.change(|idle| idle.pop_front().is_some())
    }

    /// Closes everything.
    pub(super) fn clear(&self) {
        self.change(VecDeque::clear);
    }

    fn learn(&self, learn: impl FnOnce(&mut KeepAlive)) {
        let mut keep_alive = self.keep_alive.get();
        learn(&mut keep_alive);
        self.keep_alive.set(keep_alive);
    }

    fn change<T>(&self, change: impl FnOnce(&mut VecDeque<Idle>) -> T) -> T {
        let mut idle = self.idle.borrow_mut();
        let result = change(&mut idle);
        self.counters.http1_idle.set(idle.len() as u64);
        result
    }
}
