//! The numbers of one edge of the mesh: who calls whom, over which route.

use super::histogram::{Histogram, Merged};
use crate::{
    error::RequestError,
    snapshot::WorkloadName,
    upstream::{Ending, Tries},
};
use http::{Method, StatusCode};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Which side of a call this proxy is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// The workload is called.
    Inbound,
    /// The workload calls.
    Outbound,
}

impl Direction {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// The labels of an edge, all from bounded sets: configuration, certificates of the mesh, constants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EdgeKey {
    /// Which side this proxy is on.
    pub direction: Direction,
    /// The caller. Inbound, its service account: a certificate names no more.
    pub source: WorkloadName,
    /// The workload that answers.
    pub destination: WorkloadName,
    /// The service that was called; `unknown` inbound, where only the workload is known.
    pub service: Arc<str>,
    /// The route that matched; `tcp` for opaque connections.
    pub route: Arc<str>,
    /// Whether the connection between the proxies is mutual TLS.
    pub mtls: bool,
}

/// How a request ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    /// The method of the request.
    pub method: &'a Method,
    /// The status that the caller received, or would have received.
    pub status: StatusCode,
    /// Why the proxy failed it, if it was the proxy.
    pub error: Option<RequestError>,
    /// The `grpc-status`, if it was a gRPC call.
    pub grpc_status: Option<u8>,
    /// From the first byte of the request to the last of the response.
    pub duration: Duration,
}

/// Methods as a label: a caller can invent methods, so they are classed.
pub const METHOD_CLASSES: [&str; 4] = ["GET", "POST", "other_safe", "other_unsafe"];
/// Statuses as a label.
pub const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// gRPC statuses 0 to 16.
pub const GRPC_STATUSES: usize = 17;
const ERRORS: usize = RequestError::ALL.len();
const ENDINGS: usize = Ending::ALL.len();

/// Counters of one edge on one worker.
#[derive(Debug, Default)]
pub struct Edge {
    requests: [[AtomicU64; STATUS_CLASSES.len()]; METHOD_CLASSES.len()],
    errors: [AtomicU64; ERRORS],
    grpc: [AtomicU64; GRPC_STATUSES],
    retries: AtomicU64,
    hedges: AtomicU64,
    endings: [AtomicU64; ENDINGS],
    duration: Histogram,
    tcp_opened: AtomicU64,
    tcp_closed: AtomicU64,
    tcp_sent: AtomicU64,
    tcp_received: AtomicU64,
}

impl Edge {
    /// Counts a finished request.
    pub fn request(&self, outcome: &Outcome<'_>) {
        add(
            &self.requests[method_class(outcome.method)][status_class(outcome.status)],
            1,
        );
        if let Some(error) = outcome.error {
            add(&self.errors[error.index()], 1);
        }
        if let Some(counter) = outcome
            .grpc_status
            .and_then(|status| self.grpc.get(usize::from(status)))
        {
            add(counter, 1);
        }
        self.duration.observe(outcome.duration);
    }

    /// Counts what was done for a request beyond sending it once.
    pub fn tried(&self, tries: &Tries) {
        if tries.attempts > 1 {
            add(&self.retries, tries.retries().into());
            add(&self.hedges, tries.hedges.into());
        }
        if let Some(ending) = tries.ending {
            add(&self.endings[ending.index()], 1);
        }
    }

    /// Counts an opaque connection that was opened.
    pub fn tcp_opened(&self) {
        add(&self.tcp_opened, 1);
    }

    /// Counts an opaque connection that ended: bytes from the caller, bytes to it, and the error if one ended it.
    pub fn tcp_closed(&self, sent: u64, received: u64, error: Option<RequestError>) {
        add(&self.tcp_closed, 1);
        add(&self.tcp_sent, sent);
        add(&self.tcp_received, received);
        if let Some(error) = error {
            add(&self.errors[error.index()], 1);
        }
    }

