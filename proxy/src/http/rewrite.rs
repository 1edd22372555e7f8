//! What a route makes of path and host.

use super::normalise::{self, InvalidPath};
use crate::snapshot::route::{HostRewrite, PathMatch, PathRewrite};
use http::{
    Request, Uri,
    header::HOST,
    uri::{PathAndQuery, Scheme},
};
use std::borrow::Cow;

/// The path that takes the place of `path`, which the route matched by `matched`; neither has a query.
///
/// A prefix of segments is replaced by segments, so that no slash is doubled or lost (Gateway API,
/// `ReplacePrefixMatch`); one of characters by characters, as Envoy does.
pub fn path(rewrite: &PathRewrite, matched: &PathMatch, path: &str) -> String {
    let rewritten = match rewrite {
        PathRewrite::Full(full) => full.to_string(),
        PathRewrite::Regex(substitution) => {
            String::from_utf8_lossy(&substitution.replace(path.as_bytes())).into_owned()
        }
        PathRewrite::Prefix(replacement) => match matched {
            PathMatch::Exact(_) | PathMatch::Regex(_) => replacement.to_string(),
            PathMatch::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix).unwrap_or_default();
                format!("{replacement}{rest}")
            }
            PathMatch::SegmentPrefix(prefix) => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                match path.strip_prefix(prefix).unwrap_or_default() {
                    "" => replacement.to_string(),
                    rest => format!(
                        "{}{rest}",
                        replacement.strip_suffix('/').unwrap_or(replacement)
                    ),
                }
            }
        },
    };
    match rewritten.starts_with('/') {
        true => rewritten,
        false => format!("/{rewritten}"),
    }
}

/// Gives a request its new path, in the one form that paths have. The query stays.
pub fn set_path<B>(
    rewrite: &PathRewrite,
    matched: &PathMatch,
    request: &mut Request<B>,
) -> Result<(), InvalidPath> {
    let uri = request.uri();
    let mut target = path(rewrite, matched, uri.path());
    if let Some(query) = uri.query() {
        target.push('?');
        target.push_str(query);
    }
    if let Cow::Owned(normal) = normalise::path_and_query(&target)? {
        target = normal;
    }
    let target = PathAndQuery::try_from(target).map_err(|_| InvalidPath::ForbiddenCharacter)?;
    change_target(request, |parts| parts.path_and_query = Some(target));
    Ok(())
}

/// Gives a request its new host, in the form in which it has one.
pub fn set_host<B>(host: &HostRewrite, request: &mut Request<B>) {
    if request.uri().authority().is_some() {
        change_target(request, |parts| {
            parts.authority = Some(host.authority.clone());
        });
    }
    if request.uri().authority().is_none() || request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, host.field.clone());
    }
}

