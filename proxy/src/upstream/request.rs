//! The form of a request for the version of HTTP that its endpoint speaks.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    header::{CONNECTION, COOKIE, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    uri::{Authority, PathAndQuery, Scheme},
};
use std::mem;

/// What belongs to one connection of HTTP/1.1 and is malformed in HTTP/2 (RFC 9113 section 8.2.2).
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Makes it HTTP/1.1: the target in origin form and the authority in `Host`, which defaults to `authority`
/// for a caller that sent none (HTTP/1.0). What frames the body is the connection's business.
pub(super) fn make_http1<B>(request: &mut Request<B>, authority: &str) {
    let version = mem::replace(request.version_mut(), Version::HTTP_11);
    match request.uri().authority() {
        // RFC 9112 section 3.2.2: the target wins over a Host that says otherwise.
        Some(target) => {
            let host = host(target.as_str());
            if request.method() != Method::CONNECT {
                *request.uri_mut() = origin_form(request.uri());
            }
            set_host(request.headers_mut(), host);
        }
        None if !request.headers().contains_key(HOST) => {
            set_host(request.headers_mut(), host(authority));
        }
        None => {}
    }
    if version == Version::HTTP_2 {
        join_cookies(request.headers_mut());
    }
}

/// Makes it HTTP/2: scheme and authority in the target (they become pseudo-header fields), no `Host`, nothing
/// that belongs to a connection. Errors when `Host` is no authority.
pub(super) fn make_http2<B>(
    request: &mut Request<B>,
    authority: &str,
) -> Result<(), http::uri::InvalidUri> {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    if request.uri().authority().is_none() {
        let authority = match &host {
            Some(host) => Authority::try_from(host.as_bytes())?,
            None => Authority::try_from(authority)?,
        };
        let mut target = std::mem::take(request.uri_mut()).into_parts();
        target.scheme = Some(Scheme::HTTP);
        target.authority = Some(authority);
        target
            .path_and_query
            .get_or_insert(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(target).expect("all three parts are there");
    }
    strip_hop_by_hop(request.headers_mut());
    Ok(())
}

fn origin_form(target: &Uri) -> Uri {
    target
        .path_and_query()
        .cloned()
        .unwrap_or(PathAndQuery::from_static("/"))
        .into()
}

fn host(authority: &str) -> HeaderValue {
    // RFC 9110 section 7.2: Host carries no userinfo.
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    HeaderValue::from_str(host).expect("the characters of an authority are allowed in a field")
}

fn set_host(headers: &mut HeaderMap, host: HeaderValue) {
    headers.insert(HOST, host);
}

/// RFC 9113 section 8.2.3: HTTP/2 may split a cookie into fields; HTTP/1.1 must have one.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    let (Some(first), Some(_)) = (cookies.next(), cookies.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for cookie in headers.get_all(COOKIE).iter().skip(1) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(cookie.as_bytes());
    }
    let joined = HeaderValue::from_bytes(&joined).expect("every part is the value of a field");
    headers.insert(COOKIE, joined);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(connection) = headers.get(CONNECTION).cloned() {
        for name in connection.to_str().unwrap_or_default().split(',') {
            headers.remove(name.trim());
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "user.demo.svc.cluster.local:80";

    fn request(method: Method, target: &str, headers: &[(HeaderName, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        request.body(()).unwrap()
    }

    fn http2(method: Method, target: &str, headers: &[(HeaderName, &str)]) -> Request<()> {
        let mut request = request(method, target, headers);
        make_http2(&mut request, CLUSTER).unwrap();
        assert_eq!(request.version(), Version::HTTP_2);
        request
    }

    fn http1(method: Method, target: &str, headers: &[(HeaderName, &str)]) -> Request<()> {
        let mut request = request(method, target, headers);
        make_http1(&mut request, CLUSTER);
        assert_eq!(request.version(), Version::HTTP_11);
        request
    }

    #[test]
    fn host_becomes_the_authority_and_back() {
        let up = http2(Method::GET, "/cart?id=1", &[(HOST, "user.demo:80")]);
        assert_eq!(*up.uri(), "http://user.demo:80/cart?id=1");
        assert!(up.headers().is_empty());

        let down = http1(Method::GET, "https://user.demo:80/cart?id=1", &[]);
        assert_eq!(*down.uri(), "/cart?id=1");
        assert_eq!(down.headers()[HOST], "user.demo:80");
    }

    #[test]
    fn the_target_wins_over_a_host_that_says_otherwise() {
        let request = http1(Method::GET, "http://user.demo/", &[(HOST, "evil")]);
        assert_eq!(request.headers()[HOST], "user.demo");
        let request = http2(Method::GET, "http://user.demo/", &[(HOST, "evil")]);
        assert_eq!(request.uri().authority().unwrap(), "user.demo");
        assert!(!request.headers().contains_key(HOST));
    }

    #[test]
    fn a_caller_without_host_calls_the_cluster() {
        assert_eq!(http1(Method::GET, "/", &[]).headers()[HOST], CLUSTER);
        let request = http2(Method::GET, "/", &[]);
        assert_eq!(request.uri().authority().unwrap(), CLUSTER);
    }

    #[test]
    fn a_host_that_is_no_authority_is_refused() {
        let mut bad = request(Method::GET, "/", &[(HOST, "a b")]);
        assert!(make_http2(&mut bad, CLUSTER).is_err());
    }

    #[test]
    fn an_options_request_for_the_server_itself_keeps_its_asterisk() {
        let host = [(HOST, "user.demo")];
        assert_eq!(*http1(Method::OPTIONS, "*", &host).uri(), "*");
        assert_eq!(http2(Method::OPTIONS, "*", &host).uri().path(), "*");
    }

    #[test]
    fn connect_keeps_its_target() {
        let request = http1(Method::CONNECT, "user.demo:443", &[]);
        assert_eq!(*request.uri(), "user.demo:443");
        assert_eq!(request.headers()[HOST], "user.demo:443");
        let request = http2(Method::CONNECT, "user.demo:443", &[]);
        assert_eq!(*request.uri(), "user.demo:443");
    }

    #[test]
    fn cookies_that_http2_split_are_joined_for_http1() {
        let cookies = [(COOKIE, "a=1"), (COOKIE, "b=2")];
        let mut request = request(Method::GET, "http://user.demo/", &cookies);
        *request.version_mut() = Version::HTTP_2;
        make_http1(&mut request, CLUSTER);
        let cookies: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; b=2"]);
    }

    #[test]
    fn what_belongs_to_an_http1_connection_does_not_reach_http2() {
        let request = http2(
            Method::GET,
            "/",
            &[
                (CONNECTION, "keep-alive, x-mine"),
                (HeaderName::from_static("keep-alive"), "timeout=5"),
                (HeaderName::from_static("x-mine"), "1"),
                (HeaderName::from_static("x-theirs"), "2"),
                (TRANSFER_ENCODING, "chunked"),
                (UPGRADE, "h2c"),
                (TE, "gzip"),
            ],
        );
        let left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-theirs"]);
        let grpc = http2(Method::POST, "/", &[(TE, "trailers")]);
        assert_eq!(grpc.headers()[TE], "trailers");
    }
}
