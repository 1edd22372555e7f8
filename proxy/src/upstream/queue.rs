//! Requests that wait for a connection, because the cluster may have no more of them.
//!
//! A worker's connections are given back to those who wait on the same worker. On other workers they learn
//! only that a connection was closed, so a worker closes what it would keep idle while others wait.

use super::{
    cluster::LiveCluster,
    connect::ConnectError,
    endpoint::LiveEndpoint,
    http1,
    limits::{Permit, Resource},
};
use crate::error::RequestError;
use std::{cell::RefCell, collections::VecDeque, rc::Rc};
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

/// The requests of one worker to one cluster that wait for a connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// For an HTTP/1.1 connection, the longest waiting first.
    http1: RefCell<VecDeque<oneshot::Sender<Returned>>>,
    /// Told when a stream of an HTTP/2 connection ends.
    pub(super) stream_freed: Rc<Notify>,
}

/// An HTTP/1.1 connection given back by another request, and whose it is.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) endpoint: Rc<LiveEndpoint>,
    pub(super) idle: http1::Idle,
}

/// What the wait for an HTTP/1.1 connection came to.
#[derive(Debug)]
pub(super) enum Waited {
    /// Leave to open one.
    Permit(Permit),
    /// An open one.
    Returned(Box<Returned>),
}

impl Queue {
    fn enqueue(&self) -> oneshot::Receiver<Returned> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.http1.borrow_mut();
        waiting.retain(|waiting| !waiting.is_closed());
        waiting.push_back(sender);
        receiver
    }

    /// Hands a connection to whoever has waited for longest; gives it back when nobody waits.
    fn hand_over(&self, mut returned: Returned) -> Option<Returned> {
        loop {
            let Some(waiting) = self.http1.borrow_mut().pop_front() else {
                return Some(returned);
            };
            match waiting.send(returned) {
                Ok(()) => return None,
                Err(unwanted) => returned = unwanted,
            }
        }
    }
}

impl LiveCluster {
    /// Leave to open a connection. At the limit, an idle connection to another endpoint has to make room.
    pub(super) fn connection_permit(&self) -> Option<Permit> {
        let acquire = || self.limits.acquire(Resource::Connections);
        acquire().or_else(|| self.evict_idle().then(acquire).flatten())
    }

    /// Waits, as a pending request, for a connection to be given back or closed.
    pub(super) async fn wait_http1(&self) -> Result<Waited, ConnectError> {
        let _pending = self.pend()?;
        let mut returned = self.queue.enqueue();
        let deadline = self.wait_deadline();
        loop {
            let freed = self.limits.freed();
            if let Ok(returned) = returned.try_recv() {
                return Ok(Waited::Returned(Box::new(returned)));
            }
            if let Some(permit) = self.connection_permit() {
                return Ok(Waited::Permit(permit));
            }
            tokio::select! {
                biased;
                Ok(returned) = &mut returned => return Ok(Waited::Returned(Box::new(returned))),
                () = freed => {}
                () = sleep_until(deadline) => return Err(self.waited_in_vain()),
            }
        }
    }

    /// Waits, as a pending request, for a stream to end (`None`) or for leave to open a connection.
    pub(super) async fn wait_http2(&self) -> Result<Option<Permit>, ConnectError> {
        let _pending = self.pend()?;
        let deadline = self.wait_deadline();
        loop {
            let freed = self.limits.freed();
            if let Some(permit) = self.connection_permit() {
                return Ok(Some(permit));
            }
            tokio::select! {
                biased;
                () = self.queue.stream_freed.notified() => return Ok(None),
                () = freed => {}
                () = sleep_until(deadline) => return Err(self.waited_in_vain()),
            }
        }
    }

    fn pend(&self) -> Result<Permit, ConnectError> {
        self.limits
            .acquire(Resource::Pending)
            .ok_or_else(|| self.over(RequestError::MaxPendingRequests, Resource::Pending))
    }

    fn wait_deadline(&self) -> Instant {
        Instant::now() + self.connect_timeout()
    }

    /// Whether a request to the cluster waits for a connection, on any worker.
    pub(super) fn somebody_waits(&self) -> bool {
        self.limits.usage(Resource::Pending).0 > 0
    }

    pub(super) fn waited_in_vain(&self) -> ConnectError {
        self.over(RequestError::MaxConnections, Resource::Connections)
    }

    /// The error of a limit that is reached.
    pub(super) fn over(&self, error: RequestError, resource: Resource) -> ConnectError {
        let (used, limit) = self.limits.usage(resource);
        let what = match resource {
            Resource::Connections => "connections open",
            Resource::Pending => "requests waiting for a connection",
            Resource::Requests => "requests in flight",
        };
        ConnectError::new(
            error,
            format!(
                "cluster {} has {used} {what}, its limit is {limit}",
                self.name()
            ),
        )
    }

    /// Takes back a connection whose response is complete.
    pub(super) fn give_back(&self, endpoint: Rc<LiveEndpoint>, idle: http1::Idle) {
        let most = self.max_requests_per_connection();
        let spent = most.is_some_and(|most| idle.connection.requests() >= most.get().into());
        if spent || endpoint.is_retired() {
            return;
        }
        let admits = endpoint.gate.admits(idle.since);
        let returned = Returned { endpoint, idle };
        let unwanted = match admits {
            true => self.queue.hand_over(returned),
            // Who waits must not come to an endpoint that was ejected in the meantime.
            false => Some(returned),
        };
        // When somebody on another worker waits, closing the connection is the only way to pass it on.
        if let Some(Returned { endpoint, idle }) = unwanted
            && !self.somebody_waits()
        {
            endpoint.http1.put(idle);
        }
    }
}
