//! How the connection to the control plane fares, for metrics and the admin endpoint.

use serde::Serialize;
use std::time::{Duration, Instant};
use weft_xds_proto::resource::ResourceType;

/// The connection to the control plane, and what came over it since start.
#[derive(Debug, Clone)]
pub struct Status {
    /// Where it leads; `None` while there is none.
    pub connected_to: Option<String>,
    /// Since when there is a connection, or there is none.
    pub since: Instant,
    /// When the server last sent a message; `None` for never.
    pub last_message: Option<Instant>,
    /// Why the last connection ended or could not be made; absent after a success.
    pub last_error: Option<String>,
    /// Connections made.
    pub connections: u64,
    /// By type, in the order of [`ResourceType::ALL`].
    pub types: [Counts; ResourceType::ALL.len()],
}

/// What happened to the resources of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// Held now, with a valid value.
    pub held: usize,
    /// Applied since start, removals included.
    pub applied: u64,
    /// Refused since start.
    pub refused: u64,
}

impl Status {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            connected_to: None,
            since: now,
            last_message: None,
            last_error: None,
            connections: 0,
            types: [Counts::default(); ResourceType::ALL.len()],
        }
    }

    /// How old the configuration may be: zero while connected, since every change comes at once; else the
    /// time since the connection was lost.
    pub fn age(&self, now: Instant) -> Duration {
        match self.connected_to {
            Some(_) => Duration::ZERO,
            None => now.saturating_duration_since(self.since),
        }
    }

    pub(super) fn connected(&mut self, to: String, now: Instant) {
        self.connected_to = Some(to);
        self.since = now;
        self.last_error = None;
        self.connections += 1;
    }

    /// A failure to reconnect does not begin the outage anew.
    pub(super) fn disconnected(&mut self, error: String, now: Instant) {
        if self.connected_to.take().is_some() {
            self.since = now;
        }
        self.last_error = Some(error);
    }
}
