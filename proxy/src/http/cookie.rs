//! Cookies (RFC 6265), as far as a proxy has to know them.

use crate::snapshot::route::IssuedCookie;
use http::{HeaderMap, HeaderValue, header::COOKIE};

/// The value of a cookie that a request brings, without quotes.
pub fn value<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|field| field.as_bytes().split(|&c| c == b';'))
        .filter_map(|pair| {
            let equals = memchr::memchr(b'=', pair)?;
            let (key, value) = (&pair[..equals], &pair[equals + 1..]);
            (key.trim_ascii() == name.as_bytes()).then(|| unquoted(value.trim_ascii()))
        })
        .next()
}

/// The `Set-Cookie` that gives a caller a cookie. `None` when no field can say so.
pub fn issue(name: &str, value: &str, issued: &IssuedCookie) -> Option<HeaderValue> {
    let mut cookie = format!("{name}={value}");
    if !issued.ttl.is_zero() {
        cookie.push_str(&format!("; Max-Age={}", issued.ttl.as_secs()));
    }
    cookie.push_str(&issued.attributes);
    cookie.push_str("; HttpOnly");
    cookie.try_into().ok()
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        value => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_cookie_is_found_among_others() {
        for (fields, found) in [
            (&["user=ann"][..], Some(&b"ann"[..])),
            (&["a=1; user=ann;b=2"], Some(b"ann")),
            (&["a=1", "user=ann"], Some(b"ann")),
            (&["user=\"ann\""], Some(b"ann")),
            (&["user=a=b"], Some(b"a=b")),
            (&["user="], Some(b"")),
            (&["user"], None),
            (&["xuser=ann"], None),
            (&[], None),
        ] {
            let headers: HeaderMap = fields
                .iter()
                .map(|field| (COOKIE, HeaderValue::from_static(field)))
                .collect();
            assert_eq!(value(&headers, "user"), found, "{fields:?}");
        }
    }

    #[test]
    fn a_cookie_is_issued_with_its_life_and_attributes() {
        let issued = |seconds, attributes: &str| IssuedCookie {
            ttl: Duration::from_secs(seconds),
            attributes: attributes.into(),
        };
        assert_eq!(
            issue("user", "1f", &issued(3600, "; Path=/; SameSite=Lax")).unwrap(),
            "user=1f; Max-Age=3600; Path=/; SameSite=Lax; HttpOnly"
        );
        assert_eq!(
            issue("user", "1f", &issued(0, "")).unwrap(),
            "user=1f; HttpOnly"
        );
    }
}
