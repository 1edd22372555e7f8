//! What a consistent hash makes of a request.

use super::{cookie, matches, query};
use crate::snapshot::route::{HashPolicy, HashSource};
use http::{HeaderValue, Request};
use std::net::IpAddr;
use xxhash_rust::xxh3::xxh3_64;

/// The hash of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HashKey {
    /// Absent when the request has nothing of what the policies look at.
    pub hash: Option<u64>,
    /// `Set-Cookie` for the response: the request had not got the cookie that was hashed.
    pub cookie: Option<HeaderValue>,
}

/// Hashes what the policies say, as Envoy combines it.
///
/// A cookie that is issued is a random number. Envoy derives it from the addresses of the connection; a sidecar's
/// callers are all one application, whose users would share it.
pub fn of<B>(
    policies: &[HashPolicy],
    host: &str,
    request: &Request<B>,
    caller: IpAddr,
    mut random: impl FnMut() -> u64,
) -> HashKey {
    let mut key = HashKey::default();
    for policy in policies {
        let hash = match &policy.source {
            HashSource::Header(field, substitution) => {
                matches::value(field, host, request).map(|value| match substitution {
                    Some(substitution) => xxh3_64(&substitution.replace(&value)),
                    None => xxh3_64(&value),
                })
            }
            HashSource::QueryParameter(name) => {
                let query = request.uri().query().unwrap_or_default();
                query::first(query, name).map(|value| xxh3_64(value.as_bytes()))
            }
            HashSource::SourceAddress => Some(match caller.to_canonical() {
                IpAddr::V4(address) => xxh3_64(&address.octets()),
                IpAddr::V6(address) => xxh3_64(&address.octets()),
            }),
            HashSource::Cookie(wanted) => match cookie::value(request.headers(), &wanted.name) {
                Some(value) => Some(xxh3_64(value)),
                None => wanted.issue.as_ref().map(|issued| {
                    let value = format!("{:016x}", random());
                    key.cookie = cookie::issue(&wanted.name, &value, issued);
                    xxh3_64(value.as_bytes())
                }),
            },
        };
        if let Some(hash) = hash {
            // Rotated, so that two equal values do not take each other away.
            key.hash = Some(key.hash.map_or(0, |before| before.rotate_left(1)) ^ hash);
        }
        if policy.terminal && key.hash.is_some() {
            break;
        }
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::{
        pattern::Substitution,
        route::{Field, HashCookie, IssuedCookie},
    };
    use http::HeaderName;
    use std::time::Duration;

    const CALLER: &str = "10.0.0.1";

    fn policy(source: HashSource) -> HashPolicy {
        HashPolicy {
            source,
            terminal: false,
        }
    }

    fn header(name: &'static str) -> HashSource {
        HashSource::Header(Field::Named(HeaderName::from_static(name)), None)
    }

    fn session(ttl: Option<u64>) -> HashSource {
        HashSource::Cookie(HashCookie {
            name: "session".into(),
            issue: ttl.map(|seconds| IssuedCookie {
                ttl: Duration::from_secs(seconds),
                attributes: "; Path=/".into(),
            }),
        })
    }

    fn request(fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::get("/cart?id=7&id=8");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    fn key(policies: &[HashPolicy], request: &Request<()>) -> HashKey {
        of(policies, "user", request, CALLER.parse().unwrap(), || 31)
    }

    #[test]
    fn each_source_gives_the_hash_of_its_value() {
        let request = request(&[("x-user", "ann"), ("cookie", "session=abc")]);
        let rewritten = HashSource::Header(
            Field::Named(HeaderName::from_static("x-user")),
            Some(Substitution::new("^a(.*)$", r"\1").unwrap()),
        );
        for (source, value) in [
            (header("x-user"), &b"ann"[..]),
            (rewritten, b"nn"),
            (session(None), b"abc"),
            (session(Some(60)), b"abc"),
            (HashSource::QueryParameter("id".into()), b"7"),
            (HashSource::SourceAddress, &[10, 0, 0, 1]),
        ] {
            let expected = HashKey {
                hash: Some(xxh3_64(value)),
                cookie: None,
            };
            assert_eq!(key(&[policy(source)], &request), expected);
        }
    }

    #[test]
    fn what_the_request_has_not_got_gives_no_hash() {
        for source in [
            header("x-user"),
            session(None),
            HashSource::QueryParameter("user".into()),
        ] {
            assert_eq!(key(&[policy(source)], &request(&[])), HashKey::default());
        }
    }

    #[test]
    fn a_cookie_is_issued_once_and_then_gives_the_same_hash() {
        let policies = [policy(session(Some(60)))];
        let first = key(&policies, &request(&[]));
        assert_eq!(
            first.cookie.as_ref().unwrap(),
            "session=000000000000001f; Max-Age=60; Path=/; HttpOnly"
        );
        let second = key(
            &policies,
            &request(&[("cookie", "session=000000000000001f")]),
        );
        assert_eq!(second.hash, first.hash);
        assert_eq!(second.cookie, None);
    }

    #[test]
    fn a_terminal_policy_that_found_something_is_the_last() {
        let terminal = HashPolicy {
            terminal: true,
            ..policy(header("x-user"))
        };
        let policies = [terminal, policy(header("x-tenant"))];
        let ann = ("x-user", "ann");
        let tenant = ("x-tenant", "acme");
        assert_eq!(
            key(&policies, &request(&[ann, tenant])),
            key(&policies, &request(&[ann]))
        );
        assert_eq!(
            key(&policies, &request(&[tenant])).hash,
            Some(xxh3_64(b"acme"))
        );
    }

    #[test]
    fn equal_values_do_not_take_each_other_away() {
        let policies = [policy(header("a")), policy(header("b"))];
        let both = key(&policies, &request(&[("a", "1"), ("b", "1")]));
        let hash = xxh3_64(b"1");
        assert_eq!(both.hash, Some(hash.rotate_left(1) ^ hash));
    }
}
