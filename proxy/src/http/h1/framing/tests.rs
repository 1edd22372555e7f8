use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use proptest::prelude::*;

use super::{
    BodyLength, FramingFields,
    decode::{Decoded, Decoder, FramingError},
    encode::{Encoder, WrongLength},
};
use crate::http::h1::{head::HeadLimits, outgoing::Outgoing};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 256,
    fields: 4,
};

/// What a body came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    data: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Bytes behind the body.
    rest: Vec<u8>,
}

/// Decodes `bytes` as they come in `pieces`.
fn read(length: BodyLength, bytes: &[u8], pieces: &[usize]) -> Result<Read, FramingError> {
    let mut decoder = Decoder::new(length, LIMITS);
    let mut buffer = BytesMut::new();
    let mut read = Read::default();
    let mut bounds: Vec<_> = pieces.iter().map(|at| (*at).min(bytes.len())).collect();
    bounds.extend([0, bytes.len()]);
    bounds.sort_unstable();
    for range in bounds.windows(2) {
        buffer.extend_from_slice(&bytes[range[0]..range[1]]);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    read.data.extend_from_slice(&data);
                }
                Decoded::Trailers(trailers) => read.trailers = Some(trailers),
                Decoded::End | Decoded::NeedMore => break,
            }
        }
    }
    decoder.end_of_input()?;
    read.rest = buffer.to_vec();
    Ok(read)
}

fn chunked(bytes: &str) -> Result<Read, FramingError> {
    read(BodyLength::Chunked, bytes.as_bytes(), &[])
}

#[test]
fn chunks_extensions_and_trailers_are_told_apart() {
    let read = chunked("5;a=\"b\"\r\nhello\r\n00A\r\n, world!!!\r\n0\r\nX: y\r\n\r\nNEXT")
        .expect("well-formed");
    assert_eq!(read.data, b"hello, world!!!");
    assert_eq!(read.trailers.expect("trailers")["x"], "y");
    assert_eq!(read.rest, b"NEXT");
    assert_eq!(chunked("0\r\n\r\n"), Ok(Read::default()));
}

#[test]
fn chunks_that_two_readers_might_read_differently_are_refused() {
    let long_extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5000));
    let long_trailers = format!("0\r\na: {}\r\n\r\n", "x".repeat(300));
    let many_trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(5));
    for (name, bytes, error) in [
        ("no size", "\r\n", FramingError::ChunkSize),
        ("sign", "+1\r\na\r\n0\r\n\r\n", FramingError::ChunkSize),
        ("prefix", "0x1\r\na\r\n0\r\n\r\n", FramingError::ChunkSize),
        (
            "blank before",
            " 1\r\na\r\n0\r\n\r\n",
            FramingError::ChunkSize,
        ),
        (
            "blank behind",
            "1 \r\na\r\n0\r\n\r\n",
            FramingError::ChunkSize,
        ),
        (
            "overflow",
            "10000000000000000\r\na",
            FramingError::ChunkSize,
        ),
        (
            "bare LF behind the size",
            "1\na\r\n0\r\n\r\n",
            FramingError::ChunkSize,
        ),
        (
            "bare LF behind an extension",
            "1;a\nb\r\n0\r\n\r\n",
            FramingError::ChunkExtension,
        ),
        (
            "control in an extension",
            "1;\0\r\na\r\n0\r\n\r\n",
            FramingError::ChunkExtension,
        ),
        (
            "bare CR in an extension",
            "1;a\rb\r\na\r\n0\r\n\r\n",
            FramingError::ChunkEnd,
        ),
        (
            "bare CR behind the size",
            "1\ra\r\n0\r\n\r\n",
            FramingError::ChunkEnd,
        ),
        (
            "too much data",
            "1\r\nab\r\n0\r\n\r\n",
            FramingError::ChunkEnd,
        ),
        (
            "bare LF behind the data",
            "1\r\na\n0\r\n\r\n",
            FramingError::ChunkEnd,
        ),
        (
            "endless extensions",
            &long_extension,
            FramingError::ChunkExtension,
        ),
        (
            "bare LF in the trailers",
            "0\r\na: b\n\r\n",
            FramingError::Trailers,
        ),
        (
            "bare LF for the trailers",
            "0\r\n\n",
            FramingError::Trailers,
        ),
        (
            "fold in the trailers",
            "0\r\na: b\r\n c\r\n\r\n",
            FramingError::Trailers,
        ),
        ("large trailers", &long_trailers, FramingError::Trailers),
        ("many trailers", &many_trailers, FramingError::Trailers),
        ("cut in a size", "5", FramingError::Truncated),
        ("cut in the data", "5\r\nhel", FramingError::Truncated),
        (
            "cut before the last chunk",
            "1\r\na\r\n",
            FramingError::Truncated,
        ),
        (
            "cut in the last chunk",
            "1\r\na\r\n0\r\n",
            FramingError::Truncated,
        ),
        (
            "cut in the trailers",
            "0\r\na: b\r\n",
            FramingError::Truncated,
        ),
    ] {
        assert_eq!(chunked(bytes), Err(error), "{name}");
    }
}

#[test]
fn the_largest_chunk_size_does_not_overflow() {
    let mut decoder = Decoder::new(BodyLength::Chunked, LIMITS);
    let mut buffer = BytesMut::from("ffffffffffffffff\r\nab");
    assert_eq!(
        decoder.decode(&mut buffer),
        Ok(Decoded::Data(Bytes::from_static(b"ab")))
    );
}

