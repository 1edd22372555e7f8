//! Regular expressions, compiled when configuration is loaded.
//!
//! The dialect is that of RE2 as Envoy uses it, as far as both agree: classes such as `\d` are ASCII, there is no
//! backtracking, and matching takes time linear in the text.

use regex::bytes::{Captures, Regex, RegexBuilder};
use std::{borrow::Cow, fmt, sync::Arc};
use weft_xds_proto::names::EXPRESSION_BYTES;

/// What a worker may keep of one expression to match faster.
const CACHE_LIMIT: usize = 256 * 1024;

/// An expression that matches a whole text (`envoy.type.matcher.v3.RegexMatcher`).
#[derive(Clone)]
pub struct Pattern {
    source: Arc<str>,
    regex: Arc<Regex>,
}

/// Replaces every match in a text (`envoy.type.matcher.v3.RegexMatchAndSubstitute`).
#[derive(Clone)]
pub struct Substitution(Arc<Compiled>);

struct Compiled {
    source: Box<str>,
    replacement: Box<str>,
    regex: Regex,
    parts: Box<[Part]>,
}

/// A part of what a match is replaced by.
enum Part {
    Text(Box<str>),
    /// `\1`: what a group of the expression matched.
    Group(usize),
}

/// Why an expression or its replacement can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It does not compile, or only into something too large.
    #[error("is not a regular expression: {0}")]
    Expression(String),
    /// `\` before anything but a digit or another one.
    #[error("has a backslash that is neither followed by the number of a group nor by another one")]
    Escape,
    /// A group that the expression does not have.
    #[error("names group {0}, which the expression does not have")]
    Group(usize),
}

impl Pattern {
    /// An expression that must match from the first character to the last.
    pub fn new(source: &str) -> Result<Self, InvalidPattern> {
        // By itself first: `a)|(b` is wrong, and would not be between the brackets.
        compile(source)?;
        Ok(Self {
            source: source.into(),
            regex: Arc::new(compile(&format!(r"\A(?:{source})\z"))?),
        })
    }

    /// The same of a text that stands for itself, whatever its case: `before` and `after` say whether anything may
    /// stand there.
    pub fn ignoring_case(text: &str, before: bool, after: bool) -> Result<Self, InvalidPattern> {
        let any = |may: bool| if may { "(?s:.*)" } else { "" };
        let text = regex::escape(text);
        Self::new(&format!("{}(?i:{text}){}", any(before), any(after)))
    }

    /// Whether it matches all of a text.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.regex.is_match(text)
    }

    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl Substitution {
    /// Every match of `source` becomes `replacement`, in which `\1` stands for the first group and `\\` for a
    /// backslash.
    pub fn new(source: &str, replacement: &str) -> Result<Self, InvalidPattern> {
        let regex = compile(source)?;
        let parts = parts(replacement)?;
        for part in &parts {
            if let Part::Group(group) = part
                && *group >= regex.captures_len()
            {
                return Err(InvalidPattern::Group(*group));
            }
        }
        Ok(Self(Arc::new(Compiled {
            source: source.into(),
            replacement: replacement.into(),
            regex,
            parts: parts.into(),
        })))
    }

    /// The text with its matches replaced.
    pub fn replace<'t>(&self, text: &'t [u8]) -> Cow<'t, [u8]> {
        self.0.regex.replace_all(text, |found: &Captures<'_>| {
            let mut replaced = Vec::new();
            for part in &self.0.parts {
                match part {
                    Part::Text(text) => replaced.extend_from_slice(text.as_bytes()),
                    Part::Group(group) => {
                        let group = found.get(*group).map_or(&b""[..], |group| group.as_bytes());
                        replaced.extend_from_slice(group);
                    }
                }
            }
            replaced
        })
    }

    /// The expression as it was written.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The replacement as it was written.
    pub fn replacement(&self) -> &str {
        &self.0.replacement
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl PartialEq for Substitution {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source() && self.replacement() == other.replacement()
    }
}

impl Eq for Substitution {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.source)
    }
}

