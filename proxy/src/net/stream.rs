//! The one stream type of the data path: plaintext or TLS over TCP, with bytes that can be read again.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use rustix::net::RecvFlags;
use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use weft_xds_proto::spiffe::SpiffeId;

use super::tls::Tls;

/// Room made for a first look at a connection: the head of most requests, and a post-quantum ClientHello.
const PEEK_CAPACITY: usize = 4096;

/// A TCP connection, in plaintext or under TLS.
///
/// Reading starts with the *prefix*: what [`Stream::peek`] looked at or [`Stream::unread`] gave back.
/// `poll_shutdown` sends FIN, under TLS after close_notify; reading goes on until the peer does the same.
#[derive(Debug)]
pub struct Stream {
    transport: Transport,
    prefix: BytesMut,
    peer_identity: Option<SpiffeId>,
}

/// A TLS session takes more than a kilobyte, hence the box: a plaintext stream stays small.
#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Tls(Box<Tls>),
}

/// What a stream that nobody reads at the moment holds: see [`Stream::idle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// The peer is there and has sent nothing.
    Quiet,
    /// The peer has sent bytes that wait to be read.
    Readable,
    /// The peer has sent FIN or close_notify, or the connection is broken.
    Closed,
}

/// What a TLS handshake agreed on, for people to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1_3`.
    pub version: &'static str,
    /// `TLS13_AES_128_GCM_SHA256`.
    pub cipher_suite: &'static str,
    /// `X25519MLKEM768`.
    pub key_exchange: &'static str,
}

impl Stream {
    /// A plaintext connection.
    pub fn tcp(tcp: TcpStream) -> Self {
        Self::over(Transport::Tcp(tcp))
    }

    /// A connection on which a TLS handshake was completed.
    pub(super) fn tls(tls: Tls) -> Self {
        Self::over(Transport::Tls(Box::new(tls)))
    }

    fn over(transport: Transport) -> Self {
        Self {
            transport,
            prefix: BytesMut::new(),
            peer_identity: None,
        }
    }

    /// Reads until at least `at_least` bytes are at hand, and shows all that are, without consuming them.
    ///
    /// Fewer are returned only when the peer has finished sending. Dropping the future loses nothing.
    pub async fn peek(&mut self, at_least: usize) -> io::Result<&[u8]> {
        std::future::poll_fn(|cx| self.poll_peek(cx, at_least)).await?;
        Ok(&self.prefix)
    }

