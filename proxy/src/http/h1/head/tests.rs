use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use proptest::prelude::*;

use super::{
    HeadError, HeadLimits,
    encode::{self, Persistence},
    parse::{self, RequestHead, ResponseHead, SectionEnd},
};
use crate::http::h1::framing::BodyLength;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 1024,
    fields: 8,
};

fn request(bytes: impl AsRef<[u8]>) -> Result<Option<RequestHead>, HeadError> {
    let mut buffer = BytesMut::from(bytes.as_ref());
    parse::request(&mut buffer, &mut SectionEnd::default(), LIMITS)
}

fn response(bytes: impl AsRef<[u8]>) -> Result<Option<ResponseHead>, HeadError> {
    let mut buffer = BytesMut::from(bytes.as_ref());
    parse::response(&mut buffer, &mut SectionEnd::default(), LIMITS)
}

fn accepted(bytes: &str) -> RequestHead {
    request(bytes).expect("accepted").expect("complete")
}

#[test]
fn a_request_is_read_with_its_fields_in_order() {
    let mut buffer = BytesMut::from(
        "POST /a?b=c HTTP/1.1\r\nHost: x:80\r\nX-One: 1 \r\nx-one:2\r\nContent-Length: 3\r\n\r\nabcGET",
    );
    let head = parse::request(&mut buffer, &mut SectionEnd::default(), LIMITS)
        .expect("accepted")
        .expect("complete");
    assert_eq!(head.method, Method::POST);
    assert_eq!(head.uri, "/a?b=c");
    assert_eq!(head.version, Version::HTTP_11);
    let ones: Vec<_> = head.headers.get_all("x-one").iter().collect();
    assert_eq!(ones, ["1", "2"]);
    assert_eq!(
        head.framing.request_body(&head.method),
        BodyLength::Known(3)
    );
    assert_eq!(buffer, "abcGET");
}

#[test]
fn a_head_is_found_however_it_is_split() {
    let whole = b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n";
    for split in 0..whole.len() {
        let (mut buffer, mut end) = (BytesMut::from(&whole[..split]), SectionEnd::default());
        let first = parse::request(&mut buffer, &mut end, LIMITS).expect("nothing wrong so far");
        assert!(first.is_none(), "split {split}");
        buffer.extend_from_slice(&whole[split..]);
        let head = parse::request(&mut buffer, &mut end, LIMITS).expect("accepted");
        assert_eq!(head.expect("complete").headers["a"], "b", "split {split}");
        assert!(buffer.is_empty());
    }
}

#[test]
fn too_many_empty_lines_are_refused_however_they_are_split() {
    let lines = b"\r\n\r\n\r\n\r\n\r\n";
    for split in 0..lines.len() {
        let (mut buffer, mut end) = (BytesMut::from(&lines[..split]), SectionEnd::default());
        let first = parse::request(&mut buffer, &mut end, LIMITS).expect("nothing wrong so far");
        assert!(first.is_none(), "split {split}");
        buffer.extend_from_slice(&lines[split..]);
        let outcome = parse::request(&mut buffer, &mut end, LIMITS);
        assert_eq!(outcome.err(), Some(HeadError::EmptyLines), "split {split}");
    }
}

#[test]
fn every_request_on_a_connection_may_follow_empty_lines_of_its_own() {
    let one = "\r\n\r\n\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    let (mut buffer, mut end) = (BytesMut::new(), SectionEnd::default());
    let mut targets = Vec::new();
    for byte in one.repeat(2).bytes() {
        buffer.extend_from_slice(&[byte]);
        let head = parse::request(&mut buffer, &mut end, LIMITS).expect("accepted");
        targets.extend(head.map(|head| head.uri));
    }
    assert_eq!(targets, ["/a", "/a"]);
}

