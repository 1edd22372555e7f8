//! Opaque streams: bytes from sources through an address to a sink, as fast as they go.
//!
//! Both ends cost as little as the kernel allows, so that what is left is the cost of the way between them: a
//! source sends the pages of a file in memory (`sendfile`), and the sink lets the kernel discard what arrived
//! (`MSG_TRUNC` on a TCP socket, `man 7 tcp`).

use super::connection::{ask_for_connection, connect};
use anyhow::{Context, ensure};
use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create, sendfile},
    net::{RecvFlags, recv},
};
use std::{
    io::Read,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// What a source sends again and again, and what a sink discards at once.
const BLOCK: usize = 1024 * 1024;

/// An application that discards what it is sent. It closes a connection once the caller has finished.
pub(crate) struct Sink {
    address: SocketAddr,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

/// Streams to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Where to connect to.
    pub(crate) entrance: SocketAddr,
    /// What to ask for by CONNECT first, where the entrance is a proxy that wants to be told.
    pub(crate) connect: Option<&'a str>,
    /// Streams at once.
    pub(crate) streams: usize,
    /// How long each sends.
    pub(crate) duration: Duration,
}

/// What arrived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    pub(crate) bytes: u64,
    /// Until the sink had the last byte.
    pub(crate) elapsed: Duration,
}

impl Sink {
    /// Listens at an address.
    pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address)
            .with_context(|| format!("a sink cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        let (received, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (counter, stopped) = (Arc::clone(&received), Arc::clone(&stop));
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Acquire) {
                    return;
                }
                let counter = Arc::clone(&counter);
                // A connection that breaks shows in the bytes that are missing.
                thread::spawn(move || discard(&stream, &counter));
            }
        });
        Ok(Self {
            address,
            received,
            stop,
            accepting: Some(accepting),
        })
    }

    /// Sends streams to this sink and waits until every byte is here.
    pub(crate) fn take(&self, plan: Plan<'_>) -> anyhow::Result<Transfer> {
        let before = self.received.load(Ordering::Relaxed);
        let content = memfd_create("content", MemfdFlags::CLOEXEC)?;
        ftruncate(&content, BLOCK as u64)?;
        // Connected beforehand, so that what is measured is the streams.
        let streams = (0..plan.streams)
            .map(|_| {
                let mut stream = connect(plan.entrance)?;
                if let Some(authority) = plan.connect {
                    ask_for_connection(&mut stream, authority)?;
                }
                Ok(stream)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let began = Instant::now();
        let sent = thread::scope(|scope| {
            let sources: Vec<_> = streams
                .into_iter()
                .map(|stream| scope.spawn(|| send(stream, &content, plan.duration)))
                .collect();
            sources
                .into_iter()
                .map(|source| source.join().expect("a source does not panic"))
                .sum::<anyhow::Result<u64>>()
        })?;
        let elapsed = began.elapsed();
        let bytes = self.received.load(Ordering::Relaxed) - before;
        ensure!(bytes == sent, "{sent} bytes were sent and {bytes} arrived");
        Ok(Transfer { bytes, elapsed })
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Sends for so long, and returns when the other side has read everything and closed.
fn send(mut stream: TcpStream, content: &OwnedFd, duration: Duration) -> anyhow::Result<u64> {
    let began = Instant::now();
    let mut sent = 0;
    while began.elapsed() < duration {
        let mut offset = 0;
        while offset < BLOCK as u64 {
            let left = BLOCK - usize::try_from(offset)?;
            sent += sendfile(&stream, content, Some(&mut offset), left).context("sending")? as u64;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let answered = stream.read(&mut [0]).context("waiting for the end")?;
    ensure!(answered == 0, "a sink answers nothing");
    Ok(sent)
}

fn discard(stream: &TcpStream, counter: &AtomicU64) {
    let mut unused = Vec::with_capacity(BLOCK);
    loop {
        let space = rustix::buffer::spare_capacity(&mut unused);
        match recv(stream, space, RecvFlags::TRUNC) {
            Ok((_, received @ 1..)) => {
                counter.fetch_add(received as u64, Ordering::Relaxed);
            }
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return,
        }
        unused.clear();
    }
}
