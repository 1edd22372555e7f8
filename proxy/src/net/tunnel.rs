//! Opaque bytes both ways between two streams, until both sides have finished.

use std::{
    cell::RefCell,
    fmt, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::{splice::Splice, stream::Stream};

/// The buffer through which a thread copies; its tunnels share it.
const SCRATCH: usize = 64 * 1024;

/// A burst of this size pays for the extra system calls of splicing.
const WORTH_SPLICING: usize = 16 * 1024;

/// What one direction moves before it lets the thread's other tasks run.
const TURN: usize = 1024 * 1024;

thread_local! {
    static COPY: RefCell<Box<[u8]>> = RefCell::default();
}

/// How a tunnel went.
#[derive(Debug)]
pub struct TunnelEnd {
    /// Bytes that were taken from the first stream and handed to the second.
    pub a_to_b: u64,
    /// Bytes that were taken from the second stream and handed to the first.
    pub b_to_a: u64,
    /// Why it ended before both sides had finished.
    pub error: Option<TunnelError>,
}

/// Why a tunnel ended early. Both connections were reset then: neither peer takes it for an end of data.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// Nothing moved in either direction.
    #[error("no byte moved in either direction for {0:?}")]
    Idle(Duration),
    /// A connection broke.
    #[error("the connection of side {side} broke: {source}")]
    Broken {
        /// Which stream of [`tunnel`]'s arguments.
        side: Side,
        /// What its socket, or the TLS session on it, reported.
        source: io::Error,
    },
}

/// One of the two streams of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first argument of [`tunnel`].
    A,
    /// The second argument of [`tunnel`].
    B,
}

/// Carries bytes both ways until both sides have finished, one breaks, or nothing moves for `idle`.
///
/// Half-close is kept: when one side finishes sending, the other receives FIN (after close_notify under TLS)
/// and may go on sending. Peeked bytes go first. Between plaintext sockets, bulk data stays in the kernel.
/// An idle tunnel holds neither a buffer nor a pipe.
pub fn tunnel(mut a: Stream, mut b: Stream, idle: Option<Duration>) -> Tunnel {
    let splices = !a.is_tls() && !b.is_tls();
    Tunnel {
        forth: Direction::new(Side::A, Side::B, a.take_peeked(), splices),
        back: Direction::new(Side::B, Side::A, b.take_peeked(), splices),
        rest: idle.map(Rest::new),
        a,
        b,
    }
}

/// A tunnel that carries bytes as it is polled. Thousands of them rest at a time, so that it is written by hand: an
/// `async fn` would have room for its streams twice.
#[derive(Debug)]
pub struct Tunnel {
    a: Stream,
    b: Stream,
    forth: Direction,
    back: Direction,
    rest: Option<Rest>,
}

impl Future for Tunnel {
    type Output = TunnelEnd;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<TunnelEnd> {
        let error = ready!(self.poll_carry(cx)).err();
        if error.is_some() {
            for stream in [&self.a, &self.b] {
                // Fails only on a socket that is dead already.
                let _ = stream.reset_on_drop();
            }
        }
        Poll::Ready(TunnelEnd {
            a_to_b: self.forth.moved,
            b_to_a: self.back.moved,
            error,
        })
    }
}

