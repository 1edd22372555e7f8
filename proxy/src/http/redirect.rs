//! Where a redirect leads.

use super::rewrite;
use crate::snapshot::route::{PathMatch, PathRewrite, Redirect, without_port};
use http::{HeaderValue, Request, header::InvalidHeaderValue};

/// The `Location` for a request to `host`, which the route matched by `matched`.
///
/// What the redirect says nothing of stays, except that the port of the request does not stay with another host or a
/// scheme that is named, as in Envoy. The port of the scheme is left out.
pub fn location<B>(
    redirect: &Redirect,
    matched: &PathMatch,
    host: &str,
    request: &Request<B>,
) -> Result<HeaderValue, InvalidHeaderValue> {
    // Applications speak to their sidecar in plaintext.
    let asked = request.uri().scheme_str().unwrap_or("http");
    let scheme = redirect.scheme.as_deref().unwrap_or(asked);
    let name = without_port(host);
    let mut location = format!("{scheme}://{}", redirect.host.as_deref().unwrap_or(name));
    let port = match (redirect.port, &redirect.host, &redirect.scheme) {
        (Some(port), _, _) => Some(port.get()),
        (None, None, None) => host[name.len()..].trim_start_matches(':').parse().ok(),
        (None, _, _) => None,
    };
    if let Some(port) = port.filter(|port| Some(*port) != well_known(scheme)) {
        location.push_str(&format!(":{port}"));
    }

    let path = match &redirect.path {
        None => request.uri().path().to_owned(),
        Some(PathRewrite::Full(path)) if path.contains('?') => {
            location.push_str(path);
            return location.try_into();
        }
        Some(path) => rewrite::path(path, matched, request.uri().path()),
    };
    location.push_str(&path);
    if let Some(query) = request.uri().query().filter(|_| !redirect.strip_query) {
        location.push('?');
        location.push_str(query);
    }
    location.try_into()
}

fn well_known(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use std::sync::Arc;

    fn nowhere() -> Redirect {
        Redirect {
            scheme: None,
            host: None,
            port: None,
            path: None,
            status: StatusCode::FOUND,
            strip_query: false,
            headers: Arc::default(),
        }
    }

    fn leads_to(redirect: &Redirect, host: &str, target: &str) -> String {
        let request = Request::get(target).body(()).unwrap();
        let matched = PathMatch::SegmentPrefix("/old".into());
        let location = location(redirect, &matched, host, &request).unwrap();
        location.to_str().unwrap().to_owned()
    }

    #[test]
    fn scheme_host_and_port_are_replaced_each_by_itself() {
        let scheme = |scheme: &str| Redirect {
            scheme: Some(scheme.into()),
            ..nowhere()
        };
        let host = |host: &str| Redirect {
            host: Some(host.into()),
            ..nowhere()
        };
        let port = |port: u16| Redirect {
            port: port.try_into().ok(),
            ..nowhere()
        };
        for (redirect, host, expected) in [
            (nowhere(), "user:8080", "http://user:8080/old?a"),
            (scheme("https"), "user", "https://user/old?a"),
            (scheme("https"), "user:80", "https://user/old?a"),
            (scheme("https"), "user:8080", "https://user/old?a"),
            (scheme("http"), "user:8080", "http://user/old?a"),
            (host("other"), "user:8080", "http://other/old?a"),
            (port(8443), "user:8080", "http://user:8443/old?a"),
            (port(80), "user:8080", "http://user/old?a"),
            (port(8443), "[fd00::1]", "http://[fd00::1]:8443/old?a"),
            (
                Redirect {
                    port: 443.try_into().ok(),
                    ..scheme("https")
                },
                "user:80",
                "https://user/old?a",
            ),
            (
                Redirect {
                    port: 80.try_into().ok(),
                    ..scheme("https")
                },
                "user:80",
                "https://user:80/old?a",
            ),
        ] {
            assert_eq!(leads_to(&redirect, host, "/old?a"), expected);
        }
    }

    #[test]
    fn a_path_keeps_the_query_unless_it_has_one_or_it_is_stripped() {
        // The examples of RedirectAction.path_redirect.
        let to = |path: &str, strip_query| Redirect {
            path: Some(PathRewrite::Full(path.into())),
            strip_query,
            ..nowhere()
        };
        for (redirect, expected) in [
            (to("/new", false), "http://user/new?bar=1"),
            (to("/new", true), "http://user/new"),
            (to("/new?foo=1", true), "http://user/new?foo=1"),
            (
                Redirect {
                    path: Some(PathRewrite::Prefix("/new".into())),
                    ..nowhere()
                },
                "http://user/new/x?bar=1",
            ),
        ] {
            assert_eq!(leads_to(&redirect, "user", "/old/x?bar=1"), expected);
        }
    }
}