fn change_target<B>(request: &mut Request<B>, change: impl FnOnce(&mut http::uri::Parts)) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    change(&mut parts);
    if parts.authority.is_some() && parts.path_and_query.is_some() {
        parts.scheme.get_or_insert(Scheme::HTTP);
    }
    *request.uri_mut() = Uri::from_parts(parts).expect("an authority before a path has a scheme");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::pattern::{Pattern, Substitution};
    use proptest::prelude::*;

    fn segments(prefix: &str) -> PathMatch {
        PathMatch::SegmentPrefix(prefix.into())
    }

    #[test]
    fn a_prefix_of_segments_is_replaced_as_the_gateway_api_says() {
        // The table of HTTPPathModifier.replacePrefixMatch.
        for (given, prefix, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo", "/foo", "/xyz/", "/xyz/"),
        ] {
            let rewrite = PathRewrite::Prefix(replacement.into());
            assert_eq!(
                path(&rewrite, &segments(prefix), given),
                expected,
                "{given} {prefix} {replacement}"
            );
        }
    }

    #[test]
    fn what_else_matched_is_replaced_as_envoy_does() {
        let prefix = PathMatch::Prefix("/prefix/".into());
        let exact = PathMatch::Exact("/a".into());
        let regex = PathMatch::Regex(Pattern::new("/a/.*").unwrap());
        let by_regex = Substitution::new("^/service/([^/]+)(/.*)$", r"\2/instance/\1").unwrap();
        for (rewrite, matched, given, expected) in [
            (
                PathRewrite::Prefix("/".into()),
                &prefix,
                "/prefix/etc",
                "/etc",
            ),
            (PathRewrite::Prefix("/b".into()), &exact, "/a", "/b"),
            (PathRewrite::Prefix("/b".into()), &regex, "/a/c", "/b"),
            (PathRewrite::Full("/b".into()), &prefix, "/prefix/etc", "/b"),
            (
                PathRewrite::Regex(by_regex),
                &prefix,
                "/service/foo/v1/api",
                "/v1/api/instance/foo",
            ),
        ] {
            assert_eq!(path(&rewrite, matched, given), expected);
        }
    }

    #[test]
    fn the_query_stays_and_the_new_path_has_its_one_form() {
        let rewrite = PathRewrite::Prefix("/b/../c//".into());
        for (target, expected) in [
            ("/a/d?e=/a", "/c/d?e=/a"),
            ("http://user/a?e", "http://user/c/?e"),
        ] {
            let mut request = Request::get(target).body(()).unwrap();
            set_path(&rewrite, &PathMatch::Prefix("/a".into()), &mut request).unwrap();
            assert_eq!(request.uri(), expected);
        }
    }

    #[test]
    fn a_rewrite_cannot_lead_past_what_paths_are_held_to() {
        let rewrite = PathRewrite::Prefix("/b/..".into());
        let mut request = Request::get("/a%2Fsecret").body(()).unwrap();
        assert_eq!(
            set_path(&rewrite, &PathMatch::Prefix("/a".into()), &mut request),
            Err(InvalidPath::HiddenDotSegment)
        );
    }

    #[test]
    fn a_host_is_replaced_in_the_form_that_it_has() {
        let host = HostRewrite::new("other:8080").unwrap();
        let mut http2 = Request::get("http://user/a").body(()).unwrap();
        set_host(&host, &mut http2);
        assert_eq!(http2.uri(), "http://other:8080/a");
        assert!(http2.headers().is_empty());
        let mut http1 = Request::get("/a").header(HOST, "user").body(()).unwrap();
        set_host(&host, &mut http1);
        assert_eq!(http1.uri(), "/a");
        assert_eq!(http1.headers()[HOST], "other:8080");
    }

    proptest! {
        #[test]
        fn a_rewritten_prefix_of_segments_is_followed_by_the_rest_after_one_slash(
            prefix in "(/[a-c]{1,2}){0,2}/?",
            replacement in "(/[x-z]{1,2}){0,2}/?",
            rest in "(/[a-c]{1,2}){0,3}/?",
        ) {
            let bare = prefix.strip_suffix('/').unwrap_or(&prefix);
            let given = format!("{bare}{rest}");
            prop_assume!(given.starts_with('/'));
            let matched = segments(&prefix);
            prop_assume!(matched.matches(&given));
            let rewritten = path(&PathRewrite::Prefix(replacement.as_str().into()), &matched, &given);
            prop_assert!(rewritten.starts_with('/'));
            prop_assert!(!rewritten.contains("//"), "{}", rewritten);
            prop_assert!(rewritten.ends_with(&rest));
            let segments = |path: &str| -> Vec<String> {
                path.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect()
            };
            let expected = [segments(&replacement), segments(&rest)].concat();
            prop_assert_eq!(segments(&rewritten), expected);
        }

        #[test]
        fn every_rewritten_path_is_a_path(
            given in "/[a-c/.%2F]{0,20}",
            replacement in "[ -~]{0,10}",
        ) {
            let Ok(mut request) = Request::get(given.as_str()).body(()) else { return Ok(()) };
            let rewrite = PathRewrite::Prefix(replacement.as_str().into());
            if set_path(&rewrite, &PathMatch::Prefix("/".into()), &mut request).is_ok() {
                let target = request.uri().to_string();
                let normal = normalise::path_and_query(&target).map(Cow::into_owned);
                prop_assert_eq!(normal, Ok(target));
            }
        }
    }
}
