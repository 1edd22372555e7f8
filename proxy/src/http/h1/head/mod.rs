//! Message heads: start line and fields, to and from bytes. No IO.

pub(super) mod encode;
pub(super) mod parse;

use http::{HeaderName, StatusCode, header};

use super::Refusal;
use crate::{error::RequestError, http::limits::HttpLimits};

/// What a header or trailer section may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeadLimits {
    pub(super) bytes: usize,
    pub(super) fields: usize,
}

impl From<&HttpLimits> for HeadLimits {
    fn from(limits: &HttpLimits) -> Self {
        Self {
            bytes: limits.header_bytes,
            fields: limits.header_fields,
        }
    }
}

/// Fields that frame or route a message, and so mean nothing behind it (RFC 9110 section 6.5.1).
const NOT_IN_TRAILERS: [HeaderName; 5] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::HOST,
    header::CONNECTION,
    header::TE,
];

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadError {
    BareLineFeed,
    EmptyLines,
    StartLine,
    Version,
    FieldName,
    FieldValue,
    LineEnd,
    TooManyFields,
    TooManyBytes,
    StartLineTooLong,
    Target,
    Fragment,
    UserInfo,
    ConnectTarget,
    AsteriskTarget,
    NoHost,
    SeveralHosts,
    Host,
    LengthAndCoding,
    SeveralLengths,
    Length,
    CodingOnHttp10,
    CodingNotChunked,
    UnknownCoding,
}

impl HeadError {
    /// For people: in the response, and in the log.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::BareLineFeed => "a line ends in a bare line feed",
            Self::EmptyLines => "empty lines stand before the start line",
            Self::StartLine => "the start line is malformed",
            Self::Version => "the version is neither HTTP/1.1 nor HTTP/1.0",
            Self::FieldName => "a field name holds a forbidden character",
            Self::FieldValue => "a field value holds a forbidden character",
            Self::LineEnd => "a carriage return stands without its line feed",
            Self::TooManyFields => "the header section has too many fields",
            Self::TooManyBytes => "the header section is too large",
            Self::StartLineTooLong => "the request line is too long",
            Self::Target => "the request target is malformed",
            Self::Fragment => "the request target has a fragment",
            Self::UserInfo => "the request target has user information",
            Self::ConnectTarget => "the target of CONNECT is not host:port",
            Self::AsteriskTarget => "the target * is for OPTIONS alone",
            Self::NoHost => "there is no Host field",
            Self::SeveralHosts => "there are several Host fields",
            Self::Host => "the Host field is malformed",
            Self::LengthAndCoding => "there are both Content-Length and Transfer-Encoding",
            Self::SeveralLengths => "there are several Content-Length fields",
            Self::Length => "the Content-Length is not a number",
            Self::CodingOnHttp10 => "there is a Transfer-Encoding in an HTTP/1.0 message",
            Self::CodingNotChunked => "the last transfer coding is not chunked",
            Self::UnknownCoding => "there is a transfer coding other than chunked",
        }
    }

    /// The answer to a request with such a head.
    pub(super) fn refusal(self) -> Refusal {
        let (status, error) = match self {
            Self::TooManyFields | Self::TooManyBytes => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                RequestError::HeadersTooLarge,
            ),
            Self::StartLineTooLong => (StatusCode::URI_TOO_LONG, RequestError::HeadersTooLarge),
            Self::UnknownCoding => (StatusCode::NOT_IMPLEMENTED, RequestError::BadRequest),
            Self::Version => (
                StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                RequestError::BadRequest,
            ),
            Self::BareLineFeed
            | Self::EmptyLines
            | Self::StartLine
            | Self::FieldName
            | Self::FieldValue
            | Self::LineEnd
            | Self::Target
            | Self::Fragment
            | Self::UserInfo
            | Self::ConnectTarget
            | Self::AsteriskTarget
            | Self::NoHost
            | Self::SeveralHosts
            | Self::Host
            | Self::LengthAndCoding
            | Self::SeveralLengths
            | Self::Length
            | Self::CodingOnHttp10
            | Self::CodingNotChunked => (StatusCode::BAD_REQUEST, RequestError::BadRequest),
        };
        Refusal {
            status,
            error,
            reason: self.reason(),
        }
    }
}

#[cfg(test)]
mod tests;
