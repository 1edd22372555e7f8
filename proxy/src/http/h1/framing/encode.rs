//! Puts a body into the form that its head announced.

use bytes::{BufMut, Bytes};
use http::HeaderMap;

use super::BodyLength;
use crate::http::h1::{head::encode, outgoing::Outgoing};

/// Writes one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http::h1) enum Encoder {
    /// So many bytes are still owed.
    Known(u64),
    Chunked,
    UntilClose,
    Done,
}

/// A body that is not as long as its head said. Its connection can only be aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http::h1) struct WrongLength;

impl Encoder {
    pub(in crate::http::h1) fn new(length: BodyLength) -> Self {
        match length {
            BodyLength::Empty | BodyLength::Known(0) => Self::Done,
            BodyLength::Known(bytes) => Self::Known(bytes),
            BodyLength::Chunked => Self::Chunked,
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    pub(in crate::http::h1) fn data(
        &mut self,
        data: Bytes,
        out: &mut Outgoing,
    ) -> Result<(), WrongLength> {
        if data.is_empty() {
            // As a chunk it would be the last one.
            return Ok(());
        }
        match self {
            Self::Known(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                out.data(data);
            }
            Self::Chunked => {
                chunk_size(data.len(), out);
                out.data(data);
                out.text().put_slice(b"\r\n");
            }
            Self::UntilClose => out.data(data),
            Self::Done => return Err(WrongLength),
        }
        Ok(())
    }

    /// The body is over. Trailers are dropped where the framing has no place for them.
    pub(in crate::http::h1) fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        out: &mut Outgoing,
    ) -> Result<(), WrongLength> {
        match self {
            Self::Known(1..) => return Err(WrongLength),
            Self::Chunked => {
                out.text().put_slice(b"0\r\n");
                match trailers {
                    Some(trailers) => encode::trailers(trailers, out.text()),
                    None => out.text().put_slice(b"\r\n"),
                }
            }
            Self::Known(0) | Self::UntilClose | Self::Done => {}
        }
        *self = Self::Done;
        Ok(())
    }
}

fn chunk_size(size: usize, out: &mut Outgoing) {
    let mut digits = [0; 16];
    let mut start = digits.len();
    let mut rest = size;
    loop {
        start -= 1;
        digits[start] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            break;
        }
    }
    let out = out.text();
    out.put_slice(&digits[start..]);
    out.put_slice(b"\r\n");
}
