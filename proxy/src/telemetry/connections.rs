//! Counters of a worker's connections, before any edge is known.

use crate::error::RequestError;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a connection turned out to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Opaque, as its first bytes are of no protocol we know.
    Opaque,
    /// Opaque, as the server spoke first.
    ServerFirst,
    /// Not detected: declared, or agreed by ALPN.
    Declared,
}

impl Verdict {
    /// Every verdict, in order.
    pub const ALL: [Self; 5] = [
        Self::Http1,
        Self::Http2,
        Self::Opaque,
        Self::ServerFirst,
        Self::Declared,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Opaque => "opaque",
            Self::ServerFirst => "server-first",
            Self::Declared => "declared",
        }
    }
}

/// Counters of the connections of one direction on one worker.
#[derive(Debug, Default)]
pub struct Connections {
    accepted: AtomicU64,
    closed: AtomicU64,
    accept_errors: AtomicU64,
    plaintext_refused: AtomicU64,
    tls_failed: AtomicU64,
    verdicts: [AtomicU64; Verdict::ALL.len()],
    errors: [AtomicU64; RequestError::ALL.len()],
}

/// A connection that is open; counts its end when dropped.
#[derive(Debug)]
pub struct OpenConnection<'a>(&'a Connections);

impl Connections {
    /// Counts an accepted connection until the guard is dropped.
    pub fn open(&self) -> OpenConnection<'_> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }

    /// Counts a failure to accept (no file descriptors, for example).
    pub fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection in plaintext to a port that takes mutual TLS only.
    pub fn plaintext_refused(&self) {
        self.plaintext_refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a TLS handshake with a caller that failed.
    pub fn tls_failed(&self) {
        self.tls_failed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what a connection speaks.
    pub fn detected(&self, verdict: Verdict) {
        self.verdicts[verdict as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that ended before any request of it could be told apart.
    pub fn failed(&self, error: RequestError) {
        self.errors[error.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// Adds the counters of this worker to those of the others.
    pub fn merge_into(&self, merged: &mut MergedConnections) {
        for (sum, count) in [
            (&mut merged.accepted, &self.accepted),
            (&mut merged.closed, &self.closed),
            (&mut merged.accept_errors, &self.accept_errors),
            (&mut merged.plaintext_refused, &self.plaintext_refused),
            (&mut merged.tls_failed, &self.tls_failed),
        ] {
            *sum += count.load(Ordering::Relaxed);
        }
        for (sum, count) in merged.verdicts.iter_mut().zip(&self.verdicts) {
            *sum += count.load(Ordering::Relaxed);
        }
        for (sum, count) in merged.errors.iter_mut().zip(&self.errors) {
            *sum += count.load(Ordering::Relaxed);
        }
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The connections of one direction over all workers, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergedConnections {
    /// Accepted since start.
    pub accepted: u64,
    /// Closed since start.
    pub closed: u64,
    /// Failures to accept.
    pub accept_errors: u64,
    /// Plaintext where mutual TLS is required.
    pub plaintext_refused: u64,
    /// Failed handshakes with callers.
    pub tls_failed: u64,
    /// By what they speak.
    pub verdicts: [u64; Verdict::ALL.len()],
    /// By the reason that ended them.
    pub errors: [u64; RequestError::ALL.len()],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_open_until_its_guard_is_dropped() {
        let connections = Connections::default();
        let merged = || {
            let mut merged = MergedConnections::default();
            connections.merge_into(&mut merged);
            (merged.accepted, merged.closed)
        };
        let guard = connections.open();
        assert_eq!(merged(), (1, 0));
        drop(guard);
        assert_eq!(merged(), (1, 1));
    }

    #[test]
    fn verdicts_stand_at_their_index() {
        for (index, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, index);
        }
    }
}
