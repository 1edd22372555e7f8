use super::{action, any_path, converted, matching, refused, route, rule};
use crate::{
    snapshot::{
        pattern::Pattern,
        route::{
            Conditions, Field, HeaderMatch, PathMatch, QueryMatch, QueryValue, TextMatch,
            ValueMatch,
        },
    },
    xds::convert::route::Rule,
};
use http::{HeaderName, Method};
use std::sync::Arc;
use weft_xds_proto::envoy::{
    envoy::{
        config::route::v3::{
            HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
            query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
        },
        r#type::{
            matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
            v3::Int64Range,
        },
    },
    google::protobuf::BoolValue,
};

fn regex(source: &str) -> RegexMatcher {
    RegexMatcher {
        regex: source.to_owned(),
        ..RegexMatcher::default()
    }
}

fn string(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ignore_case: false,
    }
}

fn header(name: &str, specifier: HeaderMatchSpecifier) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

fn exact(text: &str) -> HeaderMatchSpecifier {
    HeaderMatchSpecifier::StringMatch(string(MatchPattern::Exact(text.to_owned())))
}

fn with_headers(headers: Vec<HeaderMatcher>) -> RouteMatch {
    RouteMatch {
        headers,
        ..any_path()
    }
}

fn conditions(rule: RouteMatch) -> Conditions {
    let conditions = converted(route(rule, action())).conditions;
    Arc::unwrap_or_clone(conditions.unwrap())
}

fn user(value: ValueMatch) -> HeaderMatch {
    HeaderMatch {
        field: Field::Named(HeaderName::from_static("x-user")),
        value,
        invert: false,
        absent_is_empty: false,
    }
}

#[test]
fn paths_are_taken() {
    for (path, expected) in [
        (
            PathSpecifier::Prefix("/a".to_owned()),
            PathMatch::Prefix("/a".into()),
        ),
        (
            PathSpecifier::Path("/a".to_owned()),
            PathMatch::Exact("/a".into()),
        ),
        (
            PathSpecifier::PathSeparatedPrefix("/a".to_owned()),
            PathMatch::SegmentPrefix("/a".into()),
        ),
        (
            PathSpecifier::SafeRegex(regex("/a.*")),
            PathMatch::Regex(Pattern::new("/a.*").unwrap()),
        ),
    ] {
        let expected = Rule {
            path: expected,
            ..rule()
        };
        assert_eq!(converted(route(matching(path), action())), expected);
    }
}

#[test]
fn conditions_on_header_fields_are_taken() {
    let text = |pattern| HeaderMatchSpecifier::StringMatch(string(pattern));
    for (specifier, value) in [
        (
            exact("ann"),
            ValueMatch::Text(TextMatch::Exact("ann".into())),
        ),
        (
            text(MatchPattern::Prefix("a".to_owned())),
            ValueMatch::Text(TextMatch::Prefix("a".into())),
        ),
        (
            text(MatchPattern::Suffix("n".to_owned())),
            ValueMatch::Text(TextMatch::Suffix("n".into())),
        ),
        (
            text(MatchPattern::Contains("n".to_owned())),
            ValueMatch::Text(TextMatch::Contains("n".into())),
        ),
        (
            text(MatchPattern::SafeRegex(regex("a.n"))),
            ValueMatch::Text(TextMatch::Regex(Pattern::new("a.n").unwrap())),
        ),
        (
            HeaderMatchSpecifier::RangeMatch(Int64Range { start: -1, end: 2 }),
            ValueMatch::Range(-1..2),
        ),
        (
            HeaderMatchSpecifier::PresentMatch(true),
            ValueMatch::Present,
        ),
    ] {
        let rule = with_headers(vec![header("X-User", specifier)]);
        assert_eq!(*conditions(rule).headers, [user(value)]);
    }
}

#[test]
fn a_condition_on_a_header_field_may_be_turned_round() {
    let inverted = HeaderMatcher {
        invert_match: true,
        treat_missing_header_as_empty: true,
        ..header("x-user", exact("ann"))
    };
    let absent = header("x-user", HeaderMatchSpecifier::PresentMatch(false));
    let not_absent = HeaderMatcher {
        invert_match: true,
        ..absent.clone()
    };
    assert_eq!(
        *conditions(with_headers(vec![inverted, absent, not_absent])).headers,
        [
            HeaderMatch {
                invert: true,
                absent_is_empty: true,
                ..user(ValueMatch::Text(TextMatch::Exact("ann".into())))
            },
            HeaderMatch {
                invert: true,
                ..user(ValueMatch::Present)
            },
            user(ValueMatch::Present),
        ]
    );
}

#[test]
fn a_condition_without_a_value_is_that_the_field_is_there() {
    let bare = HeaderMatcher {
        name: "x-user".to_owned(),
        ..HeaderMatcher::default()
    };
    assert_eq!(
        *conditions(with_headers(vec![bare])).headers,
        [user(ValueMatch::Present)]
    );
}

