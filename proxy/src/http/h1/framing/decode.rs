//! Takes a body out of the bytes of its connection, however they are split.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::SizeHint;

use super::{BodyLength, chunked::Chunked};
use crate::http::h1::head::HeadLimits;

/// Reads one body. Bytes behind it are not touched.
#[derive(Debug)]
pub(in crate::http::h1) enum Decoder {
    /// So many bytes are left.
    Known(u64),
    Chunked(Box<Chunked>),
    UntilClose,
    Done,
}

/// One step of a body.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http::h1) enum Decoded {
    /// The next bytes; never none.
    Data(Bytes),
    /// The fields behind a chunked body, which ends with them.
    Trailers(HeaderMap),
    /// The body is over.
    End,
    /// Nothing can be said before more bytes are there.
    NeedMore,
}

/// Why a body can't be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http::h1) enum FramingError {
    ChunkSize,
    ChunkExtension,
    ChunkEnd,
    Trailers,
    /// The connection ended first.
    Truncated,
}

impl Decoder {
    pub(in crate::http::h1) fn new(length: BodyLength, limits: HeadLimits) -> Self {
        match length {
            BodyLength::Empty | BodyLength::Known(0) => Self::Done,
            BodyLength::Known(bytes) => Self::Known(bytes),
            BodyLength::Chunked => Self::Chunked(Box::new(Chunked::new(limits))),
            BodyLength::UntilClose => Self::UntilClose,
        }
    }

    /// Takes what there is off the front of `buffer`.
    pub(in crate::http::h1) fn decode(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Decoded, FramingError> {
        match self {
            Self::Done => Ok(Decoded::End),
            Self::Known(_) | Self::UntilClose if buffer.is_empty() => Ok(Decoded::NeedMore),
            Self::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            Self::Known(left) => {
                let length =
                    usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
                *left -= length as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Decoded::Data(buffer.split_to(length).freeze()))
            }
            Self::Chunked(chunked) => {
                let decoded = chunked.decode(buffer)?;
                if chunked.is_done() {
                    *self = Self::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// The peer has sent its last byte, and all that it sent was decoded.
    pub(in crate::http::h1) fn end_of_input(&mut self) -> Result<(), FramingError> {
        match self {
            Self::Done | Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            Self::Known(_) | Self::Chunked(_) => Err(FramingError::Truncated),
        }
    }

    /// Whether the whole body was taken out.
    pub(in crate::http::h1) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// What is known of the bytes still to come.
    pub(in crate::http::h1) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Done => SizeHint::with_exact(0),
            Self::Known(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose => SizeHint::new(),
        }
    }
}
