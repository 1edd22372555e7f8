//! The responses that the proxy makes itself: the one place where an error becomes something to send.

use super::body::Body;
use crate::error::RequestError;
use http::{
    HeaderName, HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderMap},
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
        trailers_only(error, &why)
    } else {
        plain(error.status(), error, &why)
    }
}

/// The answer to what never became a request. `status` is more precise than that of the error.
pub fn refusal(status: StatusCode, error: RequestError, reason: &str) -> Response<Body> {
    plain(status, error, &format!("{}; {reason}", error.reason()))
}

fn plain(status: StatusCode, error: RequestError, why: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(format!("weft: {why}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(WEFT_ERROR, value(error, why));
    response
}

fn trailers_only(error: RequestError, why: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(
        GRPC_STATUS,
        HeaderValue::from(u16::from(error.grpc_status())),
    );
    headers.insert(GRPC_MESSAGE, value(error, &format!("weft: {why}")));
    headers.insert(WEFT_ERROR, value(error, why));
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
    fn a_reason_that_is_no_field_value_is_left_out() {
        let response = refusal(StatusCode::BAD_REQUEST, RequestError::BadRequest, "\n");
        assert_eq!(response.headers()[WEFT_ERROR], "bad-request");
    }
}
