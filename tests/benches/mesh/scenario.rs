//! The work that is put through every peer.

use crate::{
    application::{Answer, Service},
    peer::Peer,
    programs::Program,
};

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
        /// Connections, each kept alive.
        connections: u16,
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
    /// None: the pair starts, and that is it.
    Ready,
}

/// Every scenario.
pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "http1-1k",
        what: "HTTP/1.1 keep-alive, 1 KiB answers, 32 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 32,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "http1-4-connections",
        what: "HTTP/1.1 keep-alive, 1 KiB answers, 4 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 4,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "http1-256-connections",
        what: "HTTP/1.1 keep-alive, 1 KiB answers, 256 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 256,
            answer: Answer::OneKib,
        },
    },
    Scenario {
        name: "http1-64k",
        what: "HTTP/1.1 keep-alive, 64 KiB answers, 32 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 32,
            answer: Answer::SixtyFourKib,
        },
    },
    Scenario {
        name: "http1-post-16k",
        what: "HTTP/1.1 keep-alive, POST of 16 KiB, 32 connections",
        service: Service::Http1,
        work: Work::Wrk {
            connections: 32,
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
        name: "ready",
        what: "from the start of a sidecar until it says that it is ready",
        service: Service::Http1,
        work: Work::Ready,
    },
];

impl Scenario {
    /// Whether it says anything about a peer.
    pub(crate) fn suits(&self, peer: Peer) -> bool {
        !matches!((self.work, peer), (Work::Ready, Peer::Direct))
    }
}

impl Work {
    /// What makes the load.
    pub(crate) fn programs(self) -> &'static [Program] {
        match self {
            Self::Wrk { .. } => &[Program::Wrk],
            Self::H2load { .. } => &[Program::H2load],
            Self::Oha { .. } => &[Program::Oha],
            Self::Ready => &[],
        }
    }
}
