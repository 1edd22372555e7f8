//! The work that is put through every peer.

use crate::{
    application::{Answer, Service},
    load::handshakes::KeyExchange,
    peer::Peer,
    programs::Program,
};
use std::time::Duration;

/// Something to measure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    /// How it is chosen on the command line.
    pub(crate) name: &'static str,
    /// What the table says above it.
    pub(crate) what: &'static str,
    /// What is called.
    pub(crate) service: Service,
    /// How it is called.
    pub(crate) work: Work,
}

/// How load is made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// HTTP/1.1 as fast as it goes: each connection sends its next request when the last was answered.
    Wrk {
        /// Connections at once.
        connections: u16,
        /// Whether each is kept for the next request.
        keep_alive: bool,
        /// What is asked for.
        answer: Answer,
    },
    /// HTTP/2 as fast as it goes.
    H2load {
        /// Connections, each kept alive.
        connections: u16,
        /// Streams at once on each.
        streams: u16,
        /// What is asked for.
        answer: Answer,
    },
    /// HTTP/1.1 at a fixed rate, however slow the answers are.
    Oha {
        /// Connections, each kept alive.
        connections: u16,
        /// Requests a second over all of them.
        rate: u32,
        /// What is asked for.
        answer: Answer,
    },
    /// Opaque bytes as fast as they go.
    Streams {
        /// Streams at once.
        streams: usize,
    },
    /// New connections under mutual TLS to the server's sidecar that carry nothing.
    Handshakes {
        /// How keys are agreed on.
        key_exchange: KeyExchange,
        /// Whether sessions are resumed.
        resume: bool,
    },
    /// Connections that carry nothing any more.
    Rest {
        /// Connections at once.
        connections: usize,
        /// Where they end.
        resting: Resting,
    },
    /// HTTP/1.1 on many connections for a while, then nothing for a minute.
    Burst {
        /// Connections, each kept alive.
        connections: u16,
        /// How long it lasts.
        duration: Duration,
    },
    /// None: the pair starts, and that is it.
    Ready,
}

/// Where a resting connection ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Resting {
    /// HTTP/1.1 of an application at its sidecar. What it used behind that is shared with the others.
    AtClient,
    /// HTTP/1.1 of another sidecar, under mutual TLS, at that of the server.
    AtServer,
    /// Opaque bytes: each connection of the caller has its own between the sidecars, and to the application.
    Through,
}

