//! An established TLS 1.3 connection as pure state: keys, close_notify, and the messages that come after the handshake.
//!
//! Does no IO and holds no data. The handshake, its secrets and those of later keys are rustls' ("kernel" API,
//! which it offers for whoever protects records elsewhere); the records are protected in [`super::record`].

use rustls::{
    AlertDescription, ContentType, Error, HandshakeType, InvalidMessage, PeerMisbehaved,
    ProtocolVersion, SupportedCipherSuite,
    client::{ClientConnectionData, UnbufferedClientConnection},
    kernel::KernelConnection,
    pki_types::CertificateDer,
    server::{ServerConnectionData, UnbufferedServerConnection},
};

use super::record::{Input, Opened, Opener, Sealer};
use crate::net::stream::TlsInfo;

/// A message of TLS itself, sealed: no longer than this.
pub(super) const MESSAGE: usize = 64;

/// Key updates, and empty records, in a row that a peer may make us process (as many as rustls allows).
const FRUITLESS: u8 = 32;

/// The longest message after the handshake, which may be cut into many records (as rustls limits it).
const MAX_HANDSHAKE_MESSAGE: usize = 0xffff;

const UPDATE_NOT_REQUESTED: u8 = 0;
const UPDATE_REQUESTED: u8 = 1;

/// Both directions of a connection after its handshake.
pub(super) struct Session {
    secrets: Secrets,
    opener: Opener,
    sealer: Sealer,
    /// The beginning of a handshake message whose end is in a later record.
    fragment: Vec<u8>,
    /// Records since the last data that brought none.
    fruitless: u8,
    /// Whether the peer asked for new keys and has not been answered.
    pub(super) owes_key_update: bool,
    agreed: Agreed,
}

/// What the handshake ended with.
pub(super) struct Agreed {
    pub(super) info: TlsInfo,
    pub(super) alpn: Option<Box<[u8]>>,
    pub(super) peer_certificates: Option<Box<[CertificateDer<'static>]>>,
}

/// What a record brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// Data, never empty.
    Data(&'a [u8]),
    /// Something for the session itself, which has dealt with it.
    Nothing,
    /// The peer has finished sending. Whatever follows is to be ignored (RFC 8446 section 6.1).
    CloseNotify,
}

/// Where the keys that follow the present ones come from.
enum Secrets {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl Session {
    /// Takes over from rustls once we, the client, have completed a handshake and sent everything of it.
    pub(super) fn client(connection: UnbufferedClientConnection) -> Result<Self, Error> {
        let agreed = Agreed::by(&connection)?;
        let (keys, kernel) = connection.dangerous_into_kernel_connection()?;
        Self::new(agreed, keys, Secrets::Client(kernel))
    }

    /// Takes over from rustls once we, the server, have completed a handshake and sent everything of it.
    pub(super) fn server(connection: UnbufferedServerConnection) -> Result<Self, Error> {
        let agreed = Agreed::by(&connection)?;
        let (keys, kernel) = connection.dangerous_into_kernel_connection()?;
        Self::new(agreed, keys, Secrets::Server(kernel))
    }

    fn new(
        agreed: Agreed,
        keys: rustls::ExtractedSecrets,
        secrets: Secrets,
    ) -> Result<Self, Error> {
        let limit = secrets.confidentiality_limit();
        Ok(Self {
            opener: Opener::new(keys.rx.0, keys.rx.1)?,
            sealer: Sealer::new(keys.tx.0, keys.tx.1, limit)?,
            secrets,
            fragment: Vec::new(),
            fruitless: 0,
            owes_key_update: false,
            agreed,
        })
    }

    pub(super) fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    pub(super) fn forget_peer_certificates(&mut self) {
        self.agreed.peer_certificates = None;
    }

