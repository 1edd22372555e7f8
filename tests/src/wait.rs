//! Waiting for conditions, and the small HTTP client that most of them ask with.

use anyhow::{Context, bail};
use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use weft_cli::sandbox::Pod;

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until a condition holds; an error names it when it does not in time.
pub fn until(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + patience;
    while !holds() {
        if Instant::now() > deadline {
            bail!("waited {patience:?} in vain until {what}");
        }
        thread::park_timeout(INTERVAL);
    }
    Ok(())
}

/// GETs a path from a port of a pod's loopback, from inside the pod: status and body.
pub fn http_get(pod: &Pod, port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    pod.enter(|| request(loopback, "GET", path, ""))
}

/// Sends a request with a body to a port of a pod's loopback, from inside the pod: status and body.
pub fn http_send(
    pod: &Pod,
    port: u16,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    pod.enter(|| request(loopback, method, path, body))
}

/// One request on one connection, from the namespace of the calling thread.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    request_for(address, &address.to_string(), method, path, body)
}

/// The same for another authority than the address.
pub fn request_for(
    address: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    body: &str,
) -> anyhow::Result<(u16, String)> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .with_context(|| format!("{address}{path} answered {answer:?}, which is not HTTP"))?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let is_chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked {
        dechunk(body).with_context(|| format!("{address}{path} answered {body:?}"))?
    } else {
        body.to_owned()
    };
    Ok((status.context("an answer has a status")?, body))
}

/// The body within chunks; nothing when the last one is missing.
fn dechunk(mut chunks: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body += rest.get(..size)?;
        chunks = rest.get(size..)?.strip_prefix("\r\n")?;
    }
}
