//! Where a message ends (RFC 9112 sections 6 and 7). No IO.

pub(super) mod chunked;
pub(super) mod decode;
pub(super) mod encode;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};

use super::head::HeadError;

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// There is none, and nothing said about it.
    Empty,
    /// So many bytes.
    Known(u64),
    /// Until the last chunk.
    Chunked,
    /// Until the connection ends: responses only.
    UntilClose,
}

/// The fields of a head that say how it and its connection end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FramingFields {
    content_length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

impl FramingFields {
    /// Takes in one field.
    pub(super) fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), HeadError> {
        if *name == CONTENT_LENGTH {
            if self.content_length.is_some() {
                // Equal ones could be merged (RFC 9110 section 8.6), but nobody honest sends them.
                return Err(HeadError::SeveralLengths);
            }
            self.content_length = Some(length_of(value.as_bytes())?);
        } else if *name == TRANSFER_ENCODING {
            let coding = value.as_bytes();
            if coding.eq_ignore_ascii_case(b"chunked") && !self.chunked {
                self.chunked = true;
            } else if ends_in_chunked(coding) && !self.chunked {
                return Err(HeadError::UnknownCoding);
            } else {
                return Err(HeadError::CodingNotChunked);
            }
        } else if *name == CONNECTION {
            for option in options(value) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(())
    }

    /// Refuses what the fields may not say together.
    pub(super) fn check(&self, version: Version) -> Result<(), HeadError> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(HeadError::LengthAndCoding),
            (true, None) if version == Version::HTTP_10 => Err(HeadError::CodingOnHttp10),
            _ => Ok(()),
        }
    }

    /// The body of a request (RFC 9112 section 6.3, 4 to 7).
    pub(super) fn request_body(&self, method: &Method) -> BodyLength {
        match (self.chunked, self.content_length) {
            // What follows belongs to the tunnel.
            _ if *method == Method::CONNECT => BodyLength::Empty,
            (true, _) => BodyLength::Chunked,
            (false, Some(length)) => BodyLength::Known(length),
            (false, None) => BodyLength::Empty,
        }
    }

    /// The body of a final response to a request with `method` (RFC 9112 section 6.3).
    pub(super) fn response_body(&self, method: &Method, status: StatusCode) -> BodyLength {
        if has_no_body(method, status) {
            return BodyLength::Empty;
        }
        match (self.chunked, self.content_length) {
            (true, _) => BodyLength::Chunked,
            (false, Some(length)) => BodyLength::Known(length),
            (false, None) => BodyLength::UntilClose,
        }
    }

    /// Whether its sender means to keep the connection (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }
}

/// What a message that we make says of its length.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    length_of(headers.get(CONTENT_LENGTH)?.as_bytes()).ok()
}

/// Whether a message that we make ends its connection.
pub(super) fn says_close(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONNECTION).iter();
    values.any(|value| options(value).any(|option| option.eq_ignore_ascii_case(b"close")))
}

/// Whether a response ends with its head, whatever its fields say.
pub(super) fn has_no_body(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || tunnels(method, status)
}

/// Whether a response turns its connection into a tunnel (RFC 9110 section 9.3.6).
pub(super) fn tunnels(method: &Method, status: StatusCode) -> bool {
    *method == Method::CONNECT && status.is_success()
}

/// `1*DIGIT` and nothing else: no sign, no list, no blank.
fn length_of(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() {
        return Err(HeadError::Length);
    }
    value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
        digit
            .and_then(|digit| length.checked_mul(10)?.checked_add(digit))
            .ok_or(HeadError::Length)
    })
}

fn options(connection: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let options = connection.as_bytes().split(|byte| *byte == b',');
    options.map(<[u8]>::trim_ascii)
}

fn ends_in_chunked(codings: &[u8]) -> bool {
    let last = codings.rsplit(|byte| *byte == b',').next();
    last.is_some_and(|last| last.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

#[cfg(test)]
mod tests;
