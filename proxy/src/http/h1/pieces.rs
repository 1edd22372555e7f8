//! Heads in and out, one at a time, for the instruction counts of `benches/instructions`.

use std::hint::black_box;

use bytes::BytesMut;

use super::{
    framing::BodyLength,
    head::{
        HeadLimits,
        encode::{self, Persistence},
        parse::{self, SectionEnd},
    },
};
use crate::http::limits::HttpLimits;

/// A request as a command-line client or a service sends it.
pub(crate) const REQUEST: &[u8] = b"GET /orders/4711/items?page=2 HTTP/1.1\r\n\
    Host: order.demo.svc.cluster.local:8080\r\n\
    User-Agent: curl/8.5.0\r\n\
    Accept: */*\r\n\
    Accept-Encoding: gzip, deflate\r\n\
    X-Request-Id: 6b1f39b4-6f7e-4f0c-9d9a-7c54f6f5a1d2\r\n\
    \r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: demo\r\n\
    Date: Sat, 21 Nov 2026 12:00:00 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 1024\r\n\
    \r\n";

fn limits() -> HeadLimits {
    HeadLimits::from(&HttpLimits::default())
}

/// Parses the head of a request.
pub(crate) fn parse_request() -> impl FnMut() {
    let (limits, mut buffer) = (limits(), BytesMut::new());
    move || {
        buffer.extend_from_slice(REQUEST);
        let head = parse::request(&mut buffer, &mut SectionEnd::default(), limits);
        black_box(head.expect("well-formed").expect("complete"));
    }
}

/// Parses the head of a response.
pub(crate) fn parse_response() -> impl FnMut() {
    let (limits, mut buffer) = (limits(), BytesMut::new());
    move || {
        buffer.extend_from_slice(RESPONSE);
        let head = parse::response(&mut buffer, &mut SectionEnd::default(), limits);
        black_box(head.expect("well-formed").expect("complete"));
    }
}

/// Writes the head of a request.
pub(crate) fn encode_request() -> impl FnMut() {
    let mut buffer = BytesMut::from(REQUEST);
    let head = parse::request(&mut buffer, &mut SectionEnd::default(), limits())
        .expect("well-formed")
        .expect("complete");
    move || {
        buffer.clear();
        let length = BodyLength::Empty;
        encode::request(
            &head.method,
            &head.uri,
            &head.headers,
            length,
            black_box(&mut buffer),
        );
    }
}

/// Writes the head of a response.
pub(crate) fn encode_response() -> impl FnMut() {
    let mut buffer = BytesMut::from(RESPONSE);
    let head = parse::response(&mut buffer, &mut SectionEnd::default(), limits())
        .expect("well-formed")
        .expect("complete");
    move || {
        buffer.clear();
        let length = Some(BodyLength::Known(1024));
        encode::response(
            head.status,
            &head.headers,
            length,
            Persistence::Implied,
            black_box(&mut buffer),
        );
    }
}
