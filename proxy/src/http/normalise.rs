//! One form for every path and host, before anything looks at them.
//!
//! Routing, authorization and the upstream see the same bytes, so that no two of them can read one
//! request differently (CVE-2021-31920, CVE-2021-39155). What is decided here:
//!
//! - escapes of unreserved characters are decoded, all others have upper-case digits (RFC 3986 section 6.2.2);
//! - `.` and `..` segments are removed (RFC 3986 section 5.2.4), however they were escaped;
//! - runs of `/` become one;
//! - `%2F` and `%5C` stay escaped, as registries and repositories use them in names, and a policy
//!   matches them as these three characters. A segment that would hold a dot segment if they were
//!   decoded is refused: no application may be led to another path than the one that was authorized;
//! - a raw backslash, a fragment, `%00` and a broken escape are refused;
//! - the query is passed on as it is.

use std::borrow::Cow;

/// Why a request target is refused with 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// It starts with neither `/` nor `*`.
    #[error("the path does not start with a slash")]
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    #[error("the path has a % without two hexadecimal digits")]
    BrokenEscape,
    /// A raw `\`, `#` or a control character, or the escape of NUL.
    #[error("the path has a backslash, a fragment or a control character")]
    ForbiddenCharacter,
    /// `..%2F` and its relatives.
    #[error("the path hides a dot segment behind an escaped slash")]
    HiddenDotSegment,
}

/// Normalises the path of a request target in origin form, its query included.
///
/// Idempotent, and free of allocation when there is nothing to do.
pub fn path_and_query(target: &str) -> Result<Cow<'_, str>, InvalidPath> {
    let (path, query) = match target.find('?') {
        Some(at) => target.split_at(at),
        None => (target, ""),
    };
    if target.contains('#') {
        return Err(InvalidPath::ForbiddenCharacter);
    }
    match path_only(path)? {
        Cow::Borrowed(_) => Ok(Cow::Borrowed(target)),
        Cow::Owned(path) => Ok(Cow::Owned(path + query)),
    }
}

/// A host in lower case, as it stands in `Host` or `:authority`.
pub fn host(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|c| c.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

fn path_only(path: &str) -> Result<Cow<'_, str>, InvalidPath> {
    // `OPTIONS *` (RFC 9112 section 3.2.4).
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    if !path.starts_with('/') {
        return Err(InvalidPath::NotAbsolute);
    }
    // Every request passes here: one look at every character costs less than one search for each of these.
    let mut normal = true;
    let mut before = None;
    for c in path.bytes() {
        match (before, c) {
            (_, b'\\') => return Err(InvalidPath::ForbiddenCharacter),
            (_, c) if c.is_ascii_control() => return Err(InvalidPath::ForbiddenCharacter),
            (_, b'%') | (Some(b'/'), b'/' | b'.') => normal = false,
            _ => {}
        }
        before = Some(c);
    }
    if normal {
        return Ok(Cow::Borrowed(path));
    }
    let path = decode_unreserved(path)?;
    if path.split('/').any(hides_dot_segment) {
        return Err(InvalidPath::HiddenDotSegment);
    }
    Ok(Cow::Owned(remove_dot_segments(&path)))
}

/// Decodes what needs no escape and gives the rest upper-case digits.
fn decode_unreserved(path: &str) -> Result<String, InvalidPath> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest
            .as_bytes()
            .get(at + 1..at + 3)
            .ok_or(InvalidPath::BrokenEscape)?;
        let digit = |c: u8| char::from(c).to_digit(16);
        let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else {
            return Err(InvalidPath::BrokenEscape);
        };
        match u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte") {
            0 => return Err(InvalidPath::ForbiddenCharacter),
            c if c.is_ascii_alphanumeric() || b"-._~".contains(&c) => decoded.push(char::from(c)),
            _ => {
                decoded.push('%');
                decoded.extend(digits.iter().map(|c| char::from(c.to_ascii_uppercase())));
            }
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Ok(decoded)
}

/// Whether a segment, already decoded as far as we decode, holds a dot segment for who decodes slashes too.
fn hides_dot_segment(segment: &str) -> bool {
    (segment.contains("%2F") || segment.contains("%5C"))
        && segment
            .split("%2F")
            .flat_map(|part| part.split("%5C"))
            .any(|part| part == "." || part == "..")
}

/// Removes dot segments and empty ones. A path that ended in either still ends in a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut directory = false;
    for segment in path.split('/').skip(1) {
        directory = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let mut out = String::with_capacity(path.len());
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if directory || kept.is_empty() {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_have_one_form() {
        for (given, normal) in [
            ("/", "/"),
            ("*", "*"),
            ("/a/b?x=1", "/a/b?x=1"),
            ("//", "/"),
            ("//a///b//", "/a/b/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/../../a", "/a"),
            ("/a/%2e%2E/b", "/b"),
            ("/%7euser/%41", "/~user/A"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%5cb", "/a%5Cb"),
            ("/a%3ab%20c", "/a%3Ab%20c"),
            ("/%25%32%65", "/%252e"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/..b/c.", "/a/..b/c."),
            ("/a/../b?u=/x/../y//%2e%zz", "/b?u=/x/../y//%2e%zz"),
            ("/%e2%82%ac", "/%E2%82%AC"),
        ] {
            assert_eq!(path_and_query(given).as_deref(), Ok(normal), "{given}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        use InvalidPath::*;
        for (given, why) in [
            ("", NotAbsolute),
            ("a", NotAbsolute),
            ("?x", NotAbsolute),
            ("/a\\b", ForbiddenCharacter),
            ("/a#b", ForbiddenCharacter),
            ("/a?b#c", ForbiddenCharacter),
            ("/a\tb", ForbiddenCharacter),
            ("/a%00b", ForbiddenCharacter),
            ("/a%", BrokenEscape),
            ("/a%2", BrokenEscape),
            ("/a%2g", BrokenEscape),
            ("/a%+1", BrokenEscape),
            ("/a/..%2fb", HiddenDotSegment),
            ("/a/%2e%2e%2fb", HiddenDotSegment),
            ("/a/b%5c..", HiddenDotSegment),
            ("/a/b%2F.%5Cc", HiddenDotSegment),
        ] {
            assert_eq!(path_and_query(given), Err(why), "{given}");
        }
    }

    #[test]
    fn what_is_normal_already_is_not_copied() {
        assert!(matches!(path_and_query("/a/b?c=%2e"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn hosts_are_in_lower_case() {
        assert_eq!(host("User.Demo:80"), "user.demo:80");
        assert!(matches!(host("user.demo"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing_more(path in "/[a-c./%2eEfF5C~?-]{0,40}") {
            if let Ok(once) = path_and_query(&path) {
                prop_assert_eq!(path_and_query(&once), Ok(once.clone()));
            }
        }
    }
}