#[test]
fn every_form_of_target_stands_where_it_belongs() {
    assert_eq!(
        accepted("GET //a HTTP/1.1\r\nHost:\r\n\r\n").uri.path(),
        "//a"
    );
    let absolute = accepted("GET http://a:81/p?q HTTP/1.1\r\nHost: b\r\n\r\n");
    assert_eq!(absolute.uri, "http://a:81/p?q");
    assert_eq!(absolute.headers["host"], "a:81", "the target counts");
    assert_eq!(accepted("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").uri, "*");
    let tunnel = accepted("CONNECT [::1]:443 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(tunnel.uri.authority().expect("one").as_str(), "[::1]:443");
    assert_eq!(accepted("GET / HTTP/1.0\r\n\r\n").version, Version::HTTP_10);
    assert_eq!(
        accepted("\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n").uri,
        "/a"
    );
}

#[test]
fn whatever_two_readers_might_read_differently_is_refused() {
    let too_many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(8));
    let too_large = format!(
        "GET / HTTP/1.1\r\nHost: x\r\na: {}\r\n\r\n",
        "b".repeat(1024)
    );
    let too_long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "b".repeat(1024));
    for (name, bytes, error) in [
        (
            "bare LF",
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            HeadError::BareLineFeed,
        ),
        (
            "bare LF in a field",
            "GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n",
            HeadError::BareLineFeed,
        ),
        (
            "bare LF at the end",
            "GET / HTTP/1.1\r\nHost: x\r\n\n",
            HeadError::BareLineFeed,
        ),
        (
            "bare CR in a value",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
            HeadError::FieldValue,
        ),
        (
            "bare CR in the start line",
            "GET / HTTP/1.1\rX\r\nHost: x\r\n\r\n",
            HeadError::LineEnd,
        ),
        (
            "obs-fold",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "fold before the first field",
            "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "blank before colon",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "tab before colon",
            "GET / HTTP/1.1\r\nHost\t: x\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "no colon",
            "GET / HTTP/1.1\r\nHost\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "empty name",
            "GET / HTTP/1.1\r\nHost: x\r\n: b\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "NUL in a value",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
            HeadError::FieldValue,
        ),
        (
            "DEL in a value",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\x7fc\r\n\r\n",
            HeadError::FieldValue,
        ),
        (
            "NUL in a name",
            "GET / HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "NUL in the target",
            "GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::StartLine,
        ),
        (
            "blank in the target",
            "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::Version,
        ),
        (
            "two blanks",
            "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::StartLine,
        ),
        (
            "no target",
            "GET HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::StartLine,
        ),
        ("HTTP/0.9", "GET /\r\n\r\n", HeadError::StartLine),
        (
            "HTTP/2.0",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            HeadError::Version,
        ),
        (
            "HTTP/1.2",
            "GET / HTTP/1.2\r\nHost: x\r\n\r\n",
            HeadError::Version,
        ),
        (
            "lower-case version",
            "GET / http/1.1\r\nHost: x\r\n\r\n",
            HeadError::Version,
        ),
        ("no Host", "GET / HTTP/1.1\r\n\r\n", HeadError::NoHost),
        (
            "no Host with an absolute target",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            HeadError::NoHost,
        ),
        (
            "several Host",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
            HeadError::SeveralHosts,
        ),
        (
            "several Host, HTTP/1.0",
            "GET / HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
            HeadError::SeveralHosts,
        ),
        (
            "list of hosts",
            "GET / HTTP/1.1\r\nHost: x, y\r\n\r\n",
            HeadError::Host,
        ),
        (
            "path in Host",
            "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n",
            HeadError::Host,
        ),
        (
            "user in Host",
            "GET / HTTP/1.1\r\nHost: a@x\r\n\r\n",
            HeadError::Host,
        ),
        (
            "fragment",
            "GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::Fragment,
        ),
        (
            "user in the target",
            "GET http://a@b/ HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::UserInfo,
        ),
        (
            "other scheme",
            "GET ftp://b/ HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::Target,
        ),
        (
            "authority without CONNECT",
            "GET x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::Target,
        ),
        (
            "relative target",
            "GET a/b HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::Target,
        ),
        (
            "* without OPTIONS",
            "GET * HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::AsteriskTarget,
        ),
        (
            "CONNECT to a path",
            "CONNECT /a HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::ConnectTarget,
        ),
        (
            "CONNECT without port",
            "CONNECT a HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::ConnectTarget,
        ),
        (
            "CL and TE",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::LengthAndCoding,
        ),
        (
            "TE and CL",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            HeadError::LengthAndCoding,
        ),
        (
            "differing CL",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            HeadError::SeveralLengths,
        ),
        (
            "equal CL",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            HeadError::SeveralLengths,
        ),
        (
            "list of CL",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\n",
            HeadError::Length,
        ),
        (
            "signed CL",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n",
            HeadError::Length,
        ),
        (
            "negative CL",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
            HeadError::Length,
        ),
        (
            "hexadecimal CL",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x1\r\n\r\n",
            HeadError::Length,
        ),
        (
            "empty CL",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
            HeadError::Length,
        ),
        (
            "huge CL",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551616\r\n\r\n",
            HeadError::Length,
        ),
        (
            "TE on HTTP/1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::CodingOnHttp10,
        ),
        (
            "TE without chunked",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
            HeadError::CodingNotChunked,
        ),
        (
            "TE chunked first",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
            HeadError::CodingNotChunked,
        ),
        (
            "TE twice",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::CodingNotChunked,
        ),
        (
            "TE identity",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
            HeadError::CodingNotChunked,
        ),
        (
            "TE with vertical tab",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
            HeadError::FieldValue,
        ),
        (
            "TE xchunked",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
            HeadError::CodingNotChunked,
        ),
        (
            "TE quoted",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
            HeadError::CodingNotChunked,
        ),
        (
            "TE with another coding",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            HeadError::UnknownCoding,
        ),
        ("too many fields", &too_many, HeadError::TooManyFields),
        ("too many bytes", &too_large, HeadError::TooManyBytes),
        ("long request line", &too_long, HeadError::StartLineTooLong),
        (
            "empty lines",
            "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            HeadError::EmptyLines,
        ),
    ] {
        assert_eq!(request(bytes).err(), Some(error), "{name}");
    }
}

