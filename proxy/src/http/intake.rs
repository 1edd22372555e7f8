//! What happens to every request before anybody looks at it, and to every response before it leaves.

use super::{headers, normalise};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, Uri, Version,
    header::HOST,
    uri::{Authority, PathAndQuery},
};

/// A request in the form that routing, authorization and the endpoint see.
#[derive(Debug)]
pub struct Intake {
    /// The authority, in lower case.
    pub host: String,
    /// The protocol that the caller asks to switch to. Its header fields are taken out.
    pub upgrade: Option<HeaderValue>,
}

/// Why a request is refused with 400.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRequest {
    /// The path.
    #[error("{0}")]
    Path(#[from] normalise::InvalidPath),
    /// The authority.
    #[error("the host is not a host name or address")]
    Host,
}

/// Takes a request in: its path and host get their one form, what concerns the caller's connection ends
/// here, and claims about who calls are removed.
pub fn request<B>(request: &mut Request<B>) -> Result<Intake, InvalidRequest> {
    let upgrade = headers::strip_hop_by_hop(request.headers_mut())
        .filter(|protocol| request.version() == Version::HTTP_11 && !is_h2c(protocol));
    headers::strip_identity(request.headers_mut());
    if request.method() != Method::CONNECT {
        normalise_path(request.uri_mut())?;
    }
    let host = normalise_host(request)?;
    Ok(Intake { host, upgrade })
}

/// Lets a response out: what concerns the endpoint's connection ends here, except for a switch of
/// protocols that is under way.
pub fn response<B>(response: &mut Response<B>) {
    let protocol = headers::strip_hop_by_hop(response.headers_mut());
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS
        && let Some(protocol) = protocol
    {
        headers::set_upgrade(response.headers_mut(), protocol);
    }
}

/// The path of a request in origin or absolute form, for routing. CONNECT has none.
pub fn path<B>(request: &Request<B>) -> &str {
    request.uri().path()
}

/// An upgrade to HTTP/2 would carry requests past everything that looks at them (CVE-2022-41721). A server
/// may ignore the wish (RFC 9110 section 7.8), and so we do.
fn is_h2c(protocol: &HeaderValue) -> bool {
    protocol
        .as_bytes()
        .split(|&c| c == b',')
        .any(|name| name.trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

fn normalise_path(uri: &mut Uri) -> Result<(), InvalidRequest> {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let std::borrow::Cow::Owned(normal) = normalise::path_and_query(target)? else {
        return Ok(());
    };
    let mut parts = std::mem::take(uri).into_parts();
    let normal =
        PathAndQuery::try_from(normal).map_err(|_| normalise::InvalidPath::ForbiddenCharacter)?;
    parts.path_and_query = Some(normal);
    *uri = Uri::from_parts(parts).map_err(|_| InvalidRequest::Host)?;
    Ok(())
}

/// RFC 9112 section 3.2.2: an authority in the target wins over `Host`.
fn normalise_host<B>(request: &mut Request<B>) -> Result<String, InvalidRequest> {
    if let Some(authority) = request.uri().authority() {
        let normal = normalise::host(authority.as_str()).into_owned();
        if normal != authority.as_str() {
            let mut parts = std::mem::take(request.uri_mut()).into_parts();
            parts.authority =
                Some(Authority::try_from(normal.as_str()).map_err(|_| InvalidRequest::Host)?);
            *request.uri_mut() = Uri::from_parts(parts).map_err(|_| InvalidRequest::Host)?;
        }
        return Ok(without_userinfo(normal));
    }
    let host = host(request.headers())?;
    let normal = normalise::host(host).into_owned();
    if normal != host {
        let value = HeaderValue::from_str(&normal).map_err(|_| InvalidRequest::Host)?;
        request.headers_mut().insert(HOST, value);
    }
    Ok(normal)
}

fn host(headers: &HeaderMap) -> Result<&str, InvalidRequest> {
    match headers.get(HOST) {
        None => Ok(""),
        Some(host) => host.to_str().map_err(|_| InvalidRequest::Host),
    }
}

fn without_userinfo(authority: String) -> String {
    match authority.rsplit_once('@') {
        Some((_, host)) => host.to_owned(),
        None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken_in(target: &str, fields: &[(&str, &str)]) -> (Request<()>, Intake) {
        let mut builder = Request::get(target);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let mut request = builder.body(()).unwrap();
        let intake = super::request(&mut request).unwrap();
        (request, intake)
    }

    #[test]
    fn path_and_host_get_their_one_form() {
        let (request, intake) = taken_in("/a/../b//c?d=%7e", &[("host", "User.Demo:80")]);
        assert_eq!(request.uri(), "/b/c?d=%7e");
        assert_eq!(request.headers()[HOST], "user.demo:80");
        assert_eq!(intake.host, "user.demo:80");
    }

    #[test]
    fn an_authority_in_the_target_wins() {
        let (request, intake) = taken_in("http://User.Demo/%41", &[("host", "other")]);
        assert_eq!(request.uri(), "http://user.demo/A");
        assert_eq!(intake.host, "user.demo");
    }

    #[test]
    fn a_wish_for_another_protocol_is_handed_out_unless_it_is_http2() {
        let upgrade = |protocol| {
            taken_in("/", &[("connection", "upgrade"), ("upgrade", protocol)])
                .1
                .upgrade
        };
        assert_eq!(
            upgrade("websocket"),
            Some(HeaderValue::from_static("websocket"))
        );
        assert_eq!(upgrade("h2c"), None);
        assert_eq!(upgrade("foo, H2C"), None);
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        let mut request = Request::get("/a%2").body(()).unwrap();
        assert!(super::request(&mut request).is_err());
    }
}
