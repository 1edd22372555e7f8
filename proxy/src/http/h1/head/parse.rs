//! Heads from bytes, strictly (RFC 9112 sections 2 to 5).
//!
//! `httparse` tokenizes; it accepts bare line feeds, so lines are checked before it sees them.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{EXPECT, HOST},
    uri::Authority,
};
use memchr::{memchr, memchr_iter};

use super::{HeadError, HeadLimits, NOT_IN_TRAILERS};
use crate::http::h1::framing::FramingFields;

/// The start of a request.
#[derive(Debug)]
pub(in crate::http::h1) struct RequestHead {
    pub(in crate::http::h1) method: Method,
    pub(in crate::http::h1) uri: Uri,
    pub(in crate::http::h1) version: Version,
    pub(in crate::http::h1) headers: HeaderMap,
    pub(in crate::http::h1) framing: FramingFields,
    /// `Expect: 100-continue`, from a client that can understand the answer.
    pub(in crate::http::h1) expects_continue: bool,
}

/// The start of a response.
#[derive(Debug)]
pub(in crate::http::h1) struct ResponseHead {
    pub(in crate::http::h1) status: StatusCode,
    pub(in crate::http::h1) version: Version,
    pub(in crate::http::h1) headers: HeaderMap,
    pub(in crate::http::h1) framing: FramingFields,
}

/// Finds the end of a section of lines, looking at every byte once however slowly they come.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::http::h1) struct SectionEnd {
    seen: usize,
    /// Taken off before this section. Kept here, as they may come one read at a time.
    empty_lines: usize,
}

/// Empty lines that old clients send after a body (RFC 9112 section 2.2), and that we overlook before each
/// request.
const EMPTY_LINES: usize = 4;

/// Room for the fields that a proxy adds to a request, so that the map need not grow for them: trace context
/// and request id, or who called.
const OUR_FIELDS: usize = 3;

/// Header fields that find room on the stack.
const STACK_FIELDS: usize = 100;

impl SectionEnd {
    /// The length of the section with its empty line, once that is there. Restarts after it.
    ///
    /// `buffer` starts with the section and only ever grows between calls.
    pub(in crate::http::h1) fn find(&mut self, buffer: &[u8]) -> Result<Option<usize>, HeadError> {
        for offset in memchr_iter(b'\n', &buffer[self.seen..]) {
            let line_feed = self.seen + offset;
            if line_feed == 0 || buffer[line_feed - 1] != b'\r' {
                return Err(HeadError::BareLineFeed);
            }
            if line_feed >= 3 && buffer[line_feed - 2] == b'\n' {
                *self = Self::default();
                return Ok(Some(line_feed + 1));
            }
        }
        self.seen = buffer.len();
        Ok(None)
    }
}

/// Takes a request's head off the front of `buffer`, once it is all there.
pub(in crate::http::h1) fn request(
    buffer: &mut BytesMut,
    end: &mut SectionEnd,
    limits: HeadLimits,
) -> Result<Option<RequestHead>, HeadError> {
    while buffer.starts_with(b"\r\n") {
        if end.empty_lines == EMPTY_LINES {
            return Err(HeadError::EmptyLines);
        }
        buffer.advance(2);
        *end = SectionEnd {
            seen: 0,
            empty_lines: end.empty_lines + 1,
        };
    }
    match take_section(buffer, end, limits)? {
        Some(section) => parse_request(section, limits).map(Some),
        None => Ok(None),
    }
}

/// Takes a response's head off the front of `buffer`, once it is all there.
pub(in crate::http::h1) fn response(
    buffer: &mut BytesMut,
    end: &mut SectionEnd,
    limits: HeadLimits,
) -> Result<Option<ResponseHead>, HeadError> {
    if buffer.first().is_some_and(|byte| *byte != b'H') {
        return Err(HeadError::StartLine);
    }
    match take_section(buffer, end, limits)? {
        Some(section) => parse_response(section, limits).map(Some),
        None => Ok(None),
    }
}

/// The fields of a trailer section, which ends with its empty line.
pub(in crate::http::h1) fn trailers(
    section: Bytes,
    limits: HeadLimits,
) -> Result<HeaderMap, HeadError> {
    let mut fields = vec![httparse::EMPTY_HEADER; limits.fields];
    let fields = match httparse::parse_headers(&section, &mut fields) {
        Ok(httparse::Status::Complete((_, fields))) => fields,
        Ok(httparse::Status::Partial) => return Err(HeadError::LineEnd),
        Err(error) => return Err(malformed(error)),
    };
    let mut trailers = collect(&section, fields, 0, |_, _| Ok(()))?;
    for name in NOT_IN_TRAILERS {
        trailers.remove(name);
    }
    Ok(trailers)
}

fn take_section(
    buffer: &mut BytesMut,
    end: &mut SectionEnd,
    limits: HeadLimits,
) -> Result<Option<Bytes>, HeadError> {
    let section = end.find(buffer)?;
    if section.unwrap_or(buffer.len()) > limits.bytes {
        return Err(match memchr(b'\n', &buffer[..limits.bytes]) {
            None => HeadError::StartLineTooLong,
            Some(_) => HeadError::TooManyBytes,
        });
    }
    Ok(section.map(|length| buffer.split_to(length).freeze()))
}

