//! Trace context: read in W3C and B3 form, continued with a span of our own, written back.
//!
//! `traceparent` wins over `b3`, which wins over `x-b3-*`. What came in is rewritten in its own form, and
//! `traceparent` is always written, so that both kinds of application see the same trace. Exporting spans
//! is not done here.

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE_ID: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT_SPAN_ID: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// A place in a trace: the span of the proxy and what it descends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace, never zero.
    pub trace_id: u128,
    /// The span of this proxy, never zero.
    pub span_id: u64,
    /// The span that called, if the trace did not begin here.
    pub parent_id: Option<u64>,
    /// Whether the spans of this trace are recorded.
    pub sampled: bool,
}

/// What a caller said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Incoming {
    trace_id: u128,
    span_id: u64,
    /// Absent when the decision is left to us (B3 only).
    sampled: Option<bool>,
}

/// Continues the trace of a request, or begins one, and writes it into the headers for the next hop.
///
/// `sampling` is the share of new traces that are recorded, from 0 to 1.
pub fn enter(headers: &mut HeaderMap, sampling: f64, rng: &mut Rng) -> Context {
    let w3c = headers.get(TRACEPARENT).and_then(parse_traceparent);
    if w3c.is_none() {
        // W3C Trace Context section 3.3: without a valid traceparent, tracestate means nothing.
        headers.remove(TRACESTATE);
    }
    let b3 = B3Form::of(headers);
    let incoming = w3c.or_else(|| b3.and_then(|form| form.parse(headers)));
    let sampled = incoming
        .and_then(|incoming| incoming.sampled)
        .or_else(|| b3.and_then(|form| form.decision(headers)))
        .unwrap_or_else(|| sampling > 0.0 && rng.f64() < sampling);
    let context = Context {
        trace_id: incoming.map_or_else(|| rng.u128(1..), |incoming| incoming.trace_id),
        span_id: rng.u64(1..),
        parent_id: incoming.map(|incoming| incoming.span_id),
        sampled,
    };
    headers.insert(TRACEPARENT, context.traceparent());
    if let Some(form) = b3 {
        form.write(&context, headers);
    }
    context
}

/// Gives the request an id: a random UUID (RFC 9562 section 5.4), unless the caller gave it one.
pub fn set_request_id(headers: &mut HeaderMap, rng: &mut Rng) {
    headers
        .entry(REQUEST_ID)
        .or_insert_with(|| uuid_v4(rng.u128(..)));
}

/// The id of the request, once it has one.
pub fn request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(REQUEST_ID)
}

impl Context {
    fn traceparent(&self) -> HeaderValue {
        let mut text = *b"00-tttttttttttttttttttttttttttttttt-ssssssssssssssss-00";
        write_hex(self.trace_id, &mut text[3..35]);
        write_hex(self.span_id.into(), &mut text[36..52]);
        write_hex(self.sampled.into(), &mut text[53..]);
        value(&text)
    }
}

/// W3C Trace Context section 3.2, strictly: lower case, version ff forbidden, ids not zero, exact length
/// in version 00, anything after a further hyphen in versions to come.
fn parse_traceparent(header: &HeaderValue) -> Option<Incoming> {
    let (head, rest) = header.as_bytes().split_at_checked(55)?;
    if [head[2], head[35], head[52]] != *b"---" || head.iter().any(u8::is_ascii_uppercase) {
        return None;
    }
    let well_formed = match &head[..2] {
        b"ff" => false,
        b"00" => rest.is_empty(),
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    if !well_formed {
        return None;
    }
    hex(&head[..2])?;
    Some(Incoming {
        trace_id: hex(&head[3..35]).filter(|id| *id != 0)?,
        span_id: hex(&head[36..52]).filter(|id| *id != 0)?.try_into().ok()?,
        sampled: Some(hex(&head[53..])? & 1 == 1),
    })
}

/// The two ways in which B3 travels (openzipkin/b3-propagation).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum B3Form {
    Single,
    Multi,
}

impl B3Form {
    fn of(headers: &HeaderMap) -> Option<Self> {
        // One look at every name costs less than to look up four that are hardly ever there.
        let mut multi = false;
        for name in headers.keys() {
            if *name == B3 {
                return Some(Self::Single);
            }
            multi |= *name == B3_TRACE_ID || *name == B3_SAMPLED || *name == B3_FLAGS;
        }
        multi.then_some(Self::Multi)
    }

