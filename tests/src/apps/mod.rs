//! Applications that know nothing of a mesh, and clients for them.
//!
//! They run on threads of the test process inside a pod's namespace: what they send is intercepted like
//! anything else in the pod.

pub mod grpc;
pub mod http;
pub mod load;
pub mod moody;
pub mod tcp;
pub mod websocket;

use anyhow::Context;
use std::net::{Ipv6Addr, SocketAddr};
use weft_cli::sandbox::{Pod, Task};

/// An application that runs until it is dropped.
pub struct App {
    port: u16,
    _task: Task<()>,
}

impl App {
    /// The port it listens on, at every address of its pod.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Listens on a port of both IP versions and serves with `serve`, on a thread of its own.
    pub fn start<F>(
        pod: &Pod,
        port: u16,
        serve: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = pod
            .enter(|| std::net::TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))))
            .with_context(|| format!("port {port} of pod {}", pod.name()))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let task = pod.run(move || async move {
            let listener = tokio::net::TcpListener::from_std(listener)
                .expect("the thread of a task has a runtime");
            serve(listener).await;
        });
        Ok(Self { port, _task: task })
    }
}
