//! How long an endpoint asks to be left alone: `Retry-After` (RFC 9110 section 10.2.3), and for gRPC
//! `grpc-retry-pushback-ms` (gRFC A6).

use http::{HeaderMap, HeaderName, header::RETRY_AFTER};
use std::time::{Duration, SystemTime};

pub(super) const GRPC_RETRY_PUSHBACK: HeaderName =
    HeaderName::from_static("grpc-retry-pushback-ms");

/// What it asks for; `None` when it asks for nothing, or in a way that is malformed. A date that is past asks for
/// no time at all.
pub fn of(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if let Some(pushback) = headers.get(GRPC_RETRY_PUSHBACK) {
        // gRFC A6: what is no number of milliseconds says not to try again.
        let millis = pushback.to_str().ok().and_then(|text| text.parse().ok());
        return Some(millis.map_or(Duration::MAX, Duration::from_millis));
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()) {
        // More seconds than fit are an eternity, not nonsense.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn asked(text: &'static str) -> Option<Duration> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:00 GMT").unwrap();
        of(&headers, now)
    }

    #[test]
    fn seconds_and_dates_are_read_and_nothing_else() {
        let seconds = Duration::from_secs;
        for (text, time) in [
            ("0", Some(seconds(0))),
            ("120", Some(seconds(120))),
            ("99999999999999999999999", Some(seconds(u64::MAX))),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(seconds(37))),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(seconds(37))),
            ("Sun Nov  6 08:49:37 1994", Some(seconds(37))),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(seconds(0))),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(asked(text), time, "{text}");
        }
        assert_eq!(of(&HeaderMap::new(), SystemTime::now()), None);
    }

    #[test]
    fn a_grpc_server_asks_in_milliseconds_or_for_good() {
        for (text, time) in [
            ("20", Duration::from_millis(20)),
            ("0", Duration::ZERO),
            ("-1", Duration::MAX),
            ("soon", Duration::MAX),
        ] {
            let fields = [
                (GRPC_RETRY_PUSHBACK, HeaderValue::from_static(text)),
                (RETRY_AFTER, HeaderValue::from_static("1")),
            ];
            let headers = HeaderMap::from_iter(fields);
            assert_eq!(of(&headers, SystemTime::now()), Some(time), "{text}");
        }
    }
}
