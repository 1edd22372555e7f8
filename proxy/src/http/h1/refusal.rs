//! A downstream message that is answered without the handler, and why.

use http::{Response, StatusCode, header};

use crate::{error::RequestError, http::body::Body};

/// Why a request was answered by the connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the answer. More precise than [`RequestError::status`]: 414 and 501 are told apart.
    pub status: StatusCode,
    /// The word for it in header, metrics, log and trace.
    pub error: RequestError,
    /// What exactly was wrong, for people.
    pub reason: &'static str,
}

impl Refusal {
    /// A plain answer: the status, the word, and the reason as text.
    pub fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::full(self.reason));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            "weft-error",
            http::HeaderValue::from_static(self.error.reason()),
        );
        headers.insert(
            header::CONTENT_TYPE,
            http::HeaderValue::from_static("text/plain"),
        );
        response
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self {
            status: error.status(),
            error,
            reason: error.reason(),
        }
    }
}
