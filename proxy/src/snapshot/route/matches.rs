//! What a request must be like for a route.

use crate::snapshot::pattern::Pattern;
use http::{HeaderName, Method};
use std::{ops::Range, sync::Arc};

/// A match on the path, query excluded (`RouteMatch.path_specifier`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// A prefix of characters (`prefix`).
    Prefix(Arc<str>),
    /// A prefix of whole segments (`path_separated_prefix`).
    SegmentPrefix(Arc<str>),
    /// The whole path (`safe_regex`).
    Regex(Pattern),
}

/// What a request must have besides its path. All of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    /// Its method.
    pub method: Option<Method>,
    /// `RouteMatch.headers`.
    pub headers: Box<[HeaderMatch]>,
    /// `RouteMatch.query_parameters`.
    pub query: Box<[QueryMatch]>,
    /// `RouteMatch.grpc`: it must be a gRPC call.
    pub grpc: bool,
}

/// A condition on a header field (`HeaderMatcher`).
///
/// One that the request does not have meets no condition on its value, not even an inverted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Which.
    pub field: Field,
    /// What it must be like.
    pub value: ValueMatch,
    /// The opposite is asked for (`invert_match`).
    pub invert: bool,
    /// A field that is not there is like an empty one (`treat_missing_header_as_empty`).
    pub absent_is_empty: bool,
}

/// A header field, or what HTTP/2 sends like one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A field by its name.
    Named(HeaderName),
    /// `:method`.
    Method,
    /// `:authority`, or `host`.
    Authority,
    /// `:path`, which includes the query.
    Path,
}

/// What the value of a field must be like. Several of one name are one value, joined by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// Anything, as long as it is there.
    Present,
    /// A text.
    Text(TextMatch),
    /// A number in base 10 (`range_match`).
    Range(Range<i64>),
}

/// What a text must be like (`StringMatcher`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextMatch {
    /// This.
    Exact(Box<str>),
    /// Begin so.
    Prefix(Box<str>),
    /// End so.
    Suffix(Box<str>),
    /// Have this in it.
    Contains(Box<str>),
    /// Match from beginning to end.
    Regex(Pattern),
}

/// A condition on a parameter of the query (`QueryParameterMatcher`), as it stands in the request: escapes are not
/// decoded. Of several with one name the first counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryMatch {
    /// Its name.
    pub name: Box<str>,
    /// What it must be like.
    pub value: QueryValue,
}

/// What a parameter of the query must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryValue {
    /// There.
    Present,
    /// Not there.
    Absent,
    /// Have such a value; that of `?a` is empty.
    Text(TextMatch),
}

impl PathMatch {
    /// Whether a path, normalised and without query, is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == &**exact,
            Self::Prefix(prefix) => path.starts_with(&**prefix),
            Self::SegmentPrefix(prefix) => path.strip_prefix(&**prefix).is_some_and(|rest| {
                rest.is_empty() || rest.starts_with('/') || prefix.ends_with('/')
            }),
            Self::Regex(pattern) => pattern.matches(path.as_bytes()),
        }
    }
}

impl Conditions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl ValueMatch {
    /// Whether a value is meant.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Text(text) => text.matches(value),
            Self::Range(range) => integer(value).is_some_and(|value| range.contains(&value)),
        }
    }
}

impl TextMatch {
    /// Whether a text is meant.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => text == exact.as_bytes(),
            Self::Prefix(prefix) => text.starts_with(prefix.as_bytes()),
            Self::Suffix(suffix) => text.ends_with(suffix.as_bytes()),
            Self::Contains(part) => memchr::memmem::find(text, part.as_bytes()).is_some(),
            Self::Regex(pattern) => pattern.matches(text),
        }
    }
}

fn integer(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_by_characters_or_by_segments() {
        let exact = PathMatch::Exact("/a".into());
        let prefix = PathMatch::Prefix("/a".into());
        let segments = PathMatch::SegmentPrefix("/a".into());
        let slash = PathMatch::SegmentPrefix("/a/".into());
        let regex = PathMatch::Regex(Pattern::new("/a/[0-9]+").unwrap());
        for (path, expected) in [
            ("/a", [true, true, true, false, false]),
            ("/a/", [false, true, true, true, false]),
            ("/a/1", [false, true, true, true, true]),
            ("/a/1/b", [false, true, true, true, false]),
            ("/ab", [false, true, false, false, false]),
            ("/A", [false; 5]),
            ("", [false; 5]),
        ] {
            let matches =
                [&exact, &prefix, &segments, &slash, &regex].map(|rule| rule.matches(path));
            assert_eq!(matches, expected, "{path}");
        }
    }

    #[test]
    fn texts_are_matched_in_five_ways() {
        let ways = [
            TextMatch::Exact("abc".into()),
            TextMatch::Prefix("ab".into()),
            TextMatch::Suffix("bc".into()),
            TextMatch::Contains("b".into()),
            TextMatch::Regex(Pattern::new("a.c").unwrap()),
        ];
        for (text, expected) in [
            ("abc", [true; 5]),
            ("abx", [false, true, false, true, false]),
            ("xbc", [false, false, true, true, false]),
            ("axc", [false, false, false, false, true]),
            ("", [false; 5]),
        ] {
            let matches: Vec<_> = ways
                .iter()
                .map(|way| way.matches(text.as_bytes()))
                .collect();
            assert_eq!(matches, expected, "{text}");
        }
    }

    #[test]
    fn a_number_is_in_a_range_only_when_it_is_one() {
        // The examples of HeaderMatcher.range_match.
        let range = ValueMatch::Range(-10..0);
        for (value, matches) in [
            ("-1", true),
            ("-10", true),
            ("0", false),
            ("somestring", false),
            ("10.9", false),
            ("-1somestring", false),
            ("", false),
        ] {
            assert_eq!(range.matches(value.as_bytes()), matches, "{value}");
        }
        assert!(ValueMatch::Range(0..10).matches(b"+3"));
    }
}
