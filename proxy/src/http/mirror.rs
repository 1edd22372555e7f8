//! The head of a mirrored request.

use super::rewrite;
use crate::snapshot::route::{HostRewrite, without_port};
use http::{HeaderMap, Request, header::HOST};

/// The head of a request once more.
pub fn head<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    head
}

/// Adds `-shadow` to the name of the host, so that its logs tell the requests apart (`RequestMirrorPolicy`). An address
/// in brackets stays as it is.
pub fn shadow(head: &mut Request<()>) {
    let authority = head.uri().authority().map(|authority| authority.as_str());
    let Some(host) = authority.or_else(|| host(head.headers())) else {
        return;
    };
    if host.starts_with('[') {
        return;
    }
    let name = without_port(host);
    let shadow = format!("{name}-shadow{}", &host[name.len()..]);
    if let Some(shadow) = HostRewrite::new(&shadow) {
        rewrite::set_host(&shadow, head);
    }
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(HOST)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shadow_of_a_host_keeps_its_port() {
        for (host, expected) in [
            ("user", "user-shadow"),
            ("user.demo:80", "user.demo-shadow:80"),
            ("[fd00::1]:80", "[fd00::1]:80"),
        ] {
            let http1 = Request::get("/").header(HOST, host).body(()).unwrap();
            let mut http1 = head(&http1);
            shadow(&mut http1);
            assert_eq!(http1.headers()[HOST], expected);
            let http2 = Request::get(format!("http://{host}/a")).body(()).unwrap();
            let mut http2 = head(&http2);
            shadow(&mut http2);
            assert_eq!(http2.uri().to_string(), format!("http://{expected}/a"));
        }
    }
}