#[test]
fn a_refusal_says_whose_limit_it_was() {
    let status = |error: HeadError| error.refusal().status.as_u16();
    assert_eq!(status(HeadError::TooManyFields), 431);
    assert_eq!(status(HeadError::TooManyBytes), 431);
    assert_eq!(status(HeadError::StartLineTooLong), 414);
    assert_eq!(status(HeadError::UnknownCoding), 501);
    assert_eq!(status(HeadError::Version), 505);
    assert_eq!(status(HeadError::LengthAndCoding), 400);
}

#[test]
fn an_endless_line_is_refused_before_its_end() {
    assert_eq!(
        request("GET /".to_owned() + &"a".repeat(2000)).err(),
        Some(HeadError::StartLineTooLong)
    );
    assert_eq!(
        request("GET / HTTP/1.1\r\na: ".to_owned() + &"a".repeat(2000)).err(),
        Some(HeadError::TooManyBytes)
    );
}

#[test]
fn responses_are_read_as_strictly() {
    let head = response("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
        .expect("accepted")
        .expect("complete");
    assert_eq!(head.status, StatusCode::OK);
    assert_eq!(
        head.framing.response_body(&Method::GET, head.status),
        BodyLength::Known(3)
    );
    assert!(
        response("HTTP/1.0 200\r\n\r\n")
            .expect("no reason phrase")
            .is_some()
    );
    for (name, bytes, error) in [
        (
            "leading line",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            HeadError::StartLine,
        ),
        ("no status", "HTTP/1.1 OK\r\n\r\n", HeadError::StartLine),
        ("status 99", "HTTP/1.1 099 OK\r\n\r\n", HeadError::StartLine),
        (
            "garbage",
            "220 smtp.example ESMTP\r\n\r\n",
            HeadError::StartLine,
        ),
        ("bare LF", "HTTP/1.1 200 OK\n\n", HeadError::BareLineFeed),
        (
            "obs-fold",
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "blank before colon",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            HeadError::FieldName,
        ),
        (
            "CL and TE",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::LengthAndCoding,
        ),
        (
            "two CL",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            HeadError::SeveralLengths,
        ),
        (
            "TE on HTTP/1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            HeadError::CodingOnHttp10,
        ),
        (
            "other TE",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            HeadError::UnknownCoding,
        ),
    ] {
        assert_eq!(response(bytes).err(), Some(error), "{name}");
    }
}

fn encoded(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8(out.to_vec()).expect("ASCII")
}

#[test]
fn a_request_goes_out_with_host_first_and_our_framing() {
    let head = accepted(
        "POST /a HTTP/1.1\r\nx-a: b\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n",
    );
    let out = encoded(|out| {
        encode::request(
            &head.method,
            &head.uri,
            &head.headers,
            BodyLength::Known(12),
            out,
        );
    });
    assert_eq!(
        out,
        "POST /a HTTP/1.1\r\nhost: h\r\nx-a: b\r\nte: trailers\r\nconnection: te\r\ncontent-length: 12\r\n\r\n"
    );
}

#[test]
fn every_form_of_target_goes_out_in_the_form_for_a_server() {
    let line = |method: Method, uri: &'static str| {
        let uri = Uri::from_static(uri);
        let out = encoded(|out| {
            encode::request(&method, &uri, &HeaderMap::new(), BodyLength::Empty, out);
        });
        out.replace("\r\n", "|")
    };
    assert_eq!(
        line(Method::GET, "http://h:1/a?b"),
        "GET /a?b HTTP/1.1|host: h:1||"
    );
    assert_eq!(
        line(Method::GET, "http://h?b"),
        "GET /?b HTTP/1.1|host: h||"
    );
    assert_eq!(line(Method::OPTIONS, "*"), "OPTIONS * HTTP/1.1|host:||");
    assert_eq!(
        line(Method::CONNECT, "h:1"),
        "CONNECT h:1 HTTP/1.1|host: h:1||"
    );
}