#[test]
fn a_known_length_leaves_what_is_behind_it() {
    let read = |bytes: &[u8], length| read(BodyLength::Known(length), bytes, &[]);
    let whole = read(b"abcNEXT", 3).expect("whole");
    assert_eq!(
        (&whole.data[..], &whole.rest[..]),
        (&b"abc"[..], &b"NEXT"[..])
    );
    assert_eq!(read(b"ab", 3), Err(FramingError::Truncated));
    assert_eq!(read(b"", 0), Ok(Read::default()));
}

#[test]
fn a_body_until_close_is_whole_when_the_connection_ends() {
    let read = read(BodyLength::UntilClose, b"abc", &[1]).expect("whole");
    assert_eq!(read.data, b"abc");
}

fn fields(pairs: &[(header::HeaderName, &'static str)]) -> FramingFields {
    let mut fields = FramingFields::default();
    for (name, value) in pairs {
        let value = HeaderValue::from_static(value);
        fields.note(name, &value).expect("well-formed");
    }
    fields
}

#[test]
fn the_end_of_a_response_depends_on_what_was_asked() {
    let length = fields(&[(header::CONTENT_LENGTH, "5")]);
    let chunked = fields(&[(header::TRANSFER_ENCODING, "Chunked")]);
    let nothing = fields(&[]);
    let body = |fields: &FramingFields, method: Method, status: u16| {
        fields.response_body(&method, StatusCode::from_u16(status).expect("a status"))
    };
    assert_eq!(body(&length, Method::GET, 200), BodyLength::Known(5));
    assert_eq!(body(&chunked, Method::GET, 200), BodyLength::Chunked);
    assert_eq!(body(&nothing, Method::GET, 200), BodyLength::UntilClose);
    assert_eq!(body(&length, Method::HEAD, 200), BodyLength::Empty);
    assert_eq!(body(&chunked, Method::HEAD, 200), BodyLength::Empty);
    assert_eq!(body(&length, Method::GET, 304), BodyLength::Empty);
    assert_eq!(body(&length, Method::GET, 204), BodyLength::Empty);
    assert_eq!(body(&nothing, Method::GET, 101), BodyLength::Empty);
    assert_eq!(body(&length, Method::CONNECT, 200), BodyLength::Empty);
    assert_eq!(body(&length, Method::CONNECT, 403), BodyLength::Known(5));
    assert_eq!(nothing.request_body(&Method::POST), BodyLength::Empty);
    assert_eq!(length.request_body(&Method::CONNECT), BodyLength::Empty);
}

#[test]
fn a_connection_persists_as_both_versions_say() {
    let close = fields(&[(header::CONNECTION, "x, Close")]);
    let keep = fields(&[(header::CONNECTION, "Keep-Alive")]);
    let both = fields(&[
        (header::CONNECTION, "keep-alive"),
        (header::CONNECTION, "close"),
    ]);
    let persists = |fields: FramingFields| {
        (
            fields.persists(Version::HTTP_11),
            fields.persists(Version::HTTP_10),
        )
    };
    assert_eq!(persists(FramingFields::default()), (true, false));
    assert_eq!(persists(close), (false, false));
    assert_eq!(persists(keep), (true, true));
    assert_eq!(persists(both), (false, false));
}

#[test]
fn a_body_of_another_length_than_announced_is_an_error() {
    let mut out = Outgoing::default();
    let mut encoder = Encoder::new(BodyLength::Known(3));
    encoder
        .data(Bytes::from_static(b"ab"), &mut out)
        .expect("fits");
    assert_eq!(encoder.end(None, &mut out), Err(WrongLength), "too short");
    assert_eq!(
        encoder.data(Bytes::from_static(b"cd"), &mut out),
        Err(WrongLength),
        "too long"
    );
    let mut none = Encoder::new(BodyLength::Empty);
    assert_eq!(
        none.data(Bytes::from_static(b"a"), &mut out),
        Err(WrongLength)
    );
}

fn encode(pieces: &[Vec<u8>], trailers: Option<&HeaderMap>) -> Vec<u8> {
    let mut encoder = Encoder::new(BodyLength::Chunked);
    let mut out = Outgoing::default();
    for piece in pieces {
        encoder
            .data(Bytes::from(piece.clone()), &mut out)
            .expect("chunks have any length");
    }
    encoder
        .end(trailers, &mut out)
        .expect("chunks end any time");
    out.slices()
        .iter()
        .flat_map(|slice| slice.to_vec())
        .collect()
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded_however_it_is_split(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        with_trailers: bool,
        splits in proptest::collection::vec(0usize..400, 0..6),
    ) {
        let mut trailers = HeaderMap::new();
        trailers.insert("a", HeaderValue::from_static("b"));
        let trailers = with_trailers.then_some(trailers);
        let bytes = encode(&pieces, trailers.as_ref());
        let read = read(BodyLength::Chunked, &bytes, &splits);
        prop_assert_eq!(read, Ok(Read { data: pieces.concat(), trailers, rest: Vec::new() }));
    }

    #[test]
    fn any_split_of_any_bytes_reads_the_same(
        pieces in proptest::collection::vec(
            prop_oneof![
                Just(b"5\r\nhello\r\n".to_vec()),
                Just(b"0\r\n".to_vec()),
                Just(b"\r\n".to_vec()),
                Just(b"a: b\r\n".to_vec()),
                Just(b"1;x=y\r\n".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..4),
            ],
            0..10,
        ),
        splits in proptest::collection::vec(0usize..100, 0..6),
    ) {
        let bytes = pieces.concat();
        prop_assert_eq!(
            read(BodyLength::Chunked, &bytes, &[]),
            read(BodyLength::Chunked, &bytes, &splits)
        );
    }
}
