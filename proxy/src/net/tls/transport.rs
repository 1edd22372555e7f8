//! TLS over a socket: what an established [`Session`] receives and sends, and what must wait in between.
//!
//! Bytes on their way live in a buffer that a thread's connections share. A connection owns memory only for what
//! is left over: part of a record, data that its reader had no room for, or records that the socket did not take.

use std::{
    cell::RefCell,
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use rustix::net::RecvFlags;
use rustls::{AlertDescription, Error, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    handshake::invalid,
    record::{self, Input, MAX_PLAINTEXT, MAX_RECORD, OVERHEAD},
    session::{self, Agreed, MESSAGE, Received, Session},
};
use crate::net::stream::{Idle, TlsInfo, recv_now, replay};

/// How many full records are received, or sent, at once.
const RECORDS: usize = 4;

/// Room for as much, after a record that was received in part; or with a change of keys among what is sent.
const SHARED_SIZE: usize = (RECORDS + 1) * MAX_RECORD;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::default();
}

/// A TLS connection after its handshake.
pub(in crate::net) struct Tls {
    tcp: TcpStream,
    session: Session,
    /// Received, not decrypted: part of a record, or more than the reader had room for.
    ciphertext: BytesMut,
    /// Decrypted, not read.
    plaintext: BytesMut,
    /// Encrypted, not sent. No data is taken while there is any.
    unsent: BytesMut,
    receiving: Receiving,
    sent_close_notify: bool,
}

/// Whether more can be received.
#[derive(Debug)]
enum Receiving {
    Open,
    /// The peer has sent close_notify.
    Closed,
    Failed(Error),
}

/// Whether the peer has finished sending.
enum End {
    NotYet,
    Reached,
}

impl Tls {
    /// `ciphertext` is what was received behind the handshake.
    pub(super) fn new(tcp: TcpStream, session: Session, mut ciphertext: BytesMut) -> Self {
        free_if_empty(&mut ciphertext);
        Self {
            tcp,
            session,
            ciphertext,
            plaintext: BytesMut::new(),
            unsent: BytesMut::new(),
            receiving: Receiving::Open,
            sent_close_notify: false,
        }
    }

    pub(in crate::net) fn socket(&self) -> &TcpStream {
        &self.tcp
    }

    pub(in crate::net) fn info(&self) -> &TlsInfo {
        &self.agreed().info
    }

    pub(in crate::net) fn alpn(&self) -> Option<&[u8]> {
        self.agreed().alpn.as_deref()
    }

