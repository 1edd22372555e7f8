//! A WebSocket application: every message comes back as it went, until the caller says goodbye.

use anyhow::Context;
use std::{
    net::{Ipv6Addr, SocketAddr, TcpListener},
    thread,
};
use weft_cli::sandbox::Pod;

/// Starts the application. Its thread ends with the test process.
pub fn start(pod: &Pod, port: u16) -> anyhow::Result<()> {
    let listener = pod
        .enter(|| TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))))
        .with_context(|| format!("port {port} of pod {}", pod.name()))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let Ok(mut socket) = tungstenite::accept(stream) else {
                    return;
                };
                while let Ok(message) = socket.read() {
                    let is_data = message.is_text() || message.is_binary();
                    if is_data && socket.send(message).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(())
}