impl fmt::Debug for Substitution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Substitution({:?}, {:?})",
            self.source(),
            self.replacement()
        )
    }
}

fn compile(source: &str) -> Result<Regex, InvalidPattern> {
    RegexBuilder::new(source)
        .unicode(false)
        .size_limit(EXPRESSION_BYTES)
        .dfa_size_limit(CACHE_LIMIT)
        .build()
        .map_err(|error| {
            // The last line says what is wrong, those before it draw where.
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            let reason = last.strip_prefix("error: ").unwrap_or(last);
            InvalidPattern::Expression(reason.to_owned())
        })
}

fn parts(replacement: &str) -> Result<Vec<Part>, InvalidPattern> {
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = replacement.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match rest.next() {
            Some('\\') => text.push('\\'),
            Some(digit) if digit.is_ascii_digit() => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text).into()));
                }
                parts.push(Part::Group(digit as usize - '0' as usize));
            }
            _ => return Err(InvalidPattern::Escape),
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_text_or_not_at_all() {
        for (source, text, matches) in [
            ("a|ab", "ab", true),
            ("a|ab", "abc", false),
            ("/v[0-9]+/.*", "/v12/users", true),
            ("/v[0-9]+/.*", "/x/v1/users", false),
            ("", "", true),
            ("", "a", false),
            (r"\d{3}", "123", true),
            (r"\d{3}", "1234", false),
            (r"\d", "٣", false),
        ] {
            let pattern = Pattern::new(source).unwrap();
            assert_eq!(pattern.matches(text.as_bytes()), matches, "{source} {text}");
        }
    }

    #[test]
    fn a_text_is_found_whatever_its_case() {
        for (before, after, text, matches) in [
            (false, false, "USER.demo", true),
            (false, false, "xuser.demo", false),
            (false, false, "userxdemo", false),
            (true, false, "x-User.Demo", true),
            (false, true, "user.demo-x", true),
            (true, true, "x-user.demo-x", true),
            (true, false, "user.demo-x", false),
        ] {
            let pattern = Pattern::ignoring_case("User.Demo", before, after).unwrap();
            assert_eq!(pattern.matches(text.as_bytes()), matches, "{text}");
        }
    }

    #[test]
    fn what_does_not_compile_is_refused_in_one_line() {
        for (source, reason) in [
            ("(a", "unclosed group"),
            ("a)|(b", "unopened group"),
            (r"(a)\1", "backreferences are not supported"),
            (
                "((a{100}){100}){100}",
                "Compiled regex exceeds size limit of 262144 bytes.",
            ),
        ] {
            assert_eq!(
                Pattern::new(source),
                Err(InvalidPattern::Expression(reason.to_owned())),
                "{source}"
            );
        }
    }

    #[test]
    fn every_match_is_replaced_with_its_groups() {
        // The examples of RouteAction.regex_rewrite.
        for (source, replacement, text, replaced) in [
            (
                "^/service/([^/]+)(/.*)$",
                r"\2/instance/\1",
                "/service/foo/v1/api",
                "/v1/api/instance/foo",
            ),
            ("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"),
            (
                "^(.*?)one(.*)$",
                r"\1two\2",
                "/xxx/one/yyy/one/zzz",
                "/xxx/two/yyy/one/zzz",
            ),
            ("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb"),
            ("a(b)?", r"[\1]\\", "a", r"[]\"),
        ] {
            let substitution = Substitution::new(source, replacement).unwrap();
            assert_eq!(
                &*substitution.replace(text.as_bytes()),
                replaced.as_bytes(),
                "{source}"
            );
        }
    }

    #[test]
    fn a_replacement_may_only_name_groups_that_there_are() {
        assert_eq!(
            Substitution::new("(a)", r"\2"),
            Err(InvalidPattern::Group(2))
        );
        assert_eq!(Substitution::new("(a)", r"\n"), Err(InvalidPattern::Escape));
        assert_eq!(Substitution::new("(a)", r"\"), Err(InvalidPattern::Escape));
    }
}
