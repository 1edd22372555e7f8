//! Connections of the generators that are part of the harness: opened, secured, asked for one answer.
//!
//! A generator that meets a failure returns it: there is no share of failures that would be good enough.

use crate::application::Answer;
use anyhow::{Context, bail};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};
use weft_tests::bench::answer;

/// What takes longer has failed: a benchmark must not hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects, with a limit to every later read and write.
pub(super) fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A TLS session over a connection, its handshake yet to be made.
pub(super) fn secure(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let name = ServerName::from(stream.peer_addr()?.ip());
    let session = ClientConnection::new(Arc::clone(config), name)?;
    Ok(StreamOwned::new(session, stream))
}

/// Asks a proxy for a connection, and waits until it has one.
pub(super) fn ask_for_connection(stream: &mut TcpStream, authority: &str) -> anyhow::Result<()> {
    write!(
        stream,
        "CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n\r\n"
    )?;
    read_answer(stream, true)
}

/// Sends a GET without waiting for the answer.
pub(super) fn send_request(stream: &mut impl Write, authority: &str) -> anyhow::Result<()> {
    let path = Answer::OneKib.path();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {authority}\r\n\r\n")?;
    Ok(stream.flush()?)
}

/// Reads one whole answer, which must be a success.
pub(super) fn read_answer(stream: &mut impl Read, to_connect: bool) -> anyhow::Result<()> {
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).context("reading the answer")?;
        if read == 0 {
            bail!("the connection ended within an answer");
        }
        received.extend_from_slice(&buffer[..read]);
        if let Some(length) = answer::length(&received, to_connect)?
            && received.len() >= length
        {
            return Ok(());
        }
    }
}
