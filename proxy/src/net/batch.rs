//! The writes of one poll, sent as one.
//!
//! An HTTP/2 connection writes and flushes frame by frame: with many streams that is a system call, and under
//! TLS a record, for each answer. [`Batched`] keeps small writes until whoever drives the connection has
//! polled it once, and calls [`Batch::poll_send`].

use bytes::{Buf, BytesMut};
use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is kept at most. A connection whose peer takes nothing is held back by it.
const MOST_KEPT: usize = 32 * 1024;

/// From this size on a copy costs more than a write of its own.
const LARGE: usize = 8 * 1024;

/// A stream whose small writes and flushes wait for [`Batch::poll_send`]. Shutting it down sends them too.
#[derive(Debug)]
pub(crate) struct Batched<S> {
    shared: Rc<RefCell<Shared<S>>>,
}

/// Sends what a [`Batched`] stream has kept.
#[derive(Debug)]
pub(crate) struct Batch<S> {
    shared: Rc<RefCell<Shared<S>>>,
}

#[derive(Debug)]
struct Shared<S> {
    stream: S,
    kept: BytesMut,
    unflushed: bool,
}

/// Splits a stream into what a connection writes to and what sends it.
pub(crate) fn batched<S: AsyncWrite + Unpin>(stream: S) -> (Batched<S>, Batch<S>) {
    let shared = Rc::new(RefCell::new(Shared {
        stream,
        kept: BytesMut::new(),
        unflushed: false,
    }));
    let batch = Batch {
        shared: shared.clone(),
    };
    (Batched { shared }, batch)
}

impl<S: AsyncWrite + Unpin> Batch<S> {
    /// Polls the connection that writes to the stream to its end, and sends what it wrote after each poll.
    pub(crate) async fn drive<F: Future>(&self, mut connection: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            self.poll_send(cx);
            polled
        })
        .await
    }

    /// Sends as much as the stream takes. To be called after every poll of the connection, with the same
    /// context: where the stream takes no more, that task is woken when it does. An error shows again at the
    /// connection's next write or read.
    pub(crate) fn poll_send(&self, cx: &mut Context<'_>) {
        let _ = self.shared.borrow_mut().poll_flush(cx);
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    fn poll_send_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.kept.advance(written);
        }
        // A connection at rest holds no memory.
        self.kept = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_kept(cx))?;
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        self.unflushed = true;
        if self.kept.len() + length > MOST_KEPT || length >= LARGE {
            ready!(self.poll_send_kept(cx))?;
        }
        if length >= LARGE {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        for buf in bufs {
            self.kept.extend_from_slice(buf);
        }
        Poll::Ready(Ok(length))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Batched<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.shared.borrow_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Batched<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bufs = [IoSlice::new(buf)];
        self.shared.borrow_mut().poll_write(cx, &bufs)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.borrow_mut().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Done by [`Batch::poll_send`].
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.shared.borrow_mut();
        ready!(shared.poll_flush(cx))?;
        Pin::new(&mut shared.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// What has arrived at the other end so far.
    async fn arrived(peer: &mut (impl AsyncRead + Unpin), most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let read = peer.read(&mut bytes).await.unwrap();
        bytes.truncate(read);
        bytes
    }

    async fn send<S: AsyncWrite + Unpin>(batch: &Batch<S>) {
        poll_fn(|cx| {
            batch.poll_send(cx);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn small_writes_and_flushes_leave_as_one() {
        let (near, mut peer) = duplex(1024);
        let (mut stream, batch) = batched(near);
        for frame in ["head", "body", "tail"] {
            stream.write_all(frame.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        send(&batch).await;
        assert_eq!(arrived(&mut peer, 100).await, b"headbodytail");
        assert_eq!(batch.shared.borrow().kept.capacity(), 0);
    }

    #[tokio::test]
    async fn large_writes_follow_what_was_kept() {
        let (near, mut peer) = duplex(LARGE * 2);
        let (mut stream, _batch) = batched(near);
        stream.write_all(b"head").await.unwrap();
        stream.write_all(&[b'x'; LARGE]).await.unwrap();
        let mut bytes = vec![0; 4 + LARGE];
        peer.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes[..5], b"headx");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_holds_the_writer_back() {
        let (near, mut peer) = duplex(1024);
        let (mut stream, batch) = batched(near);
        let mut written = 0;
        let full = poll_fn(|cx| {
            while let Poll::Ready(taken) = Pin::new(&mut stream).poll_write(cx, &[b'x'; 1000]) {
                written += taken.unwrap();
            }
            Poll::Ready(())
        });
        full.await;
        assert!(written <= MOST_KEPT + 1024, "{written} bytes were taken");

        let (mut received, mut sink) = (0, [0; 4096]);
        while received < written {
            send(&batch).await;
            received += peer.read(&mut sink).await.unwrap();
        }
        assert_eq!(received, written);
    }

    #[tokio::test]
    async fn shutting_down_sends_what_was_kept() {
        let (near, mut peer) = duplex(64);
        let (mut stream, _batch) = batched(near);
        stream.write_all(b"goodbye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"goodbye");
    }
}
