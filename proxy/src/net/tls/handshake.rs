//! The handshake: rustls decides what is said, this carries it, until a [`Session`] takes over.

use std::{io, sync::Arc};

use bytes::{Buf, BytesMut};
use rustls::{
    ClientConfig, Error, ServerConfig,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::ServerName,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{record, session::Session};

/// Room made for what the peer says: a hello, or a flight with a short certificate chain.
const FLIGHT: usize = 4096;

/// Completes a handshake as the client, and returns what was received beyond it too.
pub(super) async fn connect(
    tcp: &mut TcpStream,
    received: BytesMut,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
) -> io::Result<(Session, BytesMut)> {
    may_extract(config.enable_secret_extraction)?;
    let connection = UnbufferedClientConnection::new(config, server_name).map_err(invalid)?;
    complete(connection, tcp, received).await
}

/// Completes a handshake as the server, and returns what was received beyond it too.
pub(super) async fn accept(
    tcp: &mut TcpStream,
    received: BytesMut,
    config: Arc<ServerConfig>,
) -> io::Result<(Session, BytesMut)> {
    may_extract(config.enable_secret_extraction)?;
    let connection = UnbufferedServerConnection::new(config).map_err(invalid)?;
    complete(connection, tcp, received).await
}

/// What the two sides of a handshake have in common.
trait Side: Sized {
    type Data;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn has_more_to_say(&self) -> bool;

    fn established(self) -> Result<Session, Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_more_to_say(&self) -> bool {
        self.wants_write()
    }

    fn established(self) -> Result<Session, Error> {
        Session::client(self)
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, bytes: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(bytes)
    }

    fn has_more_to_say(&self) -> bool {
        self.wants_write()
    }

    fn established(self) -> Result<Session, Error> {
        Session::server(self)
    }
}

/// What rustls wants next.
enum Step {
    Send,
    Receive,
    Done,
}

async fn complete<S: Side>(
    mut connection: S,
    tcp: &mut TcpStream,
    received: BytesMut,
) -> io::Result<(Session, BytesMut)> {
    let mut incoming = Incoming::new(received);
    let mut outgoing = Vec::new();
    loop {
        match step(&mut connection, &mut incoming, &mut outgoing) {
            Ok(Step::Send) => {
                tcp.write_all(&outgoing).await?;
                outgoing.clear();
            }
            Ok(Step::Receive) => {
                if !incoming.offer_next() {
                    receive(tcp, &mut incoming.bytes).await?;
                }
            }
            Ok(Step::Done) => {
                let session = connection.established().map_err(invalid)?;
                return Ok((session, incoming.bytes));
            }
            Err(error) => {
                last_words(&mut connection, &mut outgoing);
                // Only what the socket takes at once: the error is what matters, and the peer may be gone.
                let _ = tcp.try_write(&outgoing);
                return Err(invalid(error));
            }
        }
    }
}

/// Lets rustls take in what is offered to it, and collects what it has to say.
fn step<S: Side>(
    connection: &mut S,
    incoming: &mut Incoming,
    outgoing: &mut Vec<u8>,
) -> Result<Step, Error> {
    loop {
        let UnbufferedStatus { discard, state } = connection.process(incoming.offered());
        let step = match state? {
            ConnectionState::EncodeTlsData(message) => {
                encode(message, outgoing)?;
                None
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                Some(Step::Send)
            }
            ConnectionState::BlockedHandshake => Some(Step::Receive),
            ConnectionState::WriteTraffic(_) => Some(Step::Done),
            ConnectionState::PeerClosed | ConnectionState::Closed => {
                return Err(Error::HandshakeNotComplete);
            }
            state => return Err(Error::General(format!("{state:?} during a handshake"))),
        };
        incoming.discard(discard);
        if let Some(step) = step {
            return Ok(step);
        }
    }
}

/// The alert that tells the peer why the handshake failed. Nothing that was received is looked at any more.
fn last_words<S: Side>(connection: &mut S, outgoing: &mut Vec<u8>) {
    while connection.has_more_to_say()
        && let Ok(ConnectionState::EncodeTlsData(message)) = connection.process(&mut []).state
        && encode(message, outgoing).is_ok()
    {}
}

fn encode<Data>(mut message: EncodeTlsData<'_, Data>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let written = outgoing.len();
    let mut encoded = message.encode(&mut []);
    if let Err(EncodeError::InsufficientSize(error)) = &encoded {
        outgoing.resize(written + error.required_size, 0);
        encoded = message.encode(&mut outgoing[written..]);
    }
    match encoded {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::General(error.to_string())),
    }
}

/// What has been received, of which rustls is offered one record at a time.
///
/// It would otherwise go on to decrypt the data that may come right behind the handshake, into memory of its own.
struct Incoming {
    bytes: BytesMut,
    /// Where the record ends that is offered last; it may not be complete.
    end: usize,
}

impl Incoming {
    fn new(bytes: BytesMut) -> Self {
        Self { bytes, end: 0 }
    }

    fn offered(&mut self) -> &mut [u8] {
        let end = self.end.min(self.bytes.len());
        &mut self.bytes[..end]
    }

    /// Offers the next record once the last is complete. False when more must be received first.
    fn offer_next(&mut self) -> bool {
        let Some(length) = self.bytes.get(self.end..).and_then(record::length) else {
            return false;
        };
        self.end += length;
        true
    }

    fn discard(&mut self, taken: usize) {
        self.bytes.advance(taken);
        self.end -= taken;
    }
}

async fn receive(tcp: &mut TcpStream, bytes: &mut BytesMut) -> io::Result<()> {
    bytes.reserve(FLIGHT);
    if tcp.read_buf(bytes).await? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the peer closed the connection during the TLS handshake",
        ));
    }
    Ok(())
}

/// The keys of the records come out of rustls by the configuration's leave.
fn may_extract(enabled: bool) -> io::Result<()> {
    if enabled {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "enable_secret_extraction is off in the TLS configuration: the transport needs the traffic keys",
    ))
}

pub(super) fn invalid(error: Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