    /// Adds the counters of this worker to those of the others.
    pub fn merge_into(&self, merged: &mut MergedEdge) {
        for (sums, counts) in merged.requests.iter_mut().zip(&self.requests) {
            merge(sums, counts);
        }
        merge(&mut merged.errors, &self.errors);
        merge(&mut merged.grpc, &self.grpc);
        merge(&mut merged.endings, &self.endings);
        self.duration.merge_into(&mut merged.duration);
        for (sum, count) in [
            (&mut merged.retries, &self.retries),
            (&mut merged.hedges, &self.hedges),
            (&mut merged.tcp_opened, &self.tcp_opened),
            (&mut merged.tcp_closed, &self.tcp_closed),
            (&mut merged.tcp_sent, &self.tcp_sent),
            (&mut merged.tcp_received, &self.tcp_received),
        ] {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

/// The counters of one edge over all workers, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergedEdge {
    /// By method class and status class.
    pub requests: [[u64; STATUS_CLASSES.len()]; METHOD_CLASSES.len()],
    /// By reason.
    pub errors: [u64; ERRORS],
    /// By gRPC status.
    pub grpc: [u64; GRPC_STATUSES],
    /// Requests sent again because an attempt had failed.
    pub retries: u64,
    /// Requests sent again because an attempt took its time.
    pub hedges: u64,
    /// How it ended where a retry policy had something to do.
    pub endings: [u64; ENDINGS],
    /// Durations of requests.
    pub duration: Merged,
    /// Opaque connections opened.
    pub tcp_opened: u64,
    /// Opaque connections ended.
    pub tcp_closed: u64,
    /// Bytes from caller to workload.
    pub tcp_sent: u64,
    /// Bytes from workload to caller.
    pub tcp_received: u64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

fn merge(sums: &mut [u64], counts: &[AtomicU64]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count.load(Ordering::Relaxed);
    }
}

fn method_class(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::POST => 1,
        ref other if other.is_safe() => 2,
        _ => 3,
    }
}

fn status_class(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100).clamp(1, STATUS_CLASSES.len()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_once_under_each_of_its_properties() {
        let edge = Edge::default();
        edge.request(&Outcome {
            method: &Method::POST,
            status: StatusCode::SERVICE_UNAVAILABLE,
            error: Some(RequestError::UpstreamConnectFailed),
            grpc_status: Some(14),
            duration: Duration::from_millis(1),
        });
        let mut merged = MergedEdge::default();
        edge.merge_into(&mut merged);
        let mut expected = MergedEdge::default();
        expected.requests[1][4] = 1;
        expected.errors[RequestError::UpstreamConnectFailed.index()] = 1;
        expected.grpc[14] = 1;
        expected.duration.buckets[1] = 1;
        expected.duration.sum_micros = 1_000;
        assert_eq!(merged, expected);
    }

    #[test]
    fn attempts_beyond_the_first_are_counted_by_why_and_by_how_they_ended() {
        let edge = Edge::default();
        edge.tried(&Tries {
            attempts: 1,
            ..Tries::default()
        });
        edge.tried(&Tries {
            attempts: 4,
            hedges: 1,
            ending: Some(Ending::Exhausted),
        });
        let mut merged = MergedEdge::default();
        edge.merge_into(&mut merged);
        let mut expected = MergedEdge {
            retries: 2,
            hedges: 1,
            ..MergedEdge::default()
        };
        expected.endings[Ending::Exhausted.index()] = 1;
        assert_eq!(merged, expected);
    }

    #[test]
    fn invented_methods_and_statuses_fall_into_classes() {
        assert_eq!(method_class(&Method::from_bytes(b"BREW").unwrap()), 3);
        assert_eq!(method_class(&Method::HEAD), 2);
        assert_eq!(status_class(StatusCode::from_u16(999).unwrap()), 4);
        assert_eq!(status_class(StatusCode::CONTINUE), 0);
    }

    #[test]
    fn an_unknown_grpc_status_is_not_counted_as_another() {
        let edge = Edge::default();
        edge.request(&Outcome {
            method: &Method::POST,
            status: StatusCode::OK,
            error: None,
            grpc_status: Some(99),
            duration: Duration::ZERO,
        });
        let mut merged = MergedEdge::default();
        edge.merge_into(&mut merged);
        assert_eq!(merged.grpc, [0; GRPC_STATUSES]);
    }
}
