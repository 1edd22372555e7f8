//! `RouteMatch`: what a request must be like.

use crate::{
    snapshot::{
        pattern::{InvalidPattern, Pattern, Substitution},
        route::{
            Conditions, Field, HeaderMatch, PathMatch, QueryMatch, QueryValue, TextMatch,
            ValueMatch,
        },
    },
    xds::convert::field::{At, Fault, not_empty, required, unsupported},
};
use http::{HeaderName, Method};
use std::sync::Arc;
use weft_xds_proto::envoy::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
    },
    r#type::matcher::v3::{
        RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
    },
};

/// Every condition counts: one that is ignored makes the route match what it should not.
pub(super) fn convert(rule: &RouteMatch) -> Result<(PathMatch, Option<Arc<Conditions>>), Fault> {
    unsupported(
        "case_sensitive",
        rule.case_sensitive
            .as_ref()
            .is_some_and(|sensitive| !sensitive.value),
    )?;
    unsupported("runtime_fraction", rule.runtime_fraction.is_some())?;
    unsupported("cookies", !rule.cookies.is_empty())?;
    unsupported("tls_context", rule.tls_context.is_some())?;
    unsupported("dynamic_metadata", !rule.dynamic_metadata.is_empty())?;
    unsupported("filter_state", !rule.filter_state.is_empty())?;
    let path = path(required("path_specifier", rule.path_specifier.as_ref())?)?;
    let mut conditions = Conditions {
        grpc: rule.grpc.is_some(),
        ..Conditions::default()
    };
    let mut headers = headers(&rule.headers)?;
    if let Some(position) = headers.iter().position(|header| method(header).is_some()) {
        conditions.method = method(&headers.remove(position));
    }
    conditions.headers = headers.into();
    conditions.query = rule
        .query_parameters
        .iter()
        .enumerate()
        .map(|(position, rule)| query(rule).at(format_args!("query_parameters[{position}]")))
        .collect::<Result<_, _>>()?;
    let conditions = (!conditions.is_empty()).then(|| Arc::new(conditions));
    Ok((path, conditions))
}

/// Conditions on header fields.
pub(super) fn headers(rules: &[HeaderMatcher]) -> Result<Vec<HeaderMatch>, Fault> {
    let rules = rules.iter().enumerate();
    rules
        .map(|(position, rule)| header(rule).at(format_args!("headers[{position}]")))
        .collect()
}

/// A header field or what is like one, by its name.
pub(super) fn field(name: &str) -> Result<Field, Fault> {
    Ok(match name {
        ":method" => Field::Method,
        ":authority" => Field::Authority,
        ":path" => Field::Path,
        name => match HeaderName::try_from(name) {
            Ok(http::header::HOST) => Field::Authority,
            Ok(name) => Field::Named(name),
            Err(_) => {
                return Err(Fault::new(format!(
                    "{name:?} is not the name of a header field"
                )));
            }
        },
    })
}

/// An expression and what its matches become.
pub(super) fn substitution(rewrite: &RegexMatchAndSubstitute) -> Result<Substitution, Fault> {
    let pattern = required("pattern", rewrite.pattern.as_ref())?;
    Substitution::new(&pattern.regex, &rewrite.substitution).map_err(|error| match error {
        InvalidPattern::Expression(_) => Fault::new(error.to_string()).at("pattern.regex"),
        InvalidPattern::Escape | InvalidPattern::Group(_) => {
            Fault::new(error.to_string()).at("substitution")
        }
    })
}

fn path(specifier: &PathSpecifier) -> Result<PathMatch, Fault> {
    let other = |field| Err(Fault::new("is not supported by this proxy").at(field));
    match specifier {
        PathSpecifier::Prefix(prefix) => Ok(PathMatch::Prefix(prefix.as_str().into())),
        PathSpecifier::Path(path) => Ok(PathMatch::Exact(path.as_str().into())),
        PathSpecifier::PathSeparatedPrefix(prefix) => {
            // RouteMatch.path_separated_prefix: starts with a slash, does not end in one.
            if !prefix.starts_with('/') || prefix.ends_with('/') {
                return Err(Fault::new(format!(
                    "must start with a slash and not end with one, got {prefix:?}"
                ))
                .at("path_separated_prefix"));
            }
            Ok(PathMatch::SegmentPrefix(prefix.as_str().into()))
        }
        PathSpecifier::SafeRegex(rule) => Ok(PathMatch::Regex(regex(rule).at("safe_regex")?)),
        PathSpecifier::ConnectMatcher(_) => other("connect_matcher"),
        PathSpecifier::PathMatchPolicy(_) => other("path_match_policy"),
    }
}