    /// Takes in the first record of `bytes`, and says how long it was; `None` as long as it is not complete.
    ///
    /// After an error the peer is owed the alert of [`alert`], and nothing more may be taken in.
    pub(super) fn receive<'a>(
        &mut self,
        bytes: &'a mut [u8],
    ) -> Result<Option<(usize, Received<'a>)>, Error> {
        let Some(Opened {
            content,
            plaintext,
            taken,
        }) = self.opener.open(bytes)?
        else {
            return Ok(None);
        };
        if !self.fragment.is_empty() && content != ContentType::Handshake {
            return Err(PeerMisbehaved::MessageInterleavedWithHandshakeMessage.into());
        }
        let received = match content {
            ContentType::ApplicationData if plaintext.is_empty() => {
                self.tolerate(PeerMisbehaved::TooManyEmptyFragments)?;
                Received::Nothing
            }
            ContentType::ApplicationData => {
                self.fruitless = 0;
                Received::Data(plaintext)
            }
            ContentType::Handshake => {
                self.receive_handshake(plaintext)?;
                Received::Nothing
            }
            ContentType::Alert => self.receive_alert(plaintext)?,
            got_type => {
                return Err(Error::InappropriateMessage {
                    expect_types: vec![ContentType::ApplicationData, ContentType::Handshake],
                    got_type,
                });
            }
        };
        Ok(Some((taken, received)))
    }

    /// Writes one record of data to the start of `out`, and a change of keys before it when one is due.
    ///
    /// `out` must have room for [`MESSAGE`] and a byte of data with its overhead.
    pub(super) fn seal_data(
        &mut self,
        input: &mut Input<'_>,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let updated = self.seal_owed(out)?;
        Ok(updated + self.sealer.seal_data(input, &mut out[updated..])?)
    }

    /// Writes the change of keys that is due, if any, to the start of `out`.
    ///
    /// It is due when the peer asked for it, or our key has protected all the records it may (RFC 8446
    /// sections 4.6.3 and 5.5).
    pub(super) fn seal_owed(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        if !self.owes_key_update && !self.sealer.is_spent() {
            return Ok(0);
        }
        let message = [
            u8::from(HandshakeType::KeyUpdate),
            0,
            0,
            1,
            UPDATE_NOT_REQUESTED,
        ];
        let written = self.sealer.seal(ContentType::Handshake, &message, out)?;
        let limit = self.secrets.confidentiality_limit();
        let (first, secrets) = self.secrets.update_tx()?;
        self.sealer = Sealer::new(first, secrets, limit)?;
        self.owes_key_update = false;
        Ok(written)
    }

    /// Writes an alert to the start of `out`: close_notify, or why the connection ends.
    pub(super) fn seal_alert(
        &mut self,
        description: AlertDescription,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        // The level has no meaning in TLS 1.3, but close_notify is a warning and all else is fatal (section 6).
        let level = if description == AlertDescription::CloseNotify {
            1
        } else {
            2
        };
        self.sealer
            .seal(ContentType::Alert, &[level, description.into()], out)
    }

    fn receive_alert(&mut self, alert: &[u8]) -> Result<Received<'static>, Error> {
        let &[_, description] = alert else {
            return Err(InvalidMessage::MessageTooShort.into());
        };
        match AlertDescription::from(description) {
            AlertDescription::CloseNotify => Ok(Received::CloseNotify),
            // Says why a close_notify will follow.
            AlertDescription::UserCanceled => {
                self.tolerate(PeerMisbehaved::TooManyWarningAlertsReceived)?;
                Ok(Received::Nothing)
            }
            description => Err(Error::AlertReceived(description)),
        }
    }

    fn receive_handshake(&mut self, payload: &[u8]) -> Result<(), Error> {
        if payload.is_empty() {
            return Err(InvalidMessage::InvalidEmptyPayload.into());
        }
        if self.fragment.is_empty() {
            let read = self.receive_messages(payload)?;
            self.fragment = payload[read..].to_vec();
        } else {
            let mut messages = std::mem::take(&mut self.fragment);
            messages.extend_from_slice(payload);
            let read = self.receive_messages(&messages)?;
            messages.drain(..read);
            if !messages.is_empty() {
                self.fragment = messages;
            }
        }
        Ok(())
    }

