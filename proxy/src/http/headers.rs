//! What a proxy does to header fields: hop-by-hop fields end here, claims about who called are replaced
//! by what the connection proves.
//!
//! `Forwarded` (RFC 7239) is passed on as it came: one field must be authoritative, and the one that
//! applications read is `x-forwarded-for`.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, Entry, HOST, TE, TRANSFER_ENCODING, UPGRADE},
};
use std::net::IpAddr;
use weft_xds_proto::spiffe::SpiffeId;

/// Who called, in Envoy's format; set by the inbound side alone.
pub const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The addresses a request has come through.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The scheme that the first proxy was called with.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields whose names start so belong to the mesh and are believed from nobody.
const RESERVED_PREFIX: &str = "x-weft-";

/// Removes the fields that concern one connection only (RFC 9110 section 7.6.1): the ones that
/// `Connection` names and the ones that are known for it. `TE: trailers` stays, as gRPC demands it.
///
/// Returns the protocol that the message asks or agrees to switch to, for the caller to put back with
/// [`set_upgrade`] where the next hop can switch.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) -> Option<HeaderValue> {
    if !headers.keys().any(is_hop_by_hop) {
        // Most messages: one look at every name costs less than to look up each of these.
        return None;
    }
    let trailers = headers.get(TE).is_some_and(asks_for_trailers);
    let mut switches = false;
    if headers.contains_key(CONNECTION) {
        let nominated: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            // What most say: it is removed below.
            .filter(|name| *name != KEEP_ALIVE.as_str())
            .filter_map(|name| name.parse().ok())
            .collect();
        for name in nominated {
            if name == UPGRADE {
                switches = true;
            } else if name != HOST && name != CONTENT_LENGTH {
                // These two are never of one connection only: without them the message would be another.
                headers.remove(name);
            }
        }
        headers.remove(CONNECTION);
        if !trailers && !headers.keys().any(is_hop_by_hop) {
            return None;
        }
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(TE);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    headers.remove(UPGRADE).filter(|_| switches)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TE
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
}

/// Asks, or agrees, to switch to another protocol on an HTTP/1.1 connection (RFC 9110 section 7.8).
pub fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

fn asks_for_trailers(te: &HeaderValue) -> bool {
    te.to_str().is_ok_and(|te| {
        te.split(',')
            .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
    })
}

/// Removes what a caller may claim about itself and must not be believed.
pub fn strip_identity(headers: &mut HeaderMap) {
    if headers.keys().any(claims_identity) {
        let claims: Vec<HeaderName> = headers
            .keys()
            .filter(|name| claims_identity(name))
            .cloned()
            .collect();
        for name in claims {
            headers.remove(name);
        }
    }
}

fn claims_identity(name: &HeaderName) -> bool {
    *name == FORWARDED_CLIENT_CERT || name.as_str().starts_with(RESERVED_PREFIX)
}

/// The value of `x-forwarded-client-cert` for a connection: who was called, the SHA-256 of the caller's
/// certificate and the caller's identity (Envoy, "HTTP header manipulation"). Made once per connection.
pub fn client_cert(by: &SpiffeId, certificate: &[u8], caller: &SpiffeId) -> HeaderValue {
    let hash: String = sha256(certificate)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderValue::from_str(&format!("By={by};Hash={hash};URI={caller}"))
        .expect("an identity holds no character that a header field may not")
}

/// Through the crypto provider that is linked anyway.
fn sha256(data: &[u8]) -> Vec<u8> {
    let rustls::SupportedCipherSuite::Tls13(suite) =
        rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256
    else {
        unreachable!("a TLS 1.3 cipher suite is one of TLS 1.3");
    };
    suite.common.hash_provider.hash(data).as_ref().to_vec()
}