    /// [`Stream::peek`] for hand-written futures: ready once [`Stream::peeked`] has the bytes.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>, at_least: usize) -> Poll<io::Result<()>> {
        while self.prefix.len() < at_least {
            let missing = at_least - self.prefix.len();
            self.prefix.reserve(missing.max(PEEK_CAPACITY));
            let read =
                tokio_util::io::poll_read_buf(Pin::new(&mut self.transport), cx, &mut self.prefix);
            if ready!(read)? == 0 {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The bytes that were peeked at and not yet read.
    pub fn peeked(&self) -> &[u8] {
        &self.prefix
    }

    /// Takes the peeked bytes out, for a reader that has a buffer of its own. They will not be read again.
    pub fn take_peeked(&mut self) -> BytesMut {
        std::mem::take(&mut self.prefix)
    }

    /// Gives back bytes that were read too far, so that the next read starts with them.
    pub fn unread(&mut self, mut bytes: BytesMut) {
        bytes.unsplit(std::mem::take(&mut self.prefix));
        self.prefix = bytes;
    }

    /// The bare socket, when nothing stands between it and the bytes: no TLS, and nothing peeked at.
    pub fn into_plain_tcp(self) -> Result<TcpStream, Self> {
        match self.transport {
            Transport::Tcp(tcp) if self.prefix.is_empty() => Ok(tcp),
            transport => Err(Self { transport, ..self }),
        }
    }

    /// What waits on a stream that nobody reads, such as a pooled connection. Never blocks.
    ///
    /// Asks the kernel rather than the runtime, whose knowledge is as old as its last poll. Session tickets
    /// and other messages of TLS itself are taken in and do not count as bytes.
    pub fn idle(&mut self) -> Idle {
        if !self.prefix.is_empty() {
            return Idle::Readable;
        }
        match &mut self.transport {
            Transport::Tcp(tcp) => match recv_now(tcp, &mut [0], RecvFlags::PEEK) {
                Ok(0) => Idle::Closed,
                Ok(_) => Idle::Readable,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Idle::Quiet,
                Err(_) => Idle::Closed,
            },
            Transport::Tls(tls) => tls.idle(),
        }
    }

    /// The identity that the peer proved, once [`Stream::set_peer_identity`] has recorded it.
    pub fn peer_identity(&self) -> Option<&SpiffeId> {
        self.peer_identity.as_ref()
    }

    /// Records the identity that stands in the peer's verified certificate.
    pub fn set_peer_identity(&mut self, identity: SpiffeId) {
        self.peer_identity = Some(identity);
    }

    /// The certificate chain that the peer presented, leaf first.
    pub fn peer_certificates(&self) -> Option<&[CertificateDer<'static>]> {
        self.as_tls()?.peer_certificates()
    }

    /// Lets go of the certificates, once what matters of them is known: they would take up a kilobyte for as
    /// long as the connection lasts.
    pub fn forget_peer_certificates(&mut self) {
        if let Transport::Tls(tls) = &mut self.transport {
            tls.forget_peer_certificates();
        }
    }

    /// The application protocol agreed on in the TLS handshake.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.as_tls()?.alpn()
    }

    /// Whether the bytes are encrypted on the wire.
    pub fn is_tls(&self) -> bool {
        self.as_tls().is_some()
    }

    /// What the TLS handshake agreed on.
    pub fn tls_info(&self) -> Option<TlsInfo> {
        self.as_tls().map(|tls| tls.info().clone())
    }

    /// Our end of the connection. An IPv4 address never comes in IPv6 clothes.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket().local_addr().map(canonical)
    }

    /// The peer's end of the connection. An IPv4 address never comes in IPv6 clothes.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.socket().peer_addr().map(canonical)
    }

    /// Makes dropping the stream reset the connection, so that the peer cannot take a failure for an end.
    pub fn reset_on_drop(&self) -> io::Result<()> {
        self.socket().set_zero_linger()
    }

    /// The socket below, for its options. Its bytes belong to the stream.
    pub fn socket(&self) -> &TcpStream {
        match &self.transport {
            Transport::Tcp(tcp) => tcp,
            Transport::Tls(tls) => tls.socket(),
        }
    }

    /// The plaintext socket with what was peeked at, for a TLS handshake to start on.
    pub(super) fn into_parts(self) -> io::Result<(TcpStream, BytesMut)> {
        match self.transport {
            Transport::Tcp(tcp) => Ok((tcp, self.prefix)),
            Transport::Tls(_) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the stream is under TLS already",
            )),
        }
    }

    fn as_tls(&self) -> Option<&Tls> {
        match &self.transport {
            Transport::Tcp(_) => None,
            Transport::Tls(tls) => Some(tls),
        }
    }

    /// Two plaintext streams connected to each other over loopback.
    #[cfg(test)]
    pub(crate) async fn pair() -> (Self, Self) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(connecting, listener.accept());
        let (client, (server, _)) = (client.unwrap(), accepted.unwrap());
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        (Self::tcp(client), Self::tcp(server))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if replay(&mut self.prefix, buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.transport).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Transport::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Transport::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(tcp) => tcp.is_write_vectored(),
            Transport::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// The transport without the stream's prefix.
impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

/// Moves what fits out of bytes that were kept, whose memory is let go with the last. False when there were none.
pub(super) fn replay(kept: &mut BytesMut, buf: &mut ReadBuf<'_>) -> bool {
    if kept.is_empty() {
        return false;
    }
    let fits = kept.len().min(buf.remaining());
    buf.put_slice(&kept[..fits]);
    kept.advance(fits);
    if kept.is_empty() {
        *kept = BytesMut::new();
    }
    true
}

/// Receives what the kernel has, past the runtime's readiness. Never blocks.
pub(super) fn recv_now(tcp: &TcpStream, buf: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    let (received, _) = rustix::net::recv(tcp, buf, flags | RecvFlags::DONTWAIT)?;
    Ok(received)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
