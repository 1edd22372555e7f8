//! The responses that the proxy makes itself: the one place where an error becomes something to send.

use super::{body::Body, status};
use crate::{error::RequestError, snapshot::route::AbortStatus};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, LOCATION},
};
use std::net::SocketAddr;

/// Why the proxy answered: the reason, and the endpoint it concerns if there is one.
pub const WEFT_ERROR: HeaderName = HeaderName::from_static("weft-error");

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

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
        let message = HeaderValue::from_bytes(body)
            .ok()
            .filter(|_| !body.is_empty());
        return trailers_only(status::to_grpc(status), message);
    }
    let mut response = Response::new(Body::full(body.clone()));
    *response.status_mut() = status;
    if !body.is_empty() {
        let text = HeaderValue::from_static("text/plain");
        response.headers_mut().insert(CONTENT_TYPE, text);
    }
    response
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

/// The status of a gRPC call, from the trailers of its response or from the headers of one that has only
/// trailers.
pub fn grpc_status(fields: &HeaderMap) -> Option<u8> {
    fields.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_grpc_caller_gets_a_grpc_status_for_every_reason() {
        for reason in RequestError::ALL {
            let response = error(reason, None, true);
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(grpc_status(response.headers()), Some(reason.grpc_status()));
            assert_eq!(response.headers()[WEFT_ERROR], reason.reason());
            assert!(matches!(response.body(), Body::Empty));
        }
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