fn parse_request(section: Bytes, limits: HeadLimits) -> Result<RequestHead, HeadError> {
    with_fields(limits, |storage| {
        let mut parsed = httparse::Request::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_request_with_uninit_headers(&mut parsed, &section, storage)
            .map_err(malformed)?;
        let (
            httparse::Status::Complete(_),
            httparse::Request {
                method: Some(method),
                path: Some(target),
                version: Some(version),
                headers: fields,
            },
        ) = (status, parsed)
        else {
            return Err(HeadError::LineEnd);
        };

        let method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::StartLine)?;
        let version = version_of(version);
        let uri = target_of(&method, section.slice_ref(target.as_bytes()))?;
        let mut framing = FramingFields::default();
        let mut hosts = 0;
        let mut expects_continue = false;
        let mut headers = collect(&section, fields, OUR_FIELDS, |name, value| {
            if *name == HOST {
                hosts += 1;
                if !is_host(value.as_bytes()) {
                    return Err(HeadError::Host);
                }
            } else if *name == EXPECT {
                expects_continue = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            framing.note(name, value)
        })?;
        match hosts {
            0 if version == Version::HTTP_11 => return Err(HeadError::NoHost),
            0 | 1 => {}
            _ => return Err(HeadError::SeveralHosts),
        }
        framing.check(version)?;
        if let (Some(_), Some(authority)) = (uri.scheme(), uri.authority()) {
            // RFC 9112 section 3.2.2: the target's authority counts, whatever Host says.
            let host = HeaderValue::from_str(authority.as_str()).map_err(|_| HeadError::Target)?;
            headers.insert(HOST, host);
        }
        Ok(RequestHead {
            expects_continue: expects_continue && version == Version::HTTP_11,
            method,
            uri,
            version,
            headers,
            framing,
        })
    })
}

fn parse_response(section: Bytes, limits: HeadLimits) -> Result<ResponseHead, HeadError> {
    with_fields(limits, |storage| {
        let mut parsed = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut parsed, &section, storage)
            .map_err(malformed)?;
        let (
            httparse::Status::Complete(_),
            httparse::Response {
                code: Some(code),
                version: Some(version),
                headers: fields,
                ..
            },
        ) = (status, parsed)
        else {
            return Err(HeadError::LineEnd);
        };

        let status = StatusCode::from_u16(code).map_err(|_| HeadError::StartLine)?;
        let version = version_of(version);
        let mut framing = FramingFields::default();
        let headers = collect(&section, fields, 0, |name, value| framing.note(name, value))?;
        framing.check(version)?;
        Ok(ResponseHead {
            status,
            version,
            headers,
            framing,
        })
    })
}

/// Runs `parse` with room for as many fields as there may be.
fn with_fields<'section, T>(
    limits: HeadLimits,
    parse: impl FnOnce(&mut [MaybeUninit<httparse::Header<'section>>]) -> Result<T, HeadError>,
) -> Result<T, HeadError> {
    if limits.fields <= STACK_FIELDS {
        let mut storage = [const { MaybeUninit::uninit() }; STACK_FIELDS];
        parse(&mut storage[..limits.fields])
    } else {
        let mut storage = vec![const { MaybeUninit::uninit() }; limits.fields];
        parse(&mut storage)
    }
}

/// The fields as a map with room for some more, whose values share the section's memory.
fn collect(
    section: &Bytes,
    fields: &[httparse::Header<'_>],
    room: usize,
    mut note: impl FnMut(&HeaderName, &HeaderValue) -> Result<(), HeadError>,
) -> Result<HeaderMap, HeadError> {
    let mut headers = HeaderMap::with_capacity(fields.len() + room);
    for field in fields {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| HeadError::FieldName)?;
        let value = section.slice_ref(field.value);
        // SAFETY: httparse lets through what a HeaderValue may hold: tabs, and bytes from 0x20 on except
        // DEL. The proptest `whatever_httparse_accepts_is_a_header_value` holds it to that.
        let value = unsafe { HeaderValue::from_maybe_shared_unchecked(value) };
        note(&name, &value)?;
        headers
            .try_append(name, value)
            .map_err(|_| HeadError::TooManyFields)?;
    }
    Ok(headers)
}

/// The four forms of a target (RFC 9112 section 3.2), each only where it belongs.
fn target_of(method: &Method, target: Bytes) -> Result<Uri, HeadError> {
    if memchr(b'#', &target).is_some() {
        return Err(HeadError::Fragment);
    }
    let first = target.first().copied();
    if *method == Method::CONNECT {
        let authority =
            Authority::from_maybe_shared(target).map_err(|_| HeadError::ConnectTarget)?;
        if authority.port_u16().is_none() || authority.as_str().contains('@') {
            return Err(HeadError::ConnectTarget);
        }
        return Ok(Uri::from(authority));
    }
    let uri = Uri::from_maybe_shared(target).map_err(|_| HeadError::Target)?;
    match first {
        Some(b'/') => Ok(uri),
        Some(b'*') if *method == Method::OPTIONS => Ok(uri),
        Some(b'*') => Err(HeadError::AsteriskTarget),
        _ => match (uri.scheme_str(), uri.authority()) {
            (Some("http" | "https"), Some(authority)) if authority.as_str().contains('@') => {
                Err(HeadError::UserInfo)
            }
            (Some("http" | "https"), Some(_)) => Ok(uri),
            _ => Err(HeadError::Target),
        },
    }
}

/// `uri-host [ ":" port ]` by its characters (RFC 3986 section 3.2.2); empty where there is no authority.
fn is_host(value: &[u8]) -> bool {
    value.iter().all(|byte| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':' | b'[' | b']' | b'%')
            || matches!(
                byte,
                b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'='
            )
    })
}

fn version_of(minor: u8) -> Version {
    if minor == 0 {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    }
}

fn malformed(error: httparse::Error) -> HeadError {
    match error {
        httparse::Error::HeaderName => HeadError::FieldName,
        httparse::Error::HeaderValue => HeadError::FieldValue,
        httparse::Error::NewLine => HeadError::LineEnd,
        httparse::Error::Status | httparse::Error::Token => HeadError::StartLine,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Version => HeadError::Version,
    }
}