#[test]
fn a_response_goes_out_with_our_framing_and_persistence() {
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_static("x-a"));
    headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
    headers.insert("content-length", HeaderValue::from_static("7"));
    headers.insert("x-b", HeaderValue::from_static("c"));
    let of = |status, length, persistence| {
        encoded(|out| encode::response(status, &headers, length, persistence, out))
            .replace("\r\n", "|")
    };
    assert_eq!(
        of(
            StatusCode::OK,
            Some(BodyLength::Chunked),
            Persistence::Close
        ),
        "HTTP/1.1 200 OK|x-b: c|transfer-encoding: chunked|connection: close||"
    );
    assert_eq!(
        of(StatusCode::NOT_MODIFIED, None, Persistence::KeepAlive),
        "HTTP/1.1 304 Not Modified|content-length: 7|x-b: c|connection: keep-alive||"
    );
    let own = StatusCode::from_u16(599).expect("in range");
    assert_eq!(
        of(own, Some(BodyLength::Known(0)), Persistence::Implied),
        "HTTP/1.1 599 |x-b: c|content-length: 0||"
    );
}

#[test]
fn trailers_lose_the_fields_that_frame_or_route() {
    let section = Bytes::from_static(b"a: b\r\nContent-Length: 5\r\nHost: x\r\n\r\n");
    let trailers = parse::trailers(section, LIMITS).expect("accepted");
    assert_eq!(
        encoded(|out| encode::trailers(&trailers, out)),
        "a: b\r\n\r\n"
    );
}

/// Bytes that look like a head often enough to get deep into the parser.
fn nearly_a_head() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(b"GET / HTTP/1.1\r\n".to_vec()),
        Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Just(b"Host: a\r\n".to_vec()),
        Just(b"Content-Length: ".to_vec()),
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"a: ".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..6),
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in nearly_a_head()) {
        let _ = request(&bytes);
        let _ = response(&bytes);
        let _ = parse::trailers(Bytes::from(bytes), LIMITS);
    }

    #[test]
    fn whatever_httparse_accepts_is_a_header_value(value in proptest::collection::vec(any::<u8>(), 0..20)) {
        let head = [b"HTTP/1.1 200 OK\r\na: ", &value[..], b"\r\n\r\n"].concat();
        if let Ok(Some(head)) = response(&head) && let Some(value) = head.headers.get("a") {
            prop_assert!(HeaderValue::from_bytes(value.as_bytes()).is_ok());
        }
    }

    #[test]
    fn any_split_reads_the_same(bytes in nearly_a_head(), splits in proptest::collection::vec(0usize..200, 0..4)) {
        let whole = request(&bytes).map(|head| head.map(|head| format!("{head:?}")));
        let mut splits: Vec<_> = splits.into_iter().map(|at| at.min(bytes.len())).collect();
        splits.extend([0, bytes.len()]);
        splits.sort_unstable();
        let (mut buffer, mut end) = (BytesMut::new(), SectionEnd::default());
        let mut pieces = Ok(None);
        for range in splits.windows(2) {
            buffer.extend_from_slice(&bytes[range[0]..range[1]]);
            pieces = parse::request(&mut buffer, &mut end, LIMITS)
                .map(|head| head.map(|head| format!("{head:?}")));
            if !matches!(pieces, Ok(None)) {
                break;
            }
        }
        prop_assert_eq!(whole, pieces);
    }
}
