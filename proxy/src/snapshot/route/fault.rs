//! Faults on purpose.

use super::HeaderMatch;
use crate::snapshot::Share;
use http::StatusCode;
use std::time::Duration;

/// What goes wrong on purpose (`envoy.extensions.filters.http.fault.v3.HTTPFault`). Delay and abort are decided apart
/// from each other; the delay comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Only with requests that meet all of these.
    pub headers: Box<[HeaderMatch]>,
    /// Requests that are held back.
    pub delay: Option<Delay>,
    /// Requests that are answered here.
    pub abort: Option<Abort>,
}

/// Requests that are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// How many of them.
    pub share: Share,
    /// For how long.
    pub duration: Duration,
}

/// Requests that are answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abort {
    /// How many of them.
    pub share: Share,
    /// With what.
    pub status: AbortStatus,
}

/// What an aborted request is answered with. A caller of the other kind gets what corresponds to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortStatus {
    /// A status of HTTP.
    Http(StatusCode),
    /// A status of gRPC.
    Grpc(u8),
}