#[test]
#[expect(
    deprecated,
    reason = "control planes still send the forms before string_match"
)]
fn the_forms_before_string_match_are_taken() {
    for (specifier, value) in [
        (
            HeaderMatchSpecifier::ExactMatch("ann".to_owned()),
            TextMatch::Exact("ann".into()),
        ),
        (
            HeaderMatchSpecifier::PrefixMatch("a".to_owned()),
            TextMatch::Prefix("a".into()),
        ),
        (
            HeaderMatchSpecifier::SuffixMatch("n".to_owned()),
            TextMatch::Suffix("n".into()),
        ),
        (
            HeaderMatchSpecifier::ContainsMatch("n".to_owned()),
            TextMatch::Contains("n".into()),
        ),
        (
            HeaderMatchSpecifier::SafeRegexMatch(regex("a.n")),
            TextMatch::Regex(Pattern::new("a.n").unwrap()),
        ),
    ] {
        let rule = with_headers(vec![header("x-user", specifier)]);
        assert_eq!(*conditions(rule).headers, [user(ValueMatch::Text(value))]);
    }
}

#[test]
fn the_method_is_told_from_the_header_fields() {
    let rule = with_headers(vec![
        header(":authority", exact("user")),
        header(":method", exact("POST")),
    ]);
    assert_eq!(
        conditions(rule),
        Conditions {
            method: Some(Method::POST),
            headers: [HeaderMatch {
                field: Field::Authority,
                ..user(ValueMatch::Text(TextMatch::Exact("user".into())))
            }]
            .into(),
            ..Conditions::default()
        }
    );
    let not_post = HeaderMatcher {
        invert_match: true,
        ..header(":method", exact("POST"))
    };
    let conditions = conditions(with_headers(vec![not_post]));
    assert_eq!(conditions.method, None);
    assert_eq!(conditions.headers[0].field, Field::Method);
}

#[test]
fn a_text_may_be_meant_whatever_its_case() {
    let pattern = StringMatcher {
        ignore_case: true,
        ..string(MatchPattern::Prefix("Ann".to_owned()))
    };
    let rule = with_headers(vec![header(
        "x-user",
        HeaderMatchSpecifier::StringMatch(pattern),
    )]);
    let expected = Pattern::ignoring_case("Ann", false, true).unwrap();
    assert_eq!(
        *conditions(rule).headers,
        [user(ValueMatch::Text(TextMatch::Regex(expected)))]
    );
}

#[test]
fn conditions_on_the_query_and_on_grpc_are_taken() {
    let parameter = |specifier| QueryParameterMatcher {
        name: "id".to_owned(),
        query_parameter_match_specifier: specifier,
    };
    let text = string(MatchPattern::Exact("1".to_owned()));
    let rule = RouteMatch {
        query_parameters: vec![
            parameter(None),
            parameter(Some(QueryParameterMatchSpecifier::PresentMatch(false))),
            parameter(Some(QueryParameterMatchSpecifier::StringMatch(text))),
        ],
        grpc: Some(Default::default()),
        ..any_path()
    };
    let id = |value| QueryMatch {
        name: "id".into(),
        value,
    };
    assert_eq!(
        conditions(rule),
        Conditions {
            query: [
                id(QueryValue::Present),
                id(QueryValue::Absent),
                id(QueryValue::Text(TextMatch::Exact("1".into()))),
            ]
            .into(),
            grpc: true,
            ..Conditions::default()
        }
    );
}

#[test]
fn what_is_wrong_with_a_match_is_named() {
    for (rule, expected) in [
        (RouteMatch::default(), "path_specifier: is required"),
        (
            RouteMatch {
                case_sensitive: Some(BoolValue { value: false }),
                ..any_path()
            },
            "case_sensitive: is not supported by this proxy",
        ),
        (
            RouteMatch {
                runtime_fraction: Some(Default::default()),
                ..any_path()
            },
            "runtime_fraction: is not supported by this proxy",
        ),
        (
            RouteMatch {
                cookies: vec![Default::default()],
                ..any_path()
            },
            "cookies: is not supported by this proxy",
        ),
        (
            RouteMatch {
                tls_context: Some(Default::default()),
                ..any_path()
            },
            "tls_context: is not supported by this proxy",
        ),
        (
            RouteMatch {
                dynamic_metadata: vec![Default::default()],
                ..any_path()
            },
            "dynamic_metadata: is not supported by this proxy",
        ),
        (
            RouteMatch {
                filter_state: vec![Default::default()],
                ..any_path()
            },
            "filter_state: is not supported by this proxy",
        ),
        (
            matching(PathSpecifier::PathSeparatedPrefix("b/".to_owned())),
            "path_separated_prefix: must start with a slash and not end with one, got \"b/\"",
        ),
        (
            matching(PathSpecifier::SafeRegex(regex("("))),
            "safe_regex.regex: is not a regular expression: unclosed group",
        ),
        (
            matching(PathSpecifier::SafeRegex(regex(""))),
            "safe_regex.regex: must not be empty",
        ),
        (
            matching(PathSpecifier::ConnectMatcher(Default::default())),
            "connect_matcher: is not supported by this proxy",
        ),
        (
            with_headers(vec![header("a b", exact("c"))]),
            "headers[0].name: \"a b\" is not the name of a header field",
        ),
        (
            with_headers(vec![header(":scheme", exact("http"))]),
            "headers[0].name: \":scheme\" is not the name of a header field",
        ),
        (
            with_headers(vec![header(
                "a",
                HeaderMatchSpecifier::StringMatch(StringMatcher::default()),
            )]),
            "headers[0].string_match.match_pattern: is required",
        ),
        (
            RouteMatch {
                query_parameters: vec![QueryParameterMatcher::default()],
                ..any_path()
            },
            "query_parameters[0].name: must not be empty",
        ),
    ] {
        assert_eq!(refused(route(rule, action())), format!("match.{expected}"));
    }
}