impl Tunnel {
    fn poll_carry(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TunnelError>> {
        let before = self.forth.moved + self.back.moved;
        let halves = (
            self.forth.poll(cx, &mut self.a, &mut self.b)?,
            self.back.poll(cx, &mut self.b, &mut self.a)?,
        );
        if let (Poll::Ready(()), Poll::Ready(())) = halves {
            return Poll::Ready(Ok(()));
        }
        let moved = self.forth.moved + self.back.moved != before;
        match &mut self.rest {
            Some(rest) => rest.poll_over(cx, moved).map(Err),
            None => Poll::Pending,
        }
    }
}

/// How long nothing has moved.
#[derive(Debug)]
struct Rest {
    at_most: Duration,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Rest {
    fn new(at_most: Duration) -> Self {
        Self {
            at_most,
            since: Instant::now(),
            timer: Box::pin(sleep(at_most)),
        }
    }

    fn poll_over(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<TunnelError> {
        if moved {
            self.since = Instant::now();
        }
        // The timer is moved only when it fires: a busy tunnel costs the timer wheel nothing.
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.since.elapsed() >= self.at_most {
                return Poll::Ready(TunnelError::Idle(self.at_most));
            }
            self.timer.as_mut().reset(self.since + self.at_most);
        }
        Poll::Pending
    }
}

/// One direction of a tunnel.
#[derive(Debug)]
struct Direction {
    from: Side,
    to: Side,
    /// Bytes in our memory that the receiver had no room for.
    pending: BytesMut,
    splice: Splice,
    may_splice: bool,
    /// Whether the last burst was worth splicing, so that the next one is expected to be.
    bulk: bool,
    phase: Phase,
    moved: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The sender may have more.
    Open,
    /// The sender has finished; the receiver has not been told.
    Finishing,
    Finished,
}

impl Direction {
    fn new(from: Side, to: Side, peeked: BytesMut, may_splice: bool) -> Self {
        Self {
            from,
            to,
            pending: peeked,
            splice: Splice::default(),
            may_splice,
            bulk: false,
            phase: Phase::Open,
            moved: 0,
        }
    }

    /// Moves what can be moved. Ready when the sender has finished and the receiver knows.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<(), TunnelError>> {
        let mut burst = 0;
        loop {
            match self.phase {
                Phase::Open => {
                    ready!(self.poll_drain(cx, to)).map_err(|source| self.to.broke(source))?;
                    if burst >= TURN {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    match self.poll_fill(cx, from, to)? {
                        Poll::Ready(0) => self.phase = Phase::Finishing,
                        Poll::Ready(taken) => {
                            burst += taken;
                            self.bulk = burst >= WORTH_SPLICING;
                        }
                        Poll::Pending => {
                            // Being woken for the other direction says nothing about this one.
                            if burst > 0 {
                                self.bulk = burst >= WORTH_SPLICING;
                            }
                            self.splice.rest();
                            return Poll::Pending;
                        }
                    }
                }
                Phase::Finishing => {
                    self.splice.rest();
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))
                        .map_err(|source| self.to.broke(source))?;
                    self.phase = Phase::Finished;
                }
                Phase::Finished => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Hands over everything that was taken and not yet delivered.
    fn poll_drain(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.advance(written);
            self.moved += written as u64;
        }
        self.pending = BytesMut::new();
        ready!(
            self.splice
                .poll_drain(cx, to.socket(), |delivered| self.moved += delivered as u64)
        )?;
        // A TLS session may hold records that the socket had no room for.
        Pin::new(to).poll_flush(cx)
    }

    /// Takes what the sender has. Returns how much, 0 at its end.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<Result<usize, TunnelError>> {
        if self.may_splice && self.bulk {
            return self
                .splice
                .poll_fill(cx, from.socket())
                .map_err(|source| self.from.broke(source));
        }
        COPY.with_borrow_mut(|scratch| self.poll_copy(cx, from, to, scratch))
    }

    /// Takes what the sender has, delivers what the receiver has room for, and keeps the rest.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
        scratch: &mut Box<[u8]>,
    ) -> Poll<Result<usize, TunnelError>> {
        if scratch.is_empty() {
            *scratch = vec![0; SCRATCH].into_boxed_slice();
        }
        let mut read = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut read))
            .map_err(|source| self.from.broke(source))?;
        let mut rest = read.filled();
        let taken = rest.len();
        while !rest.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready(Err(self.to.broke(io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Ok(written)) => {
                    self.moved += written as u64;
                    rest = &rest[written..];
                }
                Poll::Ready(Err(source)) => return Poll::Ready(Err(self.to.broke(source))),
                Poll::Pending => {
                    self.pending.extend_from_slice(rest);
                    break;
                }
            }
        }
        Poll::Ready(Ok(taken))
    }
}

impl Side {
    fn broke(self, source: io::Error) -> TunnelError {
        TunnelError::Broken { side: self, source }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

#[cfg(test)]
mod tests;