/// The only method that such a condition allows, if it is one.
fn method(condition: &HeaderMatch) -> Option<Method> {
    match (&condition.field, &condition.value) {
        (Field::Method, ValueMatch::Text(TextMatch::Exact(method))) if !condition.invert => {
            method.parse().ok()
        }
        _ => None,
    }
}

#[expect(
    deprecated,
    reason = "control planes still send the forms before string_match"
)]
fn header(rule: &HeaderMatcher) -> Result<HeaderMatch, Fault> {
    let mut invert = rule.invert_match;
    let text = |field: &str, text: &String| {
        not_empty(field, text)?;
        Ok::<Box<str>, Fault>(text.as_str().into())
    };
    let value = match &rule.header_match_specifier {
        None | Some(HeaderMatchSpecifier::PresentMatch(true)) => ValueMatch::Present,
        Some(HeaderMatchSpecifier::PresentMatch(false)) => {
            invert = !invert;
            ValueMatch::Present
        }
        Some(HeaderMatchSpecifier::RangeMatch(range)) => ValueMatch::Range(range.start..range.end),
        Some(HeaderMatchSpecifier::ExactMatch(exact)) => {
            ValueMatch::Text(TextMatch::Exact(exact.as_str().into()))
        }
        Some(HeaderMatchSpecifier::PrefixMatch(prefix)) => {
            ValueMatch::Text(TextMatch::Prefix(text("prefix_match", prefix)?))
        }
        Some(HeaderMatchSpecifier::SuffixMatch(suffix)) => {
            ValueMatch::Text(TextMatch::Suffix(text("suffix_match", suffix)?))
        }
        Some(HeaderMatchSpecifier::ContainsMatch(part)) => {
            ValueMatch::Text(TextMatch::Contains(text("contains_match", part)?))
        }
        Some(HeaderMatchSpecifier::SafeRegexMatch(rule)) => {
            ValueMatch::Text(TextMatch::Regex(regex(rule).at("safe_regex_match")?))
        }
        Some(HeaderMatchSpecifier::StringMatch(rule)) => {
            ValueMatch::Text(string(rule).at("string_match")?)
        }
    };
    Ok(HeaderMatch {
        field: field(&rule.name).at("name")?,
        value,
        invert,
        absent_is_empty: rule.treat_missing_header_as_empty,
    })
}

fn query(rule: &QueryParameterMatcher) -> Result<QueryMatch, Fault> {
    let value = match &rule.query_parameter_match_specifier {
        None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => QueryValue::Present,
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => QueryValue::Absent,
        Some(QueryParameterMatchSpecifier::StringMatch(rule)) => {
            QueryValue::Text(string(rule).at("string_match")?)
        }
    };
    Ok(QueryMatch {
        name: not_empty("name", &rule.name)?.into(),
        value,
    })
}

fn string(rule: &StringMatcher) -> Result<TextMatch, Fault> {
    let pattern = required("match_pattern", rule.match_pattern.as_ref())?;
    let whatever_case = |text: &str, before, after| {
        Pattern::ignoring_case(text, before, after)
            .map(TextMatch::Regex)
            .map_err(|error| Fault::new(error.to_string()).at("match_pattern"))
    };
    match pattern {
        // StringMatcher.ignore_case: it has no effect on an expression.
        MatchPattern::SafeRegex(rule) => regex(rule).map(TextMatch::Regex).at("safe_regex"),
        MatchPattern::Custom(_) => Err(Fault::new("is not supported by this proxy").at("custom")),
        MatchPattern::Exact(text) if rule.ignore_case => whatever_case(text, false, false),
        MatchPattern::Prefix(text) if rule.ignore_case => whatever_case(text, false, true),
        MatchPattern::Suffix(text) if rule.ignore_case => whatever_case(text, true, false),
        MatchPattern::Contains(text) if rule.ignore_case => whatever_case(text, true, true),
        MatchPattern::Exact(text) => Ok(TextMatch::Exact(text.as_str().into())),
        MatchPattern::Prefix(text) => Ok(TextMatch::Prefix(not_empty("prefix", text)?.into())),
        MatchPattern::Suffix(text) => Ok(TextMatch::Suffix(not_empty("suffix", text)?.into())),
        MatchPattern::Contains(text) => {
            Ok(TextMatch::Contains(not_empty("contains", text)?.into()))
        }
    }
}

fn regex(rule: &RegexMatcher) -> Result<Pattern, Fault> {
    not_empty("regex", &rule.regex)?;
    Pattern::new(&rule.regex).map_err(|error| Fault::new(error.to_string()).at("regex"))
}
