//! The responses that the proxy makes itself: the one place where an error becomes something to send.

use super::{body::Body, retry_after::GRPC_RETRY_PUSHBACK, status};
use crate::{
    admission::{Shed, Why},
    error::RequestError,
    snapshot::route::AbortStatus,
};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER},
};
use std::{net::SocketAddr, time::Duration};

/// Why the proxy answered: the reason, and the endpoint it concerns if there is one.
pub const WEFT_ERROR: HeaderName = HeaderName::from_static("weft-error");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// The answer to a request that failed.
///
/// A gRPC caller gets a response of trailers only (grpc/grpc `doc/PROTOCOL-HTTP2.md`, Responses), any other
/// the HTTP status with the same words as plain text.
pub fn error(error: RequestError, endpoint: Option<SocketAddr>, grpc: bool) -> Response<Body> {
    let why = match endpoint {
        Some(endpoint) => format!("{}; endpoint={endpoint}", error.reason()),
        None => error.reason().to_owned(),
    };
    if grpc {
        failed_call(error, error.grpc_status(), &why)
    } else {
        plain(error.status(), error, &why)
    }
}

/// The answer to a request that a limit of the workload did not let through.
///
/// A plain caller is told how much there is by `Retry-After` (RFC 9110 section 10.2.3) and the `RateLimit` fields
/// (draft-ietf-httpapi-ratelimit-headers-03), in seconds rounded up; a gRPC caller when to come again by
/// `grpc-retry-pushback-ms` (gRFC A6).
pub(crate) fn shed(shed: &Shed, grpc: bool) -> Response<Body> {
    let error = shed.error();
    let why = format!("{}; policy={}", error.reason(), shed.limit);
    let mut response = if grpc {
        failed_call(error, error.grpc_status(), &why)
    } else {
        plain(error.status(), error, &why)
    };
    let headers = response.headers_mut();
    match shed.why {
        Why::RateLimited(refused) if grpc => {
            let millis = refused.retry_after.as_nanos().div_ceil(1_000_000);
            let millis = u64::try_from(millis).unwrap_or(u64::MAX);
            headers.insert(GRPC_RETRY_PUSHBACK, millis.into());
        }
        Why::RateLimited(refused) => {
            headers.insert(RETRY_AFTER, seconds(refused.retry_after).max(1).into());
            headers.insert(RATE_LIMIT_LIMIT, refused.limit.into());
            headers.insert(RATE_LIMIT_REMAINING, 0.into());
            headers.insert(RATE_LIMIT_RESET, seconds(refused.full_in).into());
        }
        Why::Overloaded(_) => {}
    }
    response
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// The answer to what never became a request. `status` is more precise than that of the error.
pub fn refusal(status: StatusCode, error: RequestError, reason: &str) -> Response<Body> {
    plain(status, error, &format!("{}; {reason}", error.reason()))
}

/// The answer to a request that is failed on purpose. A caller of the other kind gets what corresponds to the status.
pub fn fault(status: AbortStatus, grpc: bool) -> Response<Body> {
    let error = RequestError::FaultInjected;
    let why = error.reason();
    match (status, grpc) {
        (AbortStatus::Http(status), false) => plain(status, error, why),
        (AbortStatus::Grpc(status), false) => plain(status::to_http(status), error, why),
        (AbortStatus::Http(status), true) => failed_call(error, status::to_grpc(status), why),
        (AbortStatus::Grpc(status), true) => failed_call(error, status, why),
    }
}

/// An answer that a route gives. A gRPC caller gets the status that corresponds, and the body as its message.
pub fn direct(status: StatusCode, body: &Bytes, grpc: bool) -> Response<Body> {
    if grpc {
        return trailers_only(status::to_grpc(status), grpc_message(body));
    }
    let mut response = Response::new(Body::full(body.clone()));
    *response.status_mut() = status;
    if !body.is_empty() {
        let text = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(CONTENT_TYPE, text);
    }
    response
}

/// A message as the gRPC protocol has it on the wire: what is not printable ASCII is percent-encoded.
fn grpc_message(text: &[u8]) -> Option<HeaderValue> {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text {
        match byte {
            b'%' | ..b' ' | b'\x7f'.. => encoded.push_str(&format!("%{byte:02X}")),
            _ => encoded.push(char::from(byte)),
        }
    }
    (!encoded.is_empty()).then(|| HeaderValue::try_from(encoded).expect("it is printable ASCII"))
}

/// The answer that sends a caller elsewhere.
pub fn redirect(status: StatusCode, location: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    response
}

fn plain(status: StatusCode, error: RequestError, why: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(format!("weft: {why}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(WEFT_ERROR, value(error, why));
    response
}

fn failed_call(error: RequestError, status: u8, why: &str) -> Response<Body> {
    let message = value(error, &format!("weft: {why}"));
    let mut response = trailers_only(status, Some(message));
    response.headers_mut().insert(WEFT_ERROR, value(error, why));
    response
}

fn trailers_only(status: u8, message: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(status)));
    if let Some(message) = message {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

fn value(error: RequestError, why: &str) -> HeaderValue {
    HeaderValue::from_str(why).unwrap_or(HeaderValue::from_static(error.reason()))
}

/// Why the proxy that answers for an endpoint failed a request, by its own word. The word names the endpoint that it is
/// about, so that one which an application merely passes on from somewhere else is not taken for it.
pub fn reason(fields: &HeaderMap, endpoint: SocketAddr) -> Option<RequestError> {
    let said = fields.get(WEFT_ERROR)?.to_str().ok()?;
    let (word, about) = said.split_once("; endpoint=")?;
    let mut known = RequestError::ALL.into_iter();
    let error = known.find(|error| error.reason() == word);
    error.filter(|_| about.parse() == Ok(endpoint))
}

/// The status of a gRPC call, from the trailers of its response or from the headers of one that has only
/// trailers.
pub fn grpc_status(fields: &HeaderMap) -> Option<u8> {
    fields.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::{Overloaded, Refused};

    #[test]
    fn a_plain_caller_gets_the_status_and_the_reason() {
        let response = error(
            RequestError::UpstreamConnectFailed,
            Some("10.0.0.1:80".parse().unwrap()),
            false,
        );
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            response.headers()[WEFT_ERROR],
            "upstream-connect-failed; endpoint=10.0.0.1:80"
        );
        assert!(matches!(response.body(), Body::Full(text)
            if text == "weft: upstream-connect-failed; endpoint=10.0.0.1:80\n"));
    }

    #[test]
    fn a_reason_is_read_back_where_it_is_about_the_endpoint_that_answers() {
        let endpoint = "10.0.0.1:80".parse().unwrap();
        let elsewhere = "10.0.0.2:80".parse().unwrap();
        for reason in RequestError::ALL {
            for grpc in [false, true] {
                let answer = error(reason, Some(endpoint), grpc);
                assert_eq!(super::reason(answer.headers(), endpoint), Some(reason));
                assert_eq!(super::reason(answer.headers(), elsewhere), None);
                let answer = error(reason, None, grpc);
                assert_eq!(super::reason(answer.headers(), endpoint), None);
            }
        }
        assert_eq!(super::reason(&HeaderMap::new(), endpoint), None);
    }

    #[test]
    fn a_grpc_caller_gets_a_grpc_status_for_every_reason() {
        for reason in RequestError::ALL {
            let response = error(reason, None, true);
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(grpc_status(response.headers()), Some(reason.grpc_status()));
            assert_eq!(response.headers()[WEFT_ERROR], reason.reason());
            assert!(matches!(response.body(), Body::Empty));
        }
    }

    fn rate_limited(retry_after: Duration) -> Shed {
        Shed {
            limit: "demo/user:80".into(),
            why: Why::RateLimited(Refused {
                limit: 100,
                full_in: Duration::from_millis(1_500),
                retry_after,
            }),
        }
    }

    #[test]
    fn who_sends_too_much_is_told_when_to_come_again() {
        let response = shed(&rate_limited(Duration::from_millis(2_001)), false);
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let fields = [
            (WEFT_ERROR, "rate-limited; policy=demo/user:80"),
            (RETRY_AFTER, "3"),
            (RATE_LIMIT_LIMIT, "100"),
            (RATE_LIMIT_REMAINING, "0"),
            (RATE_LIMIT_RESET, "2"),
        ];
        for (name, value) in fields {
            assert_eq!(response.headers()[&name], value, "{name}");
        }
        let soon = shed(&rate_limited(Duration::ZERO), false);
        assert_eq!(soon.headers()[RETRY_AFTER], "1");
    }

    #[test]
    fn a_grpc_caller_is_told_in_milliseconds() {
        let response = shed(&rate_limited(Duration::from_micros(20_001)), true);
        assert_eq!(grpc_status(response.headers()), Some(8));
        assert_eq!(response.headers()[GRPC_RETRY_PUSHBACK], "21");
        assert!(!response.headers().contains_key(RETRY_AFTER));
    }

    #[test]
    fn an_overloaded_application_is_named_with_the_policy() {
        let overloaded = Shed {
            limit: "demo/user:80".into(),
            why: Why::Overloaded(Overloaded { limit: 10 }),
        };
        let response = shed(&overloaded, false);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            response.headers()[WEFT_ERROR],
            "overloaded; policy=demo/user:80"
        );
    }

    #[test]
    fn a_fault_has_the_status_that_was_asked_for_or_what_corresponds_to_it() {
        let teapot = AbortStatus::Http(StatusCode::IM_A_TEAPOT);
        let aborted = AbortStatus::Grpc(10);
        for (status, http, grpc) in [(teapot, 418, 2), (aborted, 409, 10)] {
            let response = fault(status, false);
            assert_eq!(response.status().as_u16(), http);
            assert_eq!(response.headers()[WEFT_ERROR], "fault-injected");
            let response = fault(status, true);
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(grpc_status(response.headers()), Some(grpc));
            assert_eq!(response.headers()[WEFT_ERROR], "fault-injected");
        }
    }

    #[test]
    fn the_answer_of_a_route_is_no_error_of_the_proxy() {
        let body = Bytes::from_static(b"closed");
        let response = direct(StatusCode::NOT_FOUND, &body, false);
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain");
        assert!(matches!(response.body(), Body::Full(text) if text == "closed"));
        let response = direct(StatusCode::NOT_FOUND, &body, true);
        assert_eq!(grpc_status(response.headers()), Some(12));
        assert_eq!(response.headers()[GRPC_MESSAGE], "closed");
        assert!(!response.headers().contains_key(WEFT_ERROR));
    }

    #[test]
    fn a_reason_that_is_no_field_value_is_left_out() {
        let response = refusal(StatusCode::BAD_REQUEST, RequestError::BadRequest, "\n");
        assert_eq!(response.headers()[WEFT_ERROR], "bad-request");
    }
}
