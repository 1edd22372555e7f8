//! The peers: each starts a pair of sidecars between the load and the application.
//!
//! All have the same to do: route by host, mutual TLS 1.3 with ECDSA P-256 and the identity of either side checked,
//! metrics, timeouts, retries, a request id, who called in `x-forwarded-client-cert`; one worker, no access log. HTTP/1.1
//! stays HTTP/1.1 between the sidecars and HTTP/2 stays HTTP/2, except where the name of a peer says otherwise.

mod direct;
mod envoy;
mod haproxy;
pub(crate) mod weft;

use crate::{
    application::Service,
    ground::{self, Ground},
    programs::Program,
};
use clap::ValueEnum;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use weft_cli::sandbox::{Child, Command};

/// What stands between the load and the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// Nothing.
    Direct,
    /// Weft.
    Weft,
    /// Weft with a policy on every service that says something in every section.
    WeftPolicy,
    /// Envoy.
    Envoy,
    /// HAProxy.
    Haproxy,
    /// HAProxy with HTTP/2 between its halves, whatever the caller speaks.
    HaproxyH2,
}

/// A way to the application. Dropping it ends its processes.
pub(crate) struct Pair {
    /// Where callers send their requests.
    pub(crate) entry: SocketAddr,
    /// The sidecars, if there are any.
    pub(crate) sidecars: Option<Sidecars>,
}

/// The sidecars of both sides.
pub(crate) struct Sidecars {
    pub(crate) client: Sidecar,
    pub(crate) server: Sidecar,
}

/// A sidecar that is ready.
pub(crate) struct Sidecar {
    process: Child,
    /// How long that took from the start of its process.
    pub(crate) ready_after: Duration,
}

/// The port of each sidecar for what is not traffic: readiness, and metrics where they have no port of their own.
const ADMIN_PORT: u16 = 15000;
/// The port of the caller's sidecar for requests of the application beside it.
const OUTBOUND_PORT: u16 = 15001;

impl Peer {
    /// Every peer, in the order of the tables.
    pub(crate) const ALL: [Self; 6] = [
        Self::Direct,
        Self::Weft,
        Self::WeftPolicy,
        Self::Envoy,
        Self::Haproxy,
        Self::HaproxyH2,
    ];

    /// What tables and flags call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Weft => "weft",
            Self::WeftPolicy => "weft-policy",
            Self::Envoy => "envoy",
            Self::Haproxy => "haproxy",
            Self::HaproxyH2 => "haproxy-h2",
        }
    }

    /// Whether callers name the destination of opaque bytes by CONNECT. The others have an entry for each.
    pub(crate) fn takes_connect(self) -> bool {
        self.is_weft()
    }

    /// Whether it is Weft, in one way or the other.
    pub(crate) fn is_weft(self) -> bool {
        matches!(self, Self::Weft | Self::WeftPolicy)
    }

    /// What it consists of.
    pub(crate) fn programs(self) -> &'static [Program] {
        match self {
            Self::Direct => &[],
            Self::Weft | Self::WeftPolicy => &[Program::WeftProxy, Program::WeftControlPlane],
            Self::Envoy => &[Program::Envoy],
            Self::Haproxy | Self::HaproxyH2 => &[Program::Haproxy],
        }
    }

    /// Starts it on the way to a service and waits until it is ready.
    pub(crate) fn start(self, service: Service, ground: &Ground) -> anyhow::Result<Pair> {
        match self {
            Self::Direct => Ok(direct::start(service, ground)),
            Self::Weft | Self::WeftPolicy => weft::start(self, service, ground),
            Self::Envoy => envoy::start(service, ground),
            Self::Haproxy => haproxy::start(service, service.is_http2(), ground),
            Self::HaproxyH2 => haproxy::start(service, true, ground),
        }
    }
}

impl Sidecars {
    /// Something of the client's and of the server's sidecar.
    pub(crate) fn each<T>(
        &self,
        of: impl Fn(&Sidecar) -> anyhow::Result<T>,
    ) -> anyhow::Result<[T; 2]> {
        Ok([of(&self.client)?, of(&self.server)?])
    }
}

impl Sidecar {
    /// Starts a process and waits until a path of its admin port answers 200.
    fn start(command: Command, admin: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let start = Instant::now();
        let process = command.spawn()?;
        ground::until_running(&process, "is ready", || ground::answers(admin, path))?;
        Ok(Self {
            process,
            ready_after: start.elapsed(),
        })
    }

    /// The id of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}
