//! Records of TLS 1.3 (RFC 8446 section 5): from plaintext to wire bytes and back, with the keys of one direction.

use std::io::IoSlice;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey,
};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, InvalidMessage, PeerMisbehaved,
    crypto::cipher::{self, Iv, make_tls13_aad},
};

/// What a record may carry (section 5.1).
pub(super) const MAX_PLAINTEXT: usize = 1 << 14;

/// What a record of ours is longer than its plaintext by: header, inner content type, tag.
pub(super) const OVERHEAD: usize = HEADER + 1 + TAG;

/// The longest record that a peer may send: up to 256 bytes of it need not be data (section 5.2).
pub(super) const MAX_RECORD: usize = HEADER + MAX_CIPHERTEXT;

const HEADER: usize = 5;
const MAX_CIPHERTEXT: usize = MAX_PLAINTEXT + 256;
/// The tag is 16 bytes long in every cipher suite of TLS 1.3.
const TAG: usize = 16;

/// How many bytes the first record takes, once its header says so.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, _, _, high, low, ..] => Some(HEADER + usize::from(u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// Whether [`Opener::open`] can tell how the first record is, without more bytes.
pub(super) fn is_decided(bytes: &[u8]) -> bool {
    length(bytes).is_some_and(|length| length <= bytes.len() || length > MAX_RECORD)
}

/// A record that was taken off the wire.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) content: ContentType,
    pub(super) plaintext: &'a [u8],
    /// How many bytes it took on the wire.
    pub(super) taken: usize,
}

/// Decrypts what one peer sends.
pub(super) struct Opener(Key);

impl Opener {
    pub(super) fn new(first: u64, secrets: ConnectionTrafficSecrets) -> Result<Self, Error> {
        Key::new(first, secrets).map(Self)
    }

    /// Decrypts the first record where it stands; `None` as long as it is not complete.
    ///
    /// An error ends the connection: the records after it cannot be trusted.
    pub(super) fn open<'a>(&mut self, bytes: &'a mut [u8]) -> Result<Option<Opened<'a>>, Error> {
        let Some(taken) = length(bytes) else {
            return Ok(None);
        };
        match ContentType::from(bytes[0]) {
            ContentType::ApplicationData => {}
            ContentType::Unknown(_) => return Err(InvalidMessage::InvalidContentType.into()),
            got_type => {
                return Err(Error::InappropriateMessage {
                    expect_types: vec![ContentType::ApplicationData],
                    got_type,
                });
            }
        }
        if taken > MAX_RECORD {
            return Err(Error::PeerSentOversizedRecord);
        }
        let Some(record) = bytes.get_mut(..taken) else {
            return Ok(None);
        };
        let sealed = &mut record[HEADER..];
        let aad = Aad::from(make_tls13_aad(sealed.len()));
        let nonce = self.0.next_nonce()?;
        let inner = self
            .0
            .aead
            .open_in_place(nonce, aad, sealed)
            .map_err(|_| Error::DecryptError)?;
        // The content type is the last byte that is not padding (section 5.4).
        let end = inner
            .iter()
            .rposition(|byte| *byte != 0)
            .ok_or(PeerMisbehaved::IllegalTlsInnerPlaintext)?;
        if end > MAX_PLAINTEXT {
            return Err(Error::PeerSentOversizedRecord);
        }
        Ok(Some(Opened {
            content: ContentType::from(inner[end]),
            plaintext: &inner[..end],
            taken,
        }))
    }
}

/// Encrypts what we send.
pub(super) struct Sealer {
    key: Key,
    /// How many records the key may protect (section 5.5).
    limit: u64,
}

impl Sealer {
    pub(super) fn new(
        first: u64,
        secrets: ConnectionTrafficSecrets,
        limit: u64,
    ) -> Result<Self, Error> {
        Ok(Self {
            key: Key::new(first, secrets)?,
            limit,
        })
    }

    /// Whether the next record is the last for this key, and so must be the message that changes it.
    pub(super) fn is_spent(&self) -> bool {
        self.key.sequence.saturating_add(1) >= self.limit
    }

