//! A network namespace held by a file descriptor, with threads that run inside it.

use std::{
    any::Any,
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use tokio::sync::oneshot;

use super::SandboxError;

/// A network namespace without a name. It lives as long as a clone of this value or a process inside it.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: Arc<str>,
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Makes an empty namespace: one loopback link, which is down. The name is for threads and messages only.
    pub fn new(name: &str) -> Result<Self, SandboxError> {
        let fd = thread::scope(|scope| {
            scope
                .spawn(|| {
                    // SAFETY: only this thread moves to the new namespace, and it ends here; memory and descriptors
                    // stay shared.
                    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
                    File::open("/proc/thread-self/ns/net")
                })
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
        .map_err(|error| SandboxError::new("make a network namespace", error))?;
        Ok(Self {
            name: name.into(),
            fd: Arc::new(fd.into()),
        })
    }

    /// Runs a closure on a thread inside the namespace and waits for it.
    ///
    /// Sockets belong to the namespace they were made in, so that those it returns go on working elsewhere.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            thread::Builder::new()
                .name(self.name.to_string())
                .spawn_scoped(scope, || {
                    self.move_this_thread();
                    body()
                })
                .expect("the system has room for a thread")
                .join()
                .unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Starts a future on a thread of its own inside the namespace, with a single-threaded runtime where
    /// `spawn_local` works.
    ///
    /// What the future spawned ends with it.
    pub fn run<F, T>(&self, body: impl FnOnce() -> F + Send + 'static) -> Task<T>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let namespace = self.clone();
        Task::on_thread(&self.name, move || namespace.move_this_thread(), body)
    }

    fn move_this_thread(&self) {
        move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("who made a namespace may enter it");
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A future that runs inside a namespace. Awaiting it gives the result, or its panic; dropping it cancels.
#[derive(Debug)]
pub struct Task<T> {
    finished: oneshot::Receiver<Result<T, Box<dyn Any + Send>>>,
    _cancel: oneshot::Sender<()>,
}

impl<T: Send + 'static> Task<T> {
    /// Starts a future on a thread of its own, in the namespace of this process.
    pub fn outside<F>(body: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = T> + 'static,
    {
        Self::on_thread("task", || {}, body)
    }

    fn on_thread<F>(
        name: &str,
        prepare: impl FnOnce() + Send + 'static,
        body: impl FnOnce() -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = T> + 'static,
    {
        let (cancel, cancelled) = oneshot::channel::<()>();
        let (finish, finished) = oneshot::channel();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    prepare();
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .expect("the system has room for a runtime");
                    tokio::task::LocalSet::new().block_on(&runtime, async {
                        tokio::select! {
                            outcome = async { body().await } => Some(outcome),
                            _ = cancelled => None,
                        }
                    })
                }));
                // Nobody waits for the result of a task that was dropped.
                let _ = match outcome {
                    Ok(None) => Ok(()),
                    Ok(Some(value)) => finish.send(Ok(value)).map_err(drop),
                    Err(panic) => finish.send(Err(panic)).map_err(drop),
                };
            })
            .expect("the system has room for a thread");
        Self {
            finished,
            _cancel: cancel,
        }
    }

    /// Waits outside of any runtime.
    pub fn join(self) -> T {
        outcome(self.finished.blocking_recv())
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        Poll::Ready(outcome(ready!(Pin::new(&mut self.finished).poll(context))))
    }
}

fn outcome<T>(received: Result<Result<T, Box<dyn Any + Send>>, oneshot::error::RecvError>) -> T {
    received
        .expect("only dropping a task cancels it")
        .unwrap_or_else(|panic| resume_unwind(panic))
}
