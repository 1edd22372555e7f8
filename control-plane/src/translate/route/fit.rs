//! Which requests a route is for.

use super::super::dialect::Form;
use crate::world::route::{Hostname, Match, PathMatch, TextMatch, ValueMatch};
use envoy_types::pb::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
    },
    r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
};

/// The method of a request, as matchers of headers call it.
pub(super) const METHOD: &str = ":method";
/// The host of a request, with its port if that is written.
const AUTHORITY: &str = ":authority";

/// Every request.
pub(super) fn everything() -> RouteMatch {
    RouteMatch {
        path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
        ..RouteMatch::default()
    }
}

/// The requests that a match of a rule is for.
pub(crate) fn fit(fit: &Match, form: Form) -> RouteMatch {
    let method = fit
        .method
        .iter()
        .map(|method| header(METHOD, exact(method)));
    let headers = fit.headers.iter().map(value);
    RouteMatch {
        path_specifier: Some(path(&fit.path, form)),
        headers: method.chain(headers).collect(),
        query_parameters: fit.query.iter().map(parameter).collect(),
        ..RouteMatch::default()
    }
}

/// A condition on a header field.
pub(super) fn value(value: &ValueMatch) -> HeaderMatcher {
    // HTTP/2 has no Host field, and HTTP/1.1 is taken for it.
    let name = match &*value.name {
        "host" => AUTHORITY,
        name => name,
    };
    header(name, text(&value.value))
}

/// A condition on the method: one of these.
pub(super) fn one_of_methods<'a>(methods: impl Iterator<Item = &'a str>) -> HeaderMatcher {
    let methods: Vec<_> = methods.collect();
    header(METHOD, regex(&methods.join("|")))
}

/// A condition on the host, with or without a port: one of these.
pub(crate) fn authority_of(hostname: &Hostname) -> HeaderMatcher {
    let any_below = if hostname.wildcard { ".+\\." } else { "" };
    let name = escape(&hostname.name);
    header(
        AUTHORITY,
        regex(&format!("(?i){any_below}{name}(:[0-9]+)?")),
    )
}

/// A text as the regular expression that matches it alone.
pub(super) fn escape(text: &str) -> String {
    let special = |c: char| c.is_ascii_punctuation() && !matches!(c, '/' | '-' | '_' | '%' | '~');
    text.chars()
        .flat_map(|c| special(c).then_some('\\').into_iter().chain([c]))
        .collect()
}

fn path(path: &PathMatch, form: Form) -> PathSpecifier {
    match path {
        PathMatch::Exact(path) => PathSpecifier::Path(path.to_string()),
        PathMatch::Prefix(prefix) if &**prefix == "/" => PathSpecifier::Prefix("/".to_owned()),
        // gRPC clients know no prefix of segments; the paths of their calls have exactly two.
        PathMatch::Prefix(prefix) if form == Form::Grpc => {
            PathSpecifier::Prefix(format!("{prefix}/"))
        }
        PathMatch::Prefix(prefix) => PathSpecifier::PathSeparatedPrefix(prefix.to_string()),
        PathMatch::Regex(regex) => PathSpecifier::SafeRegex(RegexMatcher {
            regex: regex.to_string(),
            ..RegexMatcher::default()
        }),
    }
}

fn parameter(value: &ValueMatch) -> QueryParameterMatcher {
    QueryParameterMatcher {
        name: value.name.to_string(),
        query_parameter_match_specifier: Some(QueryParameterMatchSpecifier::StringMatch(text(
            &value.value,
        ))),
    }
}

fn header(name: &str, value: StringMatcher) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(value)),
        ..HeaderMatcher::default()
    }
}

fn text(text: &TextMatch) -> StringMatcher {
    match text {
        TextMatch::Exact(text) => exact(text),
        TextMatch::Regex(text) => regex(text),
    }
}

fn exact(text: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::Exact(text.to_owned())),
        ..StringMatcher::default()
    }
}

fn regex(regex: &str) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(RegexMatcher {
            regex: regex.to_owned(),
            ..RegexMatcher::default()
        })),
        ..StringMatcher::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_on_the_host_is_one_on_the_authority() {
        let on = |name: &str| {
            let value = TextMatch::Exact("user".into());
            let name = name.into();
            super::value(&ValueMatch { name, value }).name
        };
        assert_eq!(
            (on("host"), on("x-host")),
            (":authority".into(), "x-host".into())
        );
    }
}