    /// Writes one record to the start of `out`, and returns its length on the wire.
    ///
    /// `out` must have room for the plaintext, of at most [`MAX_PLAINTEXT`], and [`OVERHEAD`].
    pub(super) fn seal(
        &mut self,
        content: ContentType,
        plaintext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let Layout { header, body, end } = layout(out, plaintext.len())?;
        let aad = write_header(header, plaintext.len());
        let nonce = self.key.next_nonce()?;
        self.key
            .aead
            .seal_out_of_place_scatter(nonce, aad, plaintext, body, &[content.into()], end)
            .map_err(|_| Error::EncryptError)?;
        Ok(plaintext.len() + OVERHEAD)
    }

    /// Writes one record of data to the start of `out`: as much of the input as a record, and `out`, hold.
    pub(super) fn seal_data(
        &mut self,
        input: &mut Input<'_>,
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let room = out.len().saturating_sub(OVERHEAD).min(MAX_PLAINTEXT);
        let mut piece = input.take(room);
        if piece.len() == room || input.is_empty() {
            return self.seal(ContentType::ApplicationData, piece, out);
        }
        let mut gathered = 0;
        while !piece.is_empty() {
            out[HEADER + gathered..][..piece.len()].copy_from_slice(piece);
            gathered += piece.len();
            piece = input.take(room - gathered);
        }
        let Layout { header, body, end } = layout(out, gathered)?;
        let aad = write_header(header, gathered);
        let nonce = self.key.next_nonce()?;
        let content = [ContentType::ApplicationData.into()];
        self.key
            .aead
            .seal_in_place_scatter(nonce, aad, body, &content, end)
            .map_err(|_| Error::EncryptError)?;
        Ok(gathered + OVERHEAD)
    }
}

/// The data of one write, which may lie in several places, and how far it has been taken.
pub(super) struct Input<'a> {
    slices: &'a [IoSlice<'a>],
    /// How much of the first slice has been taken: never all of it.
    offset: usize,
    taken: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(slices: &'a [IoSlice<'a>]) -> Self {
        let mut input = Self {
            slices,
            offset: 0,
            taken: 0,
        };
        input.advance(0);
        input
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// How much has gone into records.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// What lies in one place, at most `limit` of it.
    fn take(&mut self, limit: usize) -> &'a [u8] {
        let Some(first) = self.slices.first() else {
            return &[];
        };
        let piece = &first[self.offset..];
        let piece = &piece[..piece.len().min(limit)];
        self.advance(piece.len());
        piece
    }

    /// Goes on within the first slice, and past it and empty ones at its end.
    fn advance(&mut self, taken: usize) {
        self.taken += taken;
        self.offset += taken;
        while let [first, rest @ ..] = self.slices
            && first.len() == self.offset
        {
            self.slices = rest;
            self.offset = 0;
        }
    }
}

/// A key with the number of the next record, which makes its nonce (section 5.3).
struct Key {
    aead: LessSafeKey,
    iv: Iv,
    sequence: u64,
}

impl Key {
    fn new(first: u64, secrets: ConnectionTrafficSecrets) -> Result<Self, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("cipher suite without a record layer".into())),
        };
        let key = UnboundKey::new(algorithm, key.as_ref())
            .map_err(|_| Error::General("traffic key of the wrong length".into()))?;
        Ok(Self {
            aead: LessSafeKey::new(key),
            iv,
            sequence: first,
        })
    }

    /// Never the same twice: the number goes up with every record, whether it turned out well or not.
    fn next_nonce(&mut self) -> Result<Nonce, Error> {
        let nonce = cipher::Nonce::new(&self.iv, self.sequence);
        self.sequence = self.sequence.checked_add(1).ok_or(Error::EncryptError)?;
        Ok(Nonce::assume_unique_for_key(nonce.0))
    }
}

/// Where the parts of a sealed record go.
struct Layout<'a> {
    header: &'a mut [u8],
    body: &'a mut [u8],
    /// The inner content type, and the tag.
    end: &'a mut [u8],
}

fn layout(out: &mut [u8], plaintext: usize) -> Result<Layout<'_>, Error> {
    let record = out
        .get_mut(..plaintext + OVERHEAD)
        .ok_or(Error::EncryptError)?;
    let (header, sealed) = record.split_at_mut(HEADER);
    let (body, end) = sealed.split_at_mut(plaintext);
    Ok(Layout { header, body, end })
}

/// The header of a sealed record, which is authenticated along with it.
fn write_header(header: &mut [u8], plaintext: usize) -> Aad<[u8; HEADER]> {
    let aad = make_tls13_aad(plaintext + OVERHEAD - HEADER);
    header.copy_from_slice(&aad);
    Aad::from(aad)
}

#[cfg(test)]
mod tests;