/// Every scenario.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "http1-1k",
        what: "HTTP/1.1 keep-alive, 1 KiB answers, 32 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 32,
            keep_alive: true,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "http1-4-connections",
        what: "HTTP/1.1 keep-alive, 1 KiB answers, 4 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 4,
            keep_alive: true,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "http1-256-connections",
        what: "HTTP/1.1 keep-alive, 1 KiB answers, 256 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 256,
            keep_alive: true,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "http1-64k",
        what: "HTTP/1.1 keep-alive, 64 KiB answers, 32 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 32,
            keep_alive: true,
            answer: Answer::SixtyFourKib,
        },
    },
    Scenario {
        name: "http1-post-16k",
        what: "HTTP/1.1 keep-alive, POST of 16 KiB, 32 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 32,
            keep_alive: true,
            answer: Answer::ToPost,
        },
    },
    Scenario {
        name: "http2-1k",
        what: "HTTP/2, 1 KiB answers, 1 connection with 100 streams",
        service: Service::Http2,
        work: Work::H2load {
            connections: 1,
            streams: 100,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "grpc-unary",
        what: "gRPC unary over HTTP/2, 1 connection with 100 streams",
        service: Service::Grpc,
        work: Work::H2load {
            connections: 1,
            streams: 100,
            answer: Answer::Grpc,
        },
    },
    Scenario {
        name: "latency",
        what: "HTTP/1.1 keep-alive, 1 KiB answers, 32 connections, 1,000 requests/s, corrected for coordinated omission",
        service: Service::Http1,
        work: Work::Oha {
            connections: 32,
            rate: 1000,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "http1-connections",
        what: "HTTP/1.1, 1 KiB answers, a new connection for every request, 32 at a time",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 32,
            keep_alive: false,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "tcp-mtls-1-stream",
        what: "opaque TCP, mutual TLS between the sidecars, 1 stream",
        service: Service::Opaque,
        work: Work::Streams { streams: 1 },
    },
    Scenario {
        name: "tcp-mtls-8-streams",
        what: "opaque TCP, mutual TLS between the sidecars, 8 streams",
        service: Service::Opaque,
        work: Work::Streams { streams: 8 },
    },
    Scenario {
        name: "tcp-plaintext-1-stream",
        what: "opaque TCP in plaintext through the caller's sidecar alone, 1 stream",
        service: Service::Outside,
        work: Work::Streams { streams: 1 },
    },
    Scenario {
        name: "tcp-plaintext-8-streams",
        what: "opaque TCP in plaintext through the caller's sidecar alone, 8 streams",
        service: Service::Outside,
        work: Work::Streams { streams: 8 },
    },
    Scenario {
        name: "handshakes-full",
        what: "mutual TLS 1.3 handshakes at the server's sidecar, X25519, 4 in flight",
        service: Service::Http1,
        work: Work::Handshakes {
            key_exchange: KeyExchange::X25519,
            resume: false,
        },
    },
    Scenario {
        name: "handshakes-resumed",
        what: "the same with session resumption",
        service: Service::Http1,
        work: Work::Handshakes {
            key_exchange: KeyExchange::X25519,
            resume: true,
        },
    },
    Scenario {
        name: "handshakes-hybrid",
        what: "mutual TLS 1.3 handshakes at the server's sidecar, X25519MLKEM768, 4 in flight",
        service: Service::Http1,
        work: Work::Handshakes {
            key_exchange: KeyExchange::X25519MlKem768,
            resume: false,
        },
    },
    Scenario {
        name: "idle-at-client",
        what: "5,000 idle connections of HTTP/1.1 at the caller's sidecar",
        service: Service::Http1,
        work: Work::Rest {
            connections: 5000,
            resting: Resting::AtClient,
        },
    },
    Scenario {
        name: "idle-at-server",
        what: "5,000 idle connections of HTTP/1.1 under mutual TLS at the server's sidecar",
        service: Service::Http1,
        work: Work::Rest {
            connections: 5000,
            resting: Resting::AtServer,
        },
    },
    Scenario {
        name: "idle-through",
        what: "5,000 idle opaque connections through both sidecars, mutual TLS between them",
        service: Service::Opaque,
        work: Work::Rest {
            connections: 5000,
            resting: Resting::Through,
        },
    },
    Scenario {
        name: "burst",
        what: "2,000 busy connections of HTTP/1.1 for 10 s, and a minute later",
        service: Service::Http1,
        work: Work::Burst {
            connections: 2000,
            duration: Duration::from_secs(10),
        },
    },
    Scenario {
        name: "ready",
        what: "from the start of a sidecar until it says that it is ready",
        service: Service::Http1,
        work: Work::Ready,
    },
];

impl Scenario {
    /// Whether it says anything about a peer.
    pub(crate) fn suits(&self, peer: Peer) -> bool {
        let is_about_http = matches!(
            self.work,
            Work::Wrk { .. } | Work::H2load { .. } | Work::Oha { .. }
        );
        match peer {
            Peer::Direct => is_about_http || matches!(self.work, Work::Streams { .. }),
            // OpenSSL 3.0, which Debian's HAProxy has, knows no ML-KEM.
            Peer::Haproxy => !matches!(
                self.work,
                Work::Handshakes {
                    key_exchange: KeyExchange::X25519MlKem768,
                    ..
                }
            ),
            Peer::WeftPolicy | Peer::HaproxyH2 => is_about_http,
            Peer::Weft | Peer::Envoy => true,
        }
    }
}

impl Work {
    /// What makes the load.
    pub(crate) fn programs(self) -> &'static [Program] {
        match self {
            Self::Wrk { .. } | Self::Burst { .. } => &[Program::Wrk],
            Self::H2load { .. } => &[Program::H2load],
            Self::Oha { .. } => &[Program::Oha],
            Self::Streams { .. } | Self::Handshakes { .. } | Self::Rest { .. } | Self::Ready => &[],
        }
    }
}