    /// Deals with the messages that are complete, and returns how long they were.
    fn receive_messages(&mut self, payload: &[u8]) -> Result<usize, Error> {
        let mut rest = payload;
        while let [kind, high, middle, low, after @ ..] = rest {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > MAX_HANDSHAKE_MESSAGE {
                return Err(InvalidMessage::HandshakePayloadTooLarge.into());
            }
            let Some((message, after)) = after.split_at_checked(length) else {
                break;
            };
            match (HandshakeType::from(*kind), &mut self.secrets) {
                (HandshakeType::KeyUpdate, _) => self.receive_key_update(message, after)?,
                (HandshakeType::NewSessionTicket, Secrets::Client(kernel)) => {
                    kernel.handle_new_session_ticket(message)?;
                }
                (got_type, _) => {
                    return Err(Error::InappropriateHandshakeMessage {
                        expect_types: vec![HandshakeType::KeyUpdate],
                        got_type,
                    });
                }
            }
            rest = after;
        }
        Ok(payload.len() - rest.len())
    }

    /// Everything after this message is under the next key, so nothing may come after it in the same record.
    fn receive_key_update(&mut self, message: &[u8], after: &[u8]) -> Result<(), Error> {
        if !after.is_empty() {
            return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
        }
        self.tolerate(PeerMisbehaved::TooManyKeyUpdateRequests)?;
        match message {
            [UPDATE_NOT_REQUESTED] => {}
            // However often it asks before we send again, one answer is enough.
            [UPDATE_REQUESTED] => self.owes_key_update = true,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
        }
        let (first, secrets) = self.secrets.update_rx()?;
        self.opener = Opener::new(first, secrets)?;
        Ok(())
    }

    /// Counts what costs us work and brings no data.
    fn tolerate(&mut self, excess: PeerMisbehaved) -> Result<(), Error> {
        if self.fruitless == FRUITLESS {
            return Err(excess.into());
        }
        self.fruitless += 1;
        Ok(())
    }
}

impl Agreed {
    fn by(connection: &rustls::CommonState) -> Result<Self, Error> {
        let (Some(ProtocolVersion::TLSv1_3), Some(suite), Some(group)) = (
            connection.protocol_version(),
            connection.negotiated_cipher_suite(),
            connection.negotiated_key_exchange_group(),
        ) else {
            return Err(Error::General("the peer speaks no TLS 1.3".into()));
        };
        Ok(Self {
            info: TlsInfo {
                version: "TLSv1_3",
                cipher_suite: suite.suite().as_str().unwrap_or("unknown"),
                key_exchange: group.name().as_str().unwrap_or("unknown"),
            },
            alpn: connection.alpn_protocol().map(Box::from),
            peer_certificates: connection.peer_certificates().map(Box::from),
        })
    }
}

impl Secrets {
    fn update_tx(&mut self) -> Result<(u64, rustls::ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(kernel) => kernel.update_tx_secret(),
            Self::Server(kernel) => kernel.update_tx_secret(),
        }
    }

    fn update_rx(&mut self) -> Result<(u64, rustls::ConnectionTrafficSecrets), Error> {
        match self {
            Self::Client(kernel) => kernel.update_rx_secret(),
            Self::Server(kernel) => kernel.update_rx_secret(),
        }
    }

    fn confidentiality_limit(&self) -> u64 {
        let suite = match self {
            Self::Client(kernel) => kernel.negotiated_cipher_suite(),
            Self::Server(kernel) => kernel.negotiated_cipher_suite(),
        };
        match suite {
            SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
        }
    }
}

/// What a peer that caused this error is told (RFC 8446 section 6.2); nothing when it ended the connection.
pub(super) fn alert(error: &Error) -> Option<AlertDescription> {
    match error {
        Error::AlertReceived(_) => None,
        Error::DecryptError => Some(AlertDescription::BadRecordMac),
        Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
        Error::InvalidMessage(_) => Some(AlertDescription::DecodeError),
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => Some(AlertDescription::UnexpectedMessage),
        _ => Some(AlertDescription::InternalError),
    }
}
