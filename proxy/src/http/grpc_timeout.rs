//! The `grpc-timeout` header (grpc/grpc `doc/PROTOCOL-HTTP2.md`, Timeout): how long the caller will wait.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// The header.
pub const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The timeout of a call; `None` when it has none, or one that is malformed.
pub fn of(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(GRPC_TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

/// Tells the next hop how much is left, in the finest unit that fits eight digits.
pub fn set(headers: &mut HeaderMap, left: Duration) {
    const MAX: u128 = 99_999_999;
    let text = [
        (left.as_nanos(), "n"),
        (left.as_micros(), "u"),
        (left.as_millis(), "m"),
        (u128::from(left.as_secs()), "S"),
        (u128::from(left.as_secs() / 60), "M"),
    ]
    .into_iter()
    .find(|(value, _)| *value <= MAX)
    .map_or_else(
        || format!("{}H", (left.as_secs() / 3600).min(99_999_999)),
        |(value, unit)| format!("{value}{unit}"),
    );
    headers.insert(
        GRPC_TIMEOUT,
        HeaderValue::from_str(&text).expect("digits and a letter are visible ASCII"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &'static str) -> Option<Duration> {
        of(&HeaderMap::from_iter([(
            GRPC_TIMEOUT,
            HeaderValue::from_static(text),
        )]))
    }

    #[test]
    fn timeouts_are_read_strictly() {
        for (text, timeout) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("3S", Some(Duration::from_secs(3))),
            ("100m", Some(Duration::from_millis(100))),
            ("7u", Some(Duration::from_micros(7))),
            ("99999999n", Some(Duration::from_nanos(99_999_999))),
            ("123456789n", None),
            ("", None),
            ("S", None),
            ("1", None),
            ("-1S", None),
            ("1.5S", None),
            ("1s", None),
        ] {
            assert_eq!(parsed(text), timeout, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for left in [
            Duration::ZERO,
            Duration::from_nanos(5),
            Duration::from_millis(250),
            Duration::from_secs(90),
            Duration::from_secs(99_999_999),
        ] {
            let mut headers = HeaderMap::new();
            set(&mut headers, left);
            assert_eq!(of(&headers), Some(left));
        }
    }
}
