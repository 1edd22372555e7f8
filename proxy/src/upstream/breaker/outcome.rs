//! What the answer to a request, or the lack of one, says of its endpoint.

use crate::{
    error::{Fault, RequestError},
    snapshot::breaker::Failures,
};
use http::StatusCode;
use std::{fmt, time::Duration};

/// What a request to an endpoint came to. What says nothing about the endpoint, such as a limit of the proxy or a
/// caller that went away, is no outcome.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Outcome {
    /// It was served.
    Success,
    /// It was not, and the endpoint is to blame.
    Failure(Failure),
}

/// How an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Failure {
    /// No connection, a reset, or what is not HTTP.
    Connection(RequestError),
    /// No answer in the time that the attempt, or the request, was given.
    NoAnswer,
    /// An HTTP status.
    Status(StatusCode),
    /// A gRPC status code.
    GrpcCode(u8),
    /// An answer that took so long.
    Slow(Duration),
}

impl Outcome {
    /// Of the head of a response, which came after so long.
    pub(crate) fn of_head(
        failures: &Failures,
        status: StatusCode,
        grpc_code: Option<u8>,
        elapsed: Duration,
    ) -> Self {
        if failures.server_errors && status.as_u16() >= 500 || failures.statuses.contains(&status) {
            return Self::Failure(Failure::Status(status));
        }
        match failures.slower_than {
            Some(bound) if elapsed > bound => Self::Failure(Failure::Slow(elapsed)),
            _ => Self::of_grpc_code(failures, grpc_code),
        }
    }

    /// Of a gRPC status code, in the head or the trailers of a response.
    pub(crate) fn of_grpc_code(failures: &Failures, code: Option<u8>) -> Self {
        match code {
            Some(code) if failures.grpc_codes.contains(code) => {
                Self::Failure(Failure::GrpcCode(code))
            }
            _ => Self::Success,
        }
    }

    /// Of a request that came to nothing. None unless the endpoint is at fault, and that counts.
    ///
    /// A timeout, of an attempt or of the request, counts as an endpoint that could not be reached: whoever wants
    /// the one to count wants the other.
    pub(crate) fn of_error(failures: &Failures, error: RequestError) -> Option<Self> {
        let failure = match error {
            RequestError::RequestTimeout | RequestError::UpstreamTimeout => Failure::NoAnswer,
            error if error.fault() == Fault::Upstream => Failure::Connection(error),
            _ => return None,
        };
        failures.connect_errors.then_some(Self::Failure(failure))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::NoAnswer => f.write_str("no answer in time"),
            Self::Status(status) => write!(f, "status {}", status.as_u16()),
            Self::GrpcCode(code) => write!(f, "grpc-status {code}"),
            Self::Slow(elapsed) => write!(f, "an answer after {} ms", elapsed.as_millis()),
        }
    }
}
