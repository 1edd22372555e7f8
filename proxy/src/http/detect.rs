//! What a connection speaks, judged by its first bytes. Pure: who reads and how long is `inbound`'s and
//! `outbound`'s business.

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// A request line of HTTP/1.x.
    Http1,
    /// The preface of HTTP/2 (RFC 9113 section 3.4).
    Http2,
    /// The start of a TLS ClientHello.
    Tls,
    /// Anything else, which is passed on as it is.
    Opaque,
}

impl Verdict {
    /// The word for it in logs and metric labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Opaque => "opaque",
        }
    }
}

/// As much of a request line is looked at before it is no longer taken for one.
pub const MAX_PREFIX: usize = 8 * 1024;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest method in the IANA registry is `UPDATEREDIRECTREF`; others are invented but not longer than this.
const MAX_METHOD: usize = 32;

/// After one of these and a target that starts like a path, nothing else than HTTP can be meant: the
/// verdict need not wait for the end of a long request line.
const METHODS: [&[u8]; 9] = [
    b"GET", b"POST", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE",
];

/// Judges the first bytes of a connection; `None` when there are too few to tell.
///
/// Text protocols look much like HTTP (`EHLO example.org`, `GET key`), so that a request line counts
/// only with its `HTTP/1.x`, or with a method that everybody knows and a path.
pub fn detect(prefix: &[u8]) -> Option<Verdict> {
    match prefix {
        [] | [TLS_HANDSHAKE] => return None,
        [TLS_HANDSHAKE, TLS_MAJOR, ..] => return Some(Verdict::Tls),
        _ if prefix.starts_with(HTTP2_PREFACE) => return Some(Verdict::Http2),
        _ if HTTP2_PREFACE.starts_with(prefix) => return None,
        _ => {}
    }
    match http1(prefix) {
        RequestLine::Certain => Some(Verdict::Http1),
        RequestLine::Unfinished if prefix.len() < MAX_PREFIX => None,
        RequestLine::Unfinished | RequestLine::Other => Some(Verdict::Opaque),
    }
}

/// Whether the bytes so far are those of the HTTP/2 preface.
pub fn may_be_http2(prefix: &[u8]) -> bool {
    HTTP2_PREFACE.starts_with(prefix)
}

/// `ContentType.handshake` (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;
/// The first byte of `legacy_record_version`, which is 3 for every version of TLS.
const TLS_MAJOR: u8 = 0x03;

enum RequestLine {
    Certain,
    Unfinished,
    Other,
}

fn http1(prefix: &[u8]) -> RequestLine {
    // RFC 9112 section 2.2: a server ignores an empty line before the request line.
    let line = prefix.strip_prefix(b"\r\n").unwrap_or(prefix);
    let Some(space) = line.iter().position(|&c| !is_method_character(c)) else {
        return if line.len() > MAX_METHOD {
            RequestLine::Other
        } else {
            RequestLine::Unfinished
        };
    };
    let (method, rest) = line.split_at(space);
    if method.is_empty() {
        return if prefix == b"\r" {
            RequestLine::Unfinished
        } else {
            RequestLine::Other
        };
    }
    let Some(target) = rest.strip_prefix(b" ") else {
        return RequestLine::Other;
    };
    if METHODS.contains(&method) && target.starts_with(b"/") {
        return RequestLine::Certain;
    }
    match target.iter().position(|&c| c == b'\n') {
        None => RequestLine::Unfinished,
        Some(end) => {
            let line = target[..end].strip_suffix(b"\r").unwrap_or(&target[..end]);
            match line {
                [.., b' ', b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor]
                    if minor.is_ascii_digit() =>
                {
                    RequestLine::Certain
                }
                _ => RequestLine::Other,
            }
        }
    }
}

/// Methods are tokens (RFC 9110 section 9.1), but none in use has more than capitals, digits and hyphens.
fn is_method_character(c: u8) -> bool {
    c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'-' || c == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide() {
        let table: &[(&[u8], Option<Verdict>)] = &[
            (b"", None),
            (b"G", None),
            (b"GET", None),
            (b"GET ", None),
            (b"GET /", Some(Verdict::Http1)),
            (b"\r", None),
            (b"\r\nGET /", Some(Verdict::Http1)),
            (b"GET http://user/ HTTP/1.1\r\n", Some(Verdict::Http1)),
            (b"CONNECT user:80 HTTP/1.1\r\n", Some(Verdict::Http1)),
            (b"OPTIONS * HTTP/1.0\n", Some(Verdict::Http1)),
            (b"OPTIONS * HTTP/1.", None),
            (b"VERSION-CONTROL /x HTTP/1.1\r\n", Some(Verdict::Http1)),
            (b"GET key\r\n", Some(Verdict::Opaque)),
            (b"EHLO example.org\r\n", Some(Verdict::Opaque)),
            (b"EHLO example.org", None),
            (b"SELECT 1", None),
            (b"GET / HTTP/2.0\r\n", Some(Verdict::Http1)),
            (b"PUT x HTTP/2.0\r\n", Some(Verdict::Opaque)),
            (b"PRI", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n", None),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0", Some(Verdict::Http2)),
            (b"PRI * HTTP/2.0\r\n\r\nXX", Some(Verdict::Opaque)),
            (b"PRIORITY", None),
            (b"*1\r\n$4\r\nPING\r\n", Some(Verdict::Opaque)),
            (b"PING\r\n", Some(Verdict::Opaque)),
            (b"SSH-2.0-OpenSSH\r\n", Some(Verdict::Opaque)),
            (b"\x16", None),
            (b"\x16\x03", Some(Verdict::Tls)),
            (b"\x16\x02", Some(Verdict::Opaque)),
            (b"\0\0\0\x08", Some(Verdict::Opaque)),
            (
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ",
                Some(Verdict::Opaque),
            ),
        ];
        for &(bytes, verdict) in table {
            assert_eq!(
                detect(bytes),
                verdict,
                "{:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }

    #[test]
    fn a_line_without_end_is_not_awaited_for_ever() {
        let mut line = b"FETCH ".to_vec();
        line.resize(MAX_PREFIX, b'x');
        assert_eq!(detect(&line), Some(Verdict::Opaque));
    }
}
