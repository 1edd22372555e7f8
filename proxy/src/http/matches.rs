//! Whether a request meets the conditions of a route or a fault: a pure function of both.

use super::{headers, intake, query};
use crate::snapshot::route::{
    Conditions, Field, HeaderMatch, PathMatch, QueryMatch, QueryValue, ValueMatch,
};
use http::Request;
use std::borrow::Cow;

/// Whether a request has the path, which is normalised, and meets what else is asked for. `host` is the authority in
/// lower case.
pub fn request<B>(
    path: &PathMatch,
    conditions: Option<&Conditions>,
    host: &str,
    request: &Request<B>,
) -> bool {
    path.matches(intake::path(request))
        && conditions.is_none_or(|conditions| all(conditions, host, request))
}

/// Whether all conditions are met. `host` is the authority in lower case.
pub fn all<B>(conditions: &Conditions, host: &str, request: &Request<B>) -> bool {
    let method = conditions.method.as_ref();
    method.is_none_or(|method| method == request.method())
        && (!conditions.grpc || headers::is_grpc(request.headers()))
        && fields(&conditions.headers, host, request)
        && parameters(&conditions.query, request)
}

/// Whether the header fields are as they must be.
pub fn fields<B>(conditions: &[HeaderMatch], host: &str, request: &Request<B>) -> bool {
    conditions.iter().all(|condition| {
        match value(&condition.field, host, request) {
            Some(value) => condition.value.matches(&value) != condition.invert,
            None if condition.absent_is_empty => condition.value.matches(b"") != condition.invert,
            // What is not there is not present, and has no value that could be another one.
            None => condition.invert && condition.value == ValueMatch::Present,
        }
    })
}

/// The value of a field, several of one name joined by commas (RFC 9110 section 5.3).
pub fn value<'r, B>(
    field: &Field,
    host: &'r str,
    request: &'r Request<B>,
) -> Option<Cow<'r, [u8]>> {
    let name = match field {
        Field::Named(name) => name,
        Field::Method => return Some(request.method().as_str().as_bytes().into()),
        Field::Authority => return (!host.is_empty()).then(|| host.as_bytes().into()),
        Field::Path => return Some(target(request).as_bytes().into()),
    };
    let mut values = request.headers().get_all(name).iter();
    let first = values.next()?.as_bytes();
    let mut rest = values.peekable();
    if rest.peek().is_none() {
        return Some(first.into());
    }
    let mut joined = first.to_vec();
    for value in rest {
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(joined.into())
}

fn target<B>(request: &Request<B>) -> &str {
    let target = request.uri().path_and_query();
    target.map_or("", http::uri::PathAndQuery::as_str)
}

fn parameters<B>(conditions: &[QueryMatch], request: &Request<B>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    conditions.iter().all(|condition| {
        let value = query::first(query, &condition.name);
        match &condition.value {
            QueryValue::Present => value.is_some(),
            QueryValue::Absent => value.is_none(),
            QueryValue::Text(text) => value.is_some_and(|value| text.matches(value.as_bytes())),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::route::TextMatch;
    use http::{HeaderName, Method};

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/cart?id=1&empty");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn condition(value: ValueMatch) -> HeaderMatch {
        HeaderMatch {
            field: Field::Named(HeaderName::from_static("x-user")),
            value,
            invert: false,
            absent_is_empty: false,
        }
    }

    fn exact(text: &str) -> ValueMatch {
        ValueMatch::Text(TextMatch::Exact(text.into()))
    }

    fn met(condition: HeaderMatch, fields: &[(&str, &str)]) -> bool {
        super::fields(&[condition], "user.demo:80", &request(fields))
    }

    #[test]
    fn a_field_must_have_the_value() {
        let ann = condition(exact("ann"));
        assert!(met(ann.clone(), &[("x-user", "ann")]));
        assert!(!met(ann.clone(), &[("x-user", "bob")]));
        assert!(!met(ann, &[]));
    }

    #[test]
    fn several_fields_of_one_name_are_one_value() {
        let both = condition(exact("ann,bob"));
        assert!(met(both, &[("x-user", "ann"), ("x-user", "bob")]));
    }

    #[test]
    fn a_field_that_is_not_there_meets_no_condition_on_its_value() {
        // The examples of HeaderMatcher.treat_missing_header_as_empty.
        let range = HeaderMatch {
            invert: true,
            ..condition(ValueMatch::Range(0..10))
        };
        assert!(met(range.clone(), &[("x-user", "10")]));
        assert!(!met(range.clone(), &[]));
        let as_empty = HeaderMatch {
            absent_is_empty: true,
            ..range
        };
        assert!(met(as_empty, &[]));
        let empty = HeaderMatch {
            absent_is_empty: true,
            ..condition(exact(""))
        };
        assert!(met(empty, &[]));
        assert!(!met(condition(exact("")), &[]));
    }

    #[test]
    fn a_field_may_have_to_be_there_or_not() {
        let present = condition(ValueMatch::Present);
        let absent = HeaderMatch {
            invert: true,
            ..present.clone()
        };
        assert!(met(present.clone(), &[("x-user", "")]));
        assert!(!met(present, &[]));
        assert!(!met(absent.clone(), &[("x-user", "")]));
        assert!(met(absent, &[]));
    }

    #[test]
    fn method_host_and_target_are_like_fields() {
        for (field, text) in [
            (Field::Method, "GET"),
            (Field::Authority, "user.demo:80"),
            (Field::Path, "/cart?id=1&empty"),
        ] {
            let condition = HeaderMatch {
                field,
                ..condition(exact(text))
            };
            assert!(met(condition, &[]), "{text}");
        }
    }

    #[test]
    fn parameters_of_the_query_are_looked_at() {
        let met = |name: &str, value| {
            let conditions = Conditions {
                query: [QueryMatch {
                    name: name.into(),
                    value,
                }]
                .into(),
                ..Conditions::default()
            };
            all(&conditions, "", &request(&[]))
        };
        let text = |text: &str| QueryValue::Text(TextMatch::Exact(text.into()));
        assert!(met("id", text("1")));
        assert!(!met("id", text("2")));
        assert!(met("empty", text("")));
        assert!(!met("none", text("")));
        assert!(met("empty", QueryValue::Present));
        assert!(!met("none", QueryValue::Present));
        assert!(met("none", QueryValue::Absent));
        assert!(!met("id", QueryValue::Absent));
    }

    #[test]
    fn all_conditions_must_be_met() {
        let conditions = Conditions {
            method: Some(Method::GET),
            headers: [condition(exact("ann"))].into(),
            query: [QueryMatch {
                name: "id".into(),
                value: QueryValue::Present,
            }]
            .into(),
            grpc: true,
        };
        let grpc = ("content-type", "application/grpc");
        let ann = ("x-user", "ann");
        assert!(all(&conditions, "", &request(&[grpc, ann])));
        assert!(!all(&conditions, "", &request(&[ann])));
        assert!(!all(&conditions, "", &request(&[grpc])));
        let mut posted = request(&[grpc, ann]);
        *posted.method_mut() = Method::POST;
        assert!(!all(&conditions, "", &posted));
        let mut without = request(&[grpc, ann]);
        *without.uri_mut() = "/cart".parse().unwrap();
        assert!(!all(&conditions, "", &without));
    }
}