    fn parse(self, headers: &HeaderMap) -> Option<Incoming> {
        let (trace_id, span_id) = match self {
            Self::Single => {
                let mut parts = text(headers, &B3)?.split('-');
                (parts.next()?, parts.next()?)
            }
            Self::Multi => (text(headers, &B3_TRACE_ID)?, text(headers, &B3_SPAN_ID)?),
        };
        if !matches!(trace_id.len(), 16 | 32) || span_id.len() != 16 {
            return None;
        }
        Some(Incoming {
            trace_id: hex(trace_id.as_bytes()).filter(|id| *id != 0)?,
            span_id: hex(span_id.as_bytes())
                .filter(|id| *id != 0)?
                .try_into()
                .ok()?,
            sampled: self.decision(headers),
        })
    }

    /// The sampling decision, which may come without any id.
    fn decision(self, headers: &HeaderMap) -> Option<bool> {
        let state = match self {
            Self::Single => {
                let single = text(headers, &B3)?;
                single.split('-').nth(2).unwrap_or(single)
            }
            Self::Multi if text(headers, &B3_FLAGS) == Some("1") => "d",
            Self::Multi => text(headers, &B3_SAMPLED)?,
        };
        match state {
            "1" | "d" | "true" => Some(true),
            "0" | "false" => Some(false),
            _ => None,
        }
    }

    fn write(self, context: &Context, headers: &mut HeaderMap) {
        let sampled = if context.sampled { b"1" } else { b"0" };
        match self {
            Self::Single => {
                let mut single =
                    *b"tttttttttttttttttttttttttttttttt-ssssssssssssssss-0-pppppppppppppppp";
                write_hex(context.trace_id, &mut single[..32]);
                write_hex(context.span_id.into(), &mut single[33..49]);
                single[50] = sampled[0];
                let single = match context.parent_id {
                    Some(parent_id) => {
                        write_hex(parent_id.into(), &mut single[52..]);
                        &single[..]
                    }
                    None => &single[..51],
                };
                headers.insert(B3, value(single));
            }
            Self::Multi => {
                headers.insert(B3_TRACE_ID, value(&hex_digits::<32>(context.trace_id)));
                headers.insert(B3_SPAN_ID, span(context.span_id));
                match context.parent_id {
                    Some(parent_id) => headers.insert(B3_PARENT_SPAN_ID, span(parent_id)),
                    None => headers.remove(B3_PARENT_SPAN_ID),
                };
                // The debug flag implies the decision and is passed on in its place.
                if !headers.contains_key(B3_FLAGS) {
                    headers.insert(B3_SAMPLED, value(sampled));
                }
            }
        }
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// The number that so many hexadecimal digits mean, 32 at most.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(number << 4 | u128::from(digit))
    })
}

fn uuid_v4(random: u128) -> HeaderValue {
    const VERSION: u128 = 0xf << 76;
    const VARIANT: u128 = 0b11 << 62;
    let bits = random & !VERSION & !VARIANT | 0x4 << 76 | 0b10 << 62;
    let digits = hex_digits::<32>(bits);
    let mut text = *b"xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx";
    text[..8].copy_from_slice(&digits[..8]);
    text[9..13].copy_from_slice(&digits[8..12]);
    text[14..18].copy_from_slice(&digits[12..16]);
    text[19..23].copy_from_slice(&digits[16..20]);
    text[24..].copy_from_slice(&digits[20..]);
    value(&text)
}

fn span(id: u64) -> HeaderValue {
    value(&hex_digits::<16>(id.into()))
}

fn hex_digits<const N: usize>(number: u128) -> [u8; N] {
    let mut digits = [0; N];
    write_hex(number, &mut digits);
    digits
}

/// Fills `out`, whose length is even, with the last digits of a number. Every request passes here, and formatting would
/// cost ten times as much.
fn write_hex(number: u128, out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bytes = number.to_be_bytes();
    let first = bytes.len() - out.len() / 2;
    for (digits, byte) in out.chunks_exact_mut(2).zip(&bytes[first..]) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 0xf)];
    }
}

