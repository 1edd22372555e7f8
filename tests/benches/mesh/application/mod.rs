//! What is called at the end of the path: applications without a sidecar of their own.

pub(crate) mod grpc;
mod nginx;

use crate::{
    ground::Loopback,
    programs::{Program, Programs},
};
use std::{net::SocketAddr, path::Path};
use weft_cli::sandbox::Child;

/// A service of the mesh. Each speaks one protocol, on a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// Opaque bytes, of which the application takes any number.
    Opaque,
    /// The same without a sidecar at the server: what a mesh carries in plaintext.
    Outside,
}

/// A request and the answer that it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// GET of 1 KiB.
    OneKib,
    /// GET of 64 KiB.
    SixtyFourKib,
    /// POST of 16 KiB, answered with a few bytes.
    ToPost,
    /// A gRPC call with a message of [`grpc::MESSAGE`] bytes each way.
    Grpc,
}

/// The running applications. Dropping them ends them.
pub(crate) struct Applications {
    _nginx: Child,
    _grpc: Child,
}

impl Service {
    /// Every service.
    pub(crate) const ALL: [Self; 5] = [
        Self::Http1,
        Self::Http2,
        Self::Grpc,
        Self::Opaque,
        Self::Outside,
    ];

    /// The name of the service.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "echo",
            Self::Http2 => "echo-h2",
            Self::Grpc => "echo-grpc",
            Self::Opaque => "sink",
            Self::Outside => "sink-outside",
        }
    }

    /// What it speaks, as Kubernetes' `appProtocol` has it.
    pub(crate) fn app_protocol(self) -> &'static str {
        match self {
            Self::Http1 => "http",
            Self::Http2 => "kubernetes.io/h2c",
            Self::Grpc => "grpc",
            Self::Opaque | Self::Outside => "tcp",
        }
    }

    /// Whether it speaks HTTP/2.
    pub(crate) fn is_http2(self) -> bool {
        match self {
            Self::Http1 | Self::Opaque | Self::Outside => false,
            Self::Http2 | Self::Grpc => true,
        }
    }

    /// Whether it speaks what no sidecar looks into.
    pub(crate) fn is_opaque(self) -> bool {
        matches!(self, Self::Opaque | Self::Outside)
    }

    /// Whether a sidecar is beside the application, to which mutual TLS is spoken.
    pub(crate) fn has_sidecar(self) -> bool {
        self != Self::Outside
    }

    /// What the caller's sidecar connects to.
    pub(crate) fn endpoint(self, loopback: Loopback) -> SocketAddr {
        let address = if self.has_sidecar() {
            loopback.server()
        } else {
            loopback.application()
        };
        SocketAddr::new(address, self.port())
    }

    /// The port on which callers reach it, at the server's sidecar or, without one, at the application.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Http1 => 8080,
            Self::Http2 => 8082,
            Self::Grpc => 9090,
            Self::Opaque => 7000,
            Self::Outside => 7001,
        }
    }

    /// The host that requests name.
    pub(crate) fn host(self) -> String {
        format!(
            "{}.{}.svc.cluster.local",
            self.name(),
            weft_tests::mesh::NAMESPACE
        )
    }
}

impl Answer {
    /// The path that is asked for.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::OneKib => "/1k",
            Self::SixtyFourKib => "/64k",
            Self::ToPost => "/post",
            Self::Grpc => "/echo.Echo/Call",
        }
    }

    /// The body of the answer in bytes, at least.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::OneKib => 1 << 10,
            Self::SixtyFourKib => 64 << 10,
            Self::ToPost => nginx::RECEIVED.len(),
            Self::Grpc => grpc::answer().len(),
        }
    }

    /// The body of the request, if it has one.
    pub(crate) fn request_body(self) -> Option<Vec<u8>> {
        match self {
            Self::OneKib | Self::SixtyFourKib => None,
            Self::ToPost => Some(vec![b'p'; 16 << 10]),
            Self::Grpc => Some(grpc::answer().to_vec()),
        }
    }
}

impl Applications {
    /// Starts them, each on the port of its service.
    pub(crate) fn start(
        programs: &Programs,
        loopback: Loopback,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let address = |service: Service| SocketAddr::new(loopback.application(), service.port());
        Ok(Self {
            _nginx: nginx::start(
                programs.path(Program::Nginx)?,
                address(Service::Http1),
                address(Service::Http2),
                directory,
            )?,
            _grpc: grpc::start(address(Service::Grpc))?,
        })
    }
}
