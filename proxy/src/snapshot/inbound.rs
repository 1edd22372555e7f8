//! The inbound side: what the proxy requires of those who call its workload.

use super::{Protocol, WorkloadName, admission::Limits};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// The inbound configuration of this workload (its `inbound/<namespace>/<pod>` listener).
#[derive(Debug, Clone, PartialEq)]
pub struct Inbound {
    /// What telemetry calls this workload.
    pub workload: WorkloadName,
    /// The zone of its node, which balancers prefer; empty when unknown.
    pub zone: Arc<str>,
    /// By the port that was dialled.
    pub ports: BTreeMap<u16, InboundPort>,
    /// For every other port.
    pub other: InboundPort,
}

/// One inbound port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundPort {
    /// What the application speaks there.
    pub protocol: Protocol,
    /// Whether plaintext is taken.
    pub mtls: MtlsMode,
    /// To connect to the application. Default 1 s.
    pub connect_timeout: Duration,
    /// No byte in either direction of a stream; `None` never ends. Default 5 min.
    pub idle_timeout: Option<Duration>,
    /// What requests have to pass.
    pub limits: Limits,
}

/// What a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MtlsMode {
    /// Mutual TLS of the mesh, or plaintext.
    Permissive,
    /// Mutual TLS of the mesh only.
    Strict,
}

impl Inbound {
    /// The configuration of a port.
    pub fn port(&self, port: u16) -> &InboundPort {
        self.ports.get(&port).unwrap_or(&self.other)
    }
}