fn value(text: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(text).expect("hexadecimal digits and hyphens are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
    const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, text)| (HeaderName::from_static(name), value(text.as_bytes())))
            .collect()
    }

    fn entered(fields: &[(&'static str, &str)]) -> (Context, HeaderMap) {
        let mut headers = map(fields);
        let context = enter(&mut headers, 0.0, &mut Rng::with_seed(7));
        (context, headers)
    }

    #[test]
    fn a_trace_is_continued_with_a_span_of_our_own() {
        let (context, headers) = entered(&[
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ),
            ("tracestate", "vendor=1"),
        ]);
        assert_eq!(
            (context.trace_id, context.parent_id, context.sampled),
            (TRACE, Some(SPAN), true)
        );
        assert_ne!(context.span_id, SPAN);
        assert_eq!(headers.get("traceparent").unwrap(), &context.traceparent());
        assert_eq!(headers.get("tracestate").unwrap(), "vendor=1");
    }

    #[test]
    fn a_malformed_traceparent_begins_a_new_trace_without_its_state() {
        for malformed in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1g",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        ] {
            let (context, headers) = entered(&[("traceparent", malformed), ("tracestate", "a=b")]);
            assert_eq!(context.parent_id, None, "{malformed}");
            assert!(!headers.contains_key("tracestate"), "{malformed}");
        }
    }

    #[test]
    fn a_later_version_of_traceparent_may_be_longer() {
        let (context, _) = entered(&[(
            "traceparent",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more",
        )]);
        assert_eq!((context.trace_id, context.sampled), (TRACE, false));
    }

    #[test]
    fn b3_is_read_and_written_in_the_form_it_came() {
        let (context, headers) = entered(&[(
            "b3",
            "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-05e3ac9a4f6e3b90",
        )]);
        assert_eq!(
            (context.trace_id, context.parent_id, context.sampled),
            (TRACE, Some(SPAN), true)
        );
        assert_eq!(
            headers.get("b3").unwrap(),
            &format!(
                "4bf92f3577b34da6a3ce929d0e0e4736-{:016x}-1-00f067aa0ba902b7",
                context.span_id
            )
        );
        assert_eq!(headers.get("traceparent").unwrap(), &context.traceparent());

        let (context, headers) = entered(&[
            ("x-b3-traceid", "a3ce929d0e0e4736"),
            ("x-b3-spanid", "00f067aa0ba902b7"),
            ("x-b3-flags", "1"),
        ]);
        assert_eq!(
            (context.trace_id, context.sampled),
            (0xa3ce_929d_0e0e_4736, true)
        );
        assert_eq!(
            headers.get("x-b3-spanid").unwrap(),
            &format!("{:016x}", context.span_id)
        );
        assert_eq!(
            headers.get("x-b3-parentspanid").unwrap(),
            "00f067aa0ba902b7"
        );
        assert!(!headers.contains_key("b3"));
        assert!(!headers.contains_key("x-b3-sampled"));
    }

    #[test]
    fn a_decision_alone_is_obeyed() {
        assert!(entered(&[("b3", "1")]).0.sampled);
        assert!(entered(&[("x-b3-sampled", "1")]).0.sampled);
        let mut headers = map(&[("b3", "0")]);
        assert!(!enter(&mut headers, 1.0, &mut Rng::with_seed(7)).sampled);
    }

    #[test]
    fn a_new_trace_is_sampled_at_the_given_share() {
        let mut rng = Rng::with_seed(7);
        let mut sampled = |share| {
            (0..1000)
                .filter(|_| enter(&mut HeaderMap::new(), share, &mut rng).sampled)
                .count()
        };
        assert_eq!((sampled(0.0), sampled(1.0)), (0, 1000));
        assert!((50..200).contains(&sampled(0.1)));
    }

    #[test]
    fn a_request_id_is_kept_or_made() {
        let mut rng = Rng::with_seed(7);
        let mut headers = map(&[("x-request-id", "mine")]);
        set_request_id(&mut headers, &mut rng);
        assert_eq!(request_id(&headers).unwrap(), "mine");
        let mut headers = HeaderMap::new();
        set_request_id(&mut headers, &mut rng);
        assert_eq!(request_id(&headers).unwrap().len(), 36);
        assert_eq!(uuid_v4(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid_v4(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
