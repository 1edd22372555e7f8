//! Heads to bytes, straight into the connection's buffer.

use bytes::{BufMut, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING},
};

use super::NOT_IN_TRAILERS;
use crate::http::h1::framing::BodyLength;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What a response says about its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http::h1) enum Persistence {
    /// It stays, as both sides expect it to.
    Implied,
    /// It stays, for an HTTP/1.0 client that asked.
    KeepAlive,
    /// It ends after this response.
    Close,
    /// It changes its protocol: what the response itself says is passed on.
    Upgrade,
}

/// The head of a request. Its framing fields are replaced by what `length` says.
pub(in crate::http::h1) fn request(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    length: BodyLength,
    out: &mut BytesMut,
) {
    let target = match (method, uri.authority(), uri.path_and_query()) {
        (&Method::CONNECT, Some(authority), _) => authority.as_str(),
        (_, _, Some(target)) => target.as_str(),
        (_, _, None) => "",
    };
    // A target in origin form has a path, if only an empty one.
    let slash: &[u8] = match target.as_bytes().first() {
        None | Some(b'?') => b"/",
        Some(_) => b"",
    };
    put(
        &[
            method.as_str().as_bytes(),
            b" ",
            slash,
            target.as_bytes(),
            b" HTTP/1.1\r\n",
        ],
        out,
    );

    match (headers.get(HOST), uri.authority()) {
        (Some(host), _) => field(&HOST, host, out),
        (None, Some(authority)) => {
            put(&[b"host: ", authority.as_str().as_bytes(), b"\r\n"], out);
        }
        // RFC 9112 section 3.2: an empty one where there is no authority.
        (None, None) => out.extend_from_slice(b"host:\r\n"),
    }
    let (mut asks_te, mut has_connection) = (false, false);
    for (name, value) in headers {
        if *name != HOST && *name != CONTENT_LENGTH && *name != TRANSFER_ENCODING {
            asks_te |= *name == TE;
            has_connection |= *name == CONNECTION;
            field(name, value, out);
        }
    }
    if asks_te && !has_connection {
        // RFC 9110 section 10.1.4: whoever sends TE says that it is for the next hop alone.
        out.extend_from_slice(b"connection: te\r\n");
    }
    body_length(length, out);
    out.extend_from_slice(b"\r\n");
}

/// The head of a final or informational response.
///
/// Its framing fields are replaced by what `length` says; `None` passes its Content-Length on, for
/// responses that have no body but say how long it would be (HEAD, 304).
pub(in crate::http::h1) fn response(
    status: StatusCode,
    headers: &HeaderMap,
    length: Option<BodyLength>,
    persistence: Persistence,
    out: &mut BytesMut,
) {
    if status == StatusCode::OK {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        let reason = status.canonical_reason().unwrap_or_default();
        put(
            &[
                b"HTTP/1.1 ",
                status.as_str().as_bytes(),
                b" ",
                reason.as_bytes(),
                b"\r\n",
            ],
            out,
        );
    }
    for (name, value) in headers {
        let ours = *name == TRANSFER_ENCODING
            || *name == CONTENT_LENGTH && length.is_some()
            || persistence != Persistence::Upgrade
                && (*name == CONNECTION || *name == KEEP_ALIVE || *name == PROXY_CONNECTION);
        if !ours {
            field(name, value, out);
        }
    }
    if let Some(length) = length {
        body_length(length, out);
    }
    match persistence {
        Persistence::Implied | Persistence::Upgrade => {}
        Persistence::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Persistence::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// The fields of a trailer section, with its empty line.
pub(in crate::http::h1) fn trailers(trailers: &HeaderMap, out: &mut BytesMut) {
    for (name, value) in trailers {
        if !NOT_IN_TRAILERS.contains(name) {
            field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal, written to the end of `digits`.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    &digits[start..]
}

fn body_length(length: BodyLength, out: &mut BytesMut) {
    match length {
        BodyLength::Known(bytes) => {
            let mut digits = [0; 20];
            put(
                &[b"content-length: ", decimal(bytes, &mut digits), b"\r\n"],
                out,
            );
        }
        BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        BodyLength::Empty | BodyLength::UntilClose => {}
    }
}

fn field(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    put(
        &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"],
        out,
    );
}

fn put(parts: &[&[u8]], out: &mut BytesMut) {
    let length = out.len() + parts.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(length - out.len());
    let mut room = out.spare_capacity_mut();
    for part in parts {
        // Panics rather than to write beyond the room.
        room.put_slice(part);
    }
    // SAFETY: the parts were written behind what was there before, and are so long together.
    unsafe { out.set_len(length) };
}