/// Notes where a request came from: appends the caller to `x-forwarded-for` and says the scheme, unless
/// a proxy before us has. The inbound side alone does so, so that a hop through two sidecars counts once.
///
/// `caller` is what [`forwarded_for`] made of its address.
pub fn set_forwarded(headers: &mut HeaderMap, caller: &HeaderValue) {
    match headers.entry(FORWARDED_FOR) {
        Entry::Vacant(none) => {
            none.insert(caller.clone());
        }
        Entry::Occupied(mut before) => {
            let mut list = Vec::new();
            for value in before.iter() {
                if value.to_str().is_ok_and(|value| !value.trim().is_empty()) {
                    list.extend_from_slice(value.as_bytes());
                    list.extend_from_slice(b", ");
                }
            }
            list.extend_from_slice(caller.as_bytes());
            let list =
                HeaderValue::try_from(list).expect("visible ASCII was joined by visible ASCII");
            before.insert(list);
        }
    }
    headers
        .entry(FORWARDED_PROTO)
        .or_insert(HeaderValue::from_static("http"));
}

/// A caller's address as it stands in `x-forwarded-for`. Made once per connection.
pub fn forwarded_for(caller: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&caller.to_canonical().to_string()).expect("an address is visible ASCII")
}

/// Whether a message is gRPC (grpc/grpc `doc/PROTOCOL-HTTP2.md`, Content-Type); gRPC-Web is not, as its
/// status does not travel in trailers.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.as_bytes().strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn fields_of_one_connection_end_here() {
        let mut headers = map(&[
            ("connection", "close, X-Private, Content-Length"),
            ("x-private", "1"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("upgrade", "h2c"),
            ("x-public", "1"),
        ]);
        assert_eq!(strip_hop_by_hop(&mut headers), None);
        assert_eq!(headers, map(&[("content-length", "3"), ("x-public", "1")]));
    }

    #[test]
    fn an_upgrade_is_handed_out_and_trailers_stay_wanted() {
        let mut headers = map(&[
            ("connection", "keep-alive, Upgrade, TE"),
            ("upgrade", "websocket"),
            ("te", "gzip, Trailers"),
        ]);
        let protocol = strip_hop_by_hop(&mut headers);
        assert_eq!(protocol, Some(HeaderValue::from_static("websocket")));
        set_upgrade(&mut headers, protocol.unwrap());
        assert_eq!(headers.get("upgrade").unwrap(), "websocket");
        assert_eq!(headers.get("connection").unwrap(), "upgrade");
    }

    #[test]
    fn trailers_stay_wanted_even_when_te_is_nominated() {
        let mut headers = map(&[("connection", "te"), ("te", "trailers")]);
        strip_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("te", "trailers")]));
    }

    #[test]
    fn claims_of_identity_are_not_believed() {
        let mut headers = map(&[
            ("x-forwarded-client-cert", "By=me;URI=spiffe://a/ns/b/sa/c"),
            ("x-weft-identity", "spiffe://a/ns/b/sa/c"),
            ("x-other", "1"),
        ]);
        strip_identity(&mut headers);
        assert_eq!(headers, map(&[("x-other", "1")]));
    }

    #[test]
    fn the_caller_is_described_as_envoy_does() {
        let by = SpiffeId::new("cluster.local", "demo", "user").unwrap();
        let caller = SpiffeId::new("cluster.local", "demo", "order").unwrap();
        assert_eq!(
            client_cert(&by, b"abc", &caller),
            "By=spiffe://cluster.local/ns/demo/sa/user;\
             Hash=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad;\
             URI=spiffe://cluster.local/ns/demo/sa/order"
        );
    }

    #[test]
    fn the_caller_is_appended_to_the_addresses_before_it() {
        let mut headers = map(&[
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-for", "10.0.0.1"),
        ]);
        let caller = forwarded_for("::ffff:10.0.0.2".parse().unwrap());
        set_forwarded(&mut headers, &caller);
        assert_eq!(
            headers,
            map(&[
                ("x-forwarded-for", "192.0.2.1, 10.0.0.1, 10.0.0.2"),
                ("x-forwarded-proto", "http"),
            ])
        );
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (content_type, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let headers = map(&[("content-type", content_type)]);
            assert_eq!(is_grpc(&headers), grpc, "{content_type}");
        }
    }
}
