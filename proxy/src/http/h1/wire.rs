//! A socket with what was read and not yet used, and what was made and not yet written.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use super::{buffers, outgoing::Outgoing};
use crate::net::stream::Stream;

/// The most that is read at once, for bodies that keep filling their buffer.
const LARGE_READ: usize = 64 * 1024;

/// One connection's bytes, in both directions.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    /// Read and not yet used.
    pub(super) incoming: BytesMut,
    /// Made and not yet written.
    pub(super) outgoing: Outgoing,
    read_size: usize,
    ended: bool,
    written: u64,
    /// Under TLS, what was written may still wait for room in the socket.
    unflushed: bool,
}

impl Wire {
    pub(super) fn new(mut stream: Stream) -> Self {
        Self {
            incoming: stream.take_peeked(),
            outgoing: Outgoing::default(),
            read_size: buffers::SIZE,
            ended: false,
            written: 0,
            unflushed: false,
            stream,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    pub(super) fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The stream, which reads again what was read and not used.
    pub(super) fn into_stream(mut self) -> Stream {
        if !self.incoming.is_empty() {
            self.stream.unread(self.incoming);
        }
        self.stream
    }

    /// Whether the peer has sent its last byte.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// How many bytes were ever written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Reads once. False when the peer has sent its last byte.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        if self.incoming.capacity() == 0 {
            self.incoming = buffers::take();
        }
        if self.incoming.capacity() - self.incoming.len() < self.read_size / 2 {
            // Without a copy or an allocation when what was taken out before is no longer referred to.
            self.incoming.reserve(self.read_size);
        }
        let room = self.incoming.capacity() - self.incoming.len();
        let stream = Pin::new(&mut self.stream);
        let read = ready!(tokio_util::io::poll_read_buf(
            stream,
            cx,
            &mut self.incoming
        ))?;
        if read == room {
            self.read_size = (self.read_size * 2).min(LARGE_READ);
        }
        self.ended = read == 0;
        Poll::Ready(Ok(!self.ended))
    }

    /// Writes all that waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let slices = self.outgoing.slices();
            let stream = Pin::new(&mut self.stream);
            // Most messages are one piece, and a plain write is cheaper than a gathering one.
            let written = if self.outgoing.len() == slices[0].len() {
                ready!(stream.poll_write(cx, &slices[0]))?
            } else {
                ready!(stream.poll_write_vectored(cx, &slices))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
            self.written += written as u64;
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the peer that nothing more comes.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Lets go of memory that holds nothing: the connection may rest for long.
    pub(super) fn release(&mut self) {
        if self.incoming.is_empty() {
            let buffer = std::mem::take(&mut self.incoming);
            if self.read_size == buffers::SIZE {
                buffers::give(buffer);
            }
            self.read_size = buffers::SIZE;
        }
        self.outgoing.release();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_wire_at_rest_holds_no_memory() {
        let (near, mut far) = Stream::pair().await;
        let mut wire = Wire::new(near);
        far.write_all(b"hello").await.expect("a connection");
        poll_fn(|cx| wire.poll_fill(cx)).await.expect("bytes");
        wire.outgoing.text().extend_from_slice(b"hello");
        poll_fn(|cx| wire.poll_flush(cx)).await.expect("written");

        wire.release();
        assert_eq!(wire.incoming, "hello", "what is unread is kept");
        wire.incoming.clear();
        wire.release();
        assert_eq!(wire.incoming.capacity(), 0);
        assert_eq!(wire.outgoing.text().capacity(), buffers::SIZE, "lent again");
    }
}