    pub(in crate::net) fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.agreed().peer_certificates.as_deref()
    }

    pub(in crate::net) fn forget_peer_certificates(&mut self) {
        self.session.forget_peer_certificates();
    }

    fn agreed(&self) -> &Agreed {
        self.session.agreed()
    }

    /// See [`crate::net::stream::Stream::idle`].
    pub(in crate::net) fn idle(&mut self) -> Idle {
        let mut nowhere = ReadBuf::new(&mut []);
        while self.plaintext.is_empty() {
            match self.receive(&mut nowhere, read_now) {
                Poll::Ready(Ok(End::NotYet)) => {}
                Poll::Ready(Ok(End::Reached) | Err(_)) => return Idle::Closed,
                Poll::Pending => return Idle::Quiet,
            }
        }
        Idle::Readable
    }

    /// Takes in the records that are there already, or what `read` gets from the socket.
    ///
    /// That need not bring data: whoever calls it looks, and calls again.
    fn receive(
        &mut self,
        buf: &mut ReadBuf<'_>,
        read: impl FnOnce(&mut TcpStream, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<End>> {
        match &self.receiving {
            Receiving::Open => {}
            Receiving::Closed => return Poll::Ready(Ok(End::Reached)),
            Receiving::Failed(error) => return Poll::Ready(Err(invalid(error.clone()))),
        }
        let begun = self.ciphertext.len();
        if record::is_decided(&self.ciphertext) {
            let mut backlog = std::mem::take(&mut self.ciphertext);
            let taken = self.take_in(&mut backlog, buf);
            backlog.advance(taken);
            free_if_empty(&mut backlog);
            self.ciphertext = backlog;
        } else {
            ready!(with_shared(|shared| {
                shared[..begun].copy_from_slice(&self.ciphertext);
                // Not much more than the reader has room for: the rest would have to be kept.
                let records = buf.remaining().div_ceil(MAX_PLAINTEXT).clamp(1, RECORDS);
                let room = records * (MAX_PLAINTEXT + OVERHEAD);
                let mut room = ReadBuf::new(&mut shared[begun..][..room]);
                ready!(read(&mut self.tcp, &mut room))?;
                let received = match room.filled().len() {
                    0 => return Poll::Ready(Err(truncated())),
                    fresh => &mut shared[..begun + fresh],
                };
                let taken = self.take_in(received, buf);
                self.ciphertext = BytesMut::from(&received[taken..]);
                Poll::Ready(Ok(()))
            }))?;
        }
        self.answer();
        Poll::Ready(Ok(End::NotYet))
    }

    /// Decrypts whole records until the reader's buffer is full, and returns how long they were.
    fn take_in(&mut self, bytes: &mut [u8], buf: &mut ReadBuf<'_>) -> usize {
        let mut taken = 0;
        loop {
            match self.session.receive(&mut bytes[taken..]) {
                Ok(Some((length, Received::Data(data)))) => {
                    taken += length;
                    let (fits, rest) = data.split_at(data.len().min(buf.remaining()));
                    buf.put_slice(fits);
                    if !rest.is_empty() {
                        self.plaintext = BytesMut::from(rest);
                    }
                    if buf.remaining() == 0 {
                        return taken;
                    }
                }
                Ok(Some((length, Received::Nothing))) => taken += length,
                Ok(Some((_, Received::CloseNotify))) => {
                    self.receiving = Receiving::Closed;
                    return bytes.len();
                }
                Ok(None) => return taken,
                Err(error) => {
                    self.fail(error);
                    return bytes.len();
                }
            }
        }
    }

    /// Tells the peer why nothing more is taken from it. What was decrypted before may still be read.
    fn fail(&mut self, error: Error) {
        if let Some(description) = session::alert(&error)
            && !self.sent_close_notify
        {
            let mut sealed = [0; MESSAGE];
            if let Ok(length) = self.session.seal_alert(description, &mut sealed) {
                self.send_now(&sealed[..length]);
            }
        }
        self.receiving = Receiving::Failed(error);
    }

    /// Sends the change of keys that the peer has asked for, unless data waits to be sent: then it goes after it.
    fn answer(&mut self) {
        if self.unsent.is_empty()
            && !self.sent_close_notify
            && matches!(self.receiving, Receiving::Open)
        {
            let mut sealed = [0; MESSAGE];
            match self.session.seal_owed(&mut sealed) {
                Ok(length) => self.send_now(&sealed[..length]),
                Err(error) => self.fail(error),
            }
        }
    }

    /// Sends what the socket takes at once. If it is broken, the next read or write will tell.
    fn send_now(&mut self, sealed: &[u8]) {
        let sent = match self.unsent.is_empty() && !sealed.is_empty() {
            true => self.tcp.try_write(sealed).unwrap_or(0),
            false => 0,
        };
        self.unsent.extend_from_slice(&sealed[sent..]);
    }

    /// Sends what the socket did not take before.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let sent = ready!(Pin::new(&mut self.tcp).poll_write(cx, &self.unsent))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.advance(sent);
        }
        free_if_empty(&mut self.unsent);
        Poll::Ready(Ok(()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drain(cx))?;
        if self.sent_close_notify {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if let Receiving::Failed(error) = &self.receiving {
            return Poll::Ready(Err(invalid(error.clone())));
        }
        let mut input = Input::new(bufs);
        with_shared(|shared| {
            let mut sealed = 0;
            for _ in 0..RECORDS {
                if input.is_empty() {
                    break;
                }
                sealed += self
                    .session
                    .seal_data(&mut input, &mut shared[sealed..])
                    .map_err(invalid)?;
            }
            let sealed = &shared[..sealed];
            let sent = match Pin::new(&mut self.tcp).poll_write(cx, sealed) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => 0,
            };
            self.unsent = BytesMut::from(&sealed[sent..]);
            Poll::Ready(Ok(input.taken()))
        })
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tls = self.get_mut();
        let before = buf.filled().len();
        while buf.remaining() > 0 && buf.filled().len() == before {
            if replay(&mut tls.plaintext, buf) {
                break;
            }
            let end = ready!(tls.receive(buf, |tcp, room| Pin::new(tcp).poll_read(cx, room)))?;
            if matches!(end, End::Reached) {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_send(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tls = self.get_mut();
        ready!(tls.poll_drain(cx))?;
        tls.answer();
        tls.poll_drain(cx)
    }

    /// Sends close_notify, unless an alert has said more already, and then FIN.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let tls = self.get_mut();
        if !tls.sent_close_notify {
            if !matches!(tls.receiving, Receiving::Failed(_)) {
                let mut sealed = [0; MESSAGE];
                let length = tls
                    .session
                    .seal_alert(AlertDescription::CloseNotify, &mut sealed)
                    .map_err(invalid)?;
                tls.unsent.extend_from_slice(&sealed[..length]);
            }
            tls.sent_close_notify = true;
        }
        ready!(tls.poll_drain(cx))?;
        Pin::new(&mut tls.tcp).poll_shutdown(cx)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("tcp", &self.tcp)
            .field("agreed", self.info())
            .field("receiving", &self.receiving)
            .finish_non_exhaustive()
    }
}

/// What the kernel has, past the runtime's readiness.
fn read_now(tcp: &mut TcpStream, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    match recv_now(tcp, room.initialize_unfilled(), RecvFlags::empty()) {
        Ok(received) => {
            room.advance(received);
            Poll::Ready(Ok(()))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

fn with_shared<T>(f: impl FnOnce(&mut [u8]) -> T) -> T {
    SHARED.with_borrow_mut(|shared| {
        if shared.is_empty() {
            *shared = vec![0; SHARED_SIZE].into_boxed_slice();
        }
        f(shared)
    })
}

fn free_if_empty(bytes: &mut BytesMut) {
    if bytes.is_empty() {
        *bytes = BytesMut::new();
    }
}

/// FIN alone may come from anybody on the way (RFC 8446 section 6.1).
fn truncated() -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the peer closed the connection without close_notify",
    )
}

#[cfg(test)]
mod tests;
