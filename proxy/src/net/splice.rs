//! Moving bytes between two sockets inside the kernel, through a pipe (`man 2 splice`).

use std::{
    cell::RefCell,
    io,
    os::fd::OwnedFd,
    task::{Context, Poll, ready},
};

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::{io::Interest, net::TcpStream};

/// What a pipe holds at most, if the user's limits on pipes allow it; 64 KiB otherwise.
const PIPE_CAPACITY: usize = 256 * 1024;

/// Empty pipes that a thread keeps for the next burst.
const POOL: usize = 16;

thread_local! {
    static IDLE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// One direction of a tunnel between plaintext sockets.
///
/// It holds a pipe only while bytes are on their way, so that an idle connection costs no file descriptor.
#[derive(Debug, Default)]
pub(super) struct Splice {
    pipe: Option<Pipe>,
    held: usize,
}

#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Splice {
    /// Takes what a socket has into the empty pipe. Returns how much, 0 at the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(
            self.held, 0,
            "EAGAIN of a filled pipe would be taken for an empty socket"
        );
        loop {
            ready!(from.poll_read_ready(cx))?;
            let pipe = match &self.pipe {
                Some(pipe) => pipe,
                None => self.pipe.insert(Pipe::take()?),
            };
            match from.try_io(Interest::READABLE, || {
                splice(from, &pipe.write, PIPE_CAPACITY)
            }) {
                Ok(moved) => {
                    self.held = moved;
                    return Poll::Ready(Ok(moved));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Empties the pipe into a socket, and reports each step.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        to: &TcpStream,
        mut delivered: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        while self.held > 0 {
            let pipe = self.pipe.as_ref().expect("what is held is in the pipe");
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || splice(&pipe.read, to, self.held)) {
                Ok(moved) => {
                    self.held -= moved;
                    delivered(moved);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Lets go of the pipe if it is empty.
    pub(super) fn rest(&mut self) {
        if self.held == 0
            && let Some(pipe) = self.pipe.take()
        {
            pipe.give_back();
        }
    }
}

impl Drop for Splice {
    fn drop(&mut self) {
        // A pipe that still holds bytes is closed with them: they belong to nobody else.
        self.rest();
    }
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(pipe) = IDLE.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused beyond fs.pipe-user-pages-soft: the pipe then works with the size it has.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_CAPACITY);
        Ok(Self { read, write })
    }

    fn give_back(self) {
        // The thread's storage may be gone already when it ends: the pipe is then closed.
        let _ = IDLE.try_with(|idle| {
            let mut idle = idle.borrow_mut();
            if idle.len() < POOL {
                idle.push(self);
            }
        });
    }
}

fn splice(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    at_most: usize,
) -> io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    Ok(rustix::pipe::splice(from, None, to, None, at_most, flags)?)
}

/// How many pipes this thread keeps unused.
#[cfg(test)]
pub(super) fn idle_pipes() -> usize {
    IDLE.with_borrow(Vec::len)
}
