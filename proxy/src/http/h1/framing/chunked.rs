//! The chunked transfer coding (RFC 9112 section 7.1), read strictly and in pieces of any size.

use bytes::{Buf, BytesMut};

use super::decode::{Decoded, FramingError};
use crate::http::h1::head::{
    HeadLimits,
    parse::{self, SectionEnd},
};

/// Bytes of extensions that a body may have in all: nobody is known to use them.
const EXTENSION_BYTES: usize = 4096;

/// Reads a chunked body.
#[derive(Debug)]
pub(in crate::http::h1) struct Chunked {
    state: State,
    extension_bytes: usize,
    limits: HeadLimits,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// In the digits of a chunk size; `None` before the first.
    Size(Option<u64>),
    /// Behind a size and its semicolon.
    Extension {
        size: u64,
    },
    /// Behind the carriage return of a size line.
    SizeEnd {
        size: u64,
    },
    /// In the data of a chunk; at zero, before the carriage return behind it.
    Data {
        left: u64,
    },
    /// Behind the carriage return of a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers(SectionEnd),
    Done,
}

impl Chunked {
    pub(super) fn new(limits: HeadLimits) -> Self {
        Self {
            state: State::Size(None),
            extension_bytes: 0,
            limits,
        }
    }

    pub(super) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, FramingError> {
        loop {
            match self.state {
                State::Data { left } if left > 0 => {
                    if buffer.is_empty() {
                        return Ok(Decoded::NeedMore);
                    }
                    let length =
                        usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                    self.state = State::Data {
                        left: left - length as u64,
                    };
                    return Ok(Decoded::Data(buffer.split_to(length).freeze()));
                }
                State::Trailers(end) => return self.trailers(end, buffer),
                State::Done => return Ok(Decoded::End),
                _ => {
                    let Some(byte) = buffer.first().copied() else {
                        return Ok(Decoded::NeedMore);
                    };
                    self.state = self.step(byte)?;
                    buffer.advance(1);
                }
            }
        }
    }

    /// One byte between the data of two chunks.
    fn step(&mut self, byte: u8) -> Result<State, FramingError> {
        Ok(match (self.state, byte) {
            (State::Size(size), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = (byte as char).to_digit(16).map_or(0, u64::from);
                let size = size.unwrap_or(0);
                let grown = size.checked_mul(16).ok_or(FramingError::ChunkSize)?;
                State::Size(Some(grown + digit))
            }
            (State::Size(Some(size)), b'\r') => State::SizeEnd { size },
            (State::Size(Some(size)), b';') => State::Extension { size },
            (State::Extension { size }, b'\r') => State::SizeEnd { size },
            (State::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES {
                    return Err(FramingError::ChunkExtension);
                }
                State::Extension { size }
            }
            (State::SizeEnd { size: 0 }, b'\n') => State::Trailers(SectionEnd::default()),
            (State::SizeEnd { size }, b'\n') => State::Data { left: size },
            (State::Data { left: 0 }, b'\r') => State::DataEnd,
            (State::DataEnd, b'\n') => State::Size(None),
            (State::Extension { .. }, _) => return Err(FramingError::ChunkExtension),
            (State::Size(_), _) => return Err(FramingError::ChunkSize),
            _ => return Err(FramingError::ChunkEnd),
        })
    }

    fn trailers(
        &mut self,
        mut end: SectionEnd,
        buffer: &mut BytesMut,
    ) -> Result<Decoded, FramingError> {
        if buffer.starts_with(b"\r\n") {
            buffer.advance(2);
            self.state = State::Done;
            return Ok(Decoded::End);
        }
        let section = end.find(buffer).map_err(|_| FramingError::Trailers)?;
        if section.unwrap_or(buffer.len()) > self.limits.bytes {
            return Err(FramingError::Trailers);
        }
        let Some(length) = section else {
            // A lone carriage return may become the empty line: it is looked at again.
            if buffer.len() > 1 {
                self.state = State::Trailers(end);
            }
            return Ok(Decoded::NeedMore);
        };
        self.state = State::Done;
        parse::trailers(buffer.split_to(length).freeze(), self.limits)
            .map(Decoded::Trailers)
            .map_err(|_| FramingError::Trailers)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }
}
