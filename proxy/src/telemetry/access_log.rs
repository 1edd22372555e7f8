//! The access log: one JSON object per request or opaque connection, on standard output.
//!
//! Workers format a line and hand it to a thread of its own: a reader of the log that stalls costs lines,
//! which are counted, never requests.

use super::Direction;
use crate::{error::RequestError, snapshot::WorkloadName};
use serde::Serialize;
use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};
use weft_xds_proto::spiffe::SpiffeId;

/// Lines that wait for the writer at most.
const QUEUE: usize = 4_096;

/// Which requests are logged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Mode {
    /// None. The default.
    #[default]
    Off,
    /// Every one.
    All,
    /// Those that the proxy failed and those answered with 5xx or a gRPC status other than 0.
    Errors,
    /// A share, from 0 to 1, and every one that [`Mode::Errors`] would log.
    Sample(f64),
}

/// A text is not a mode.
#[derive(Debug, thiserror::Error)]
#[error("access log mode {0:?} is not one of off, all, errors, sample:<share from 0 to 1>")]
pub struct InvalidMode(String);

impl FromStr for Mode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "all" => Ok(Self::All),
            "errors" => Ok(Self::Errors),
            other => other
                .strip_prefix("sample:")
                .and_then(|share| share.parse().ok())
                .filter(|share| (0.0..=1.0).contains(share))
                .map(Self::Sample)
                .ok_or_else(|| InvalidMode(text.to_owned())),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::All => f.write_str("all"),
            Self::Errors => f.write_str("errors"),
            Self::Sample(share) => write!(f, "sample:{share}"),
        }
    }
}

/// What is known of a request or connection when it has ended.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Which side of the call this proxy is on.
    pub direction: Direction,
    /// `HTTP/1.1`, `HTTP/2` or `TCP`.
    pub protocol: &'static str,
    /// The method; empty for an opaque connection.
    pub method: &'a str,
    /// The authority that was called.
    pub authority: &'a str,
    /// The path without its query, which may hold secrets.
    pub path: &'a str,
    /// The status the caller received; absent for an opaque connection.
    pub status: Option<u16>,
    /// The `grpc-status`, if it was a gRPC call.
    pub grpc_status: Option<u8>,
    /// Why the proxy failed it, if it was the proxy.
    pub error: Option<RequestError>,
    /// What the error was about: an address, an identity, a limit.
    pub detail: Option<&'a str>,
    /// From first byte to last.
    pub duration: Duration,
    /// Bytes of body from the caller.
    pub received_bytes: u64,
    /// Bytes of body to the caller.
    pub sent_bytes: u64,
    /// The caller's address.
    pub source: SocketAddr,
    /// The identity the caller proved (inbound) or the endpoint proved (outbound): mutual TLS when present.
    pub peer: Option<&'a SpiffeId>,
    /// The workload that answers.
    pub destination: &'a WorkloadName,
    /// The endpoint that answered, if one was chosen.
    pub endpoint: Option<SocketAddr>,
    /// The route that matched.
    pub route: &'a str,
    /// How often the request was sent to an endpoint; absent for an opaque connection.
    pub attempts: Option<u32>,
    /// The `x-request-id`.
    pub request_id: Option<&'a str>,
    /// The trace that the request belongs to.
    pub trace_id: Option<&'a str>,
    /// The `user-agent`.
    pub user_agent: Option<&'a str>,
}

/// The access log of the proxy. Cloning shares it.
#[derive(Debug, Clone)]
pub struct AccessLog {
    mode: Mode,
    writer: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the log on standard output. A mode of [`Mode::Off`] starts no thread.
    pub fn stdout(mode: Mode) -> io::Result<Self> {
        Self::to(mode, Box::new(io::stdout()))
    }

    fn to(mode: Mode, sink: Box<dyn Write + Send>) -> io::Result<Self> {
        let writer = if mode == Mode::Off {
            None
        } else {
            let (sender, lines) = sync_channel(QUEUE);
            thread::Builder::new()
                .name("access-log".into())
                .stack_size(64 * 1024)
                .spawn(move || write_lines(&lines, sink))?;
            Some(sender)
        };
        Ok(Self {
            mode,
            writer,
            dropped: Arc::default(),
        })
    }

    /// Whether anything may be logged at all: without it, nothing need be kept for an [`Entry`].
    pub fn is_on(&self) -> bool {
        self.mode != Mode::Off
    }

    /// Lines lost because nobody read the log fast enough.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Whether a request that ended so is logged. Asked before an [`Entry`] is put together.
    pub fn wants(&self, status: Option<u16>, grpc_status: Option<u8>, error: bool) -> bool {
        let failed = || {
            error
                || status.is_some_and(|status| status >= 500)
                || grpc_status.is_some_and(|status| status != 0)
        };
        match self.mode {
            Mode::Off => false,
            Mode::All => true,
            Mode::Errors => failed(),
            Mode::Sample(share) => failed() || fastrand::f64() < share,
        }
    }

    /// Writes a line.
    pub fn log(&self, entry: &Entry<'_>) {
        let Some(writer) = &self.writer else { return };
        let mut line = Vec::with_capacity(512);
        let written = serde_json::to_writer(&mut line, &Line::new(SystemTime::now(), entry));
        line.push(b'\n');
        if written.is_err() || writer.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes what has come, and flushes when nothing more is waiting.
fn write_lines(lines: &Receiver<Vec<u8>>, sink: Box<dyn Write + Send>) {
    let mut sink = io::BufWriter::new(sink);
    while let Ok(line) = lines.recv() {
        let mut written = sink.write_all(&line);
        while let Ok(line) = lines.try_recv() {
            written = written.and_then(|()| sink.write_all(&line));
        }
        if let Err(error) = written.and_then(|()| sink.flush()) {
            tracing::warn!(%error, "access log could not be written; it ends here");
            return;
        }
    }
}

/// The shape of a line. Absent values are left out.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    direction: &'static str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    method: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    authority: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    duration_ms: f64,
    received_bytes: u64,
    sent_bytes: u64,
    source: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    mtls: bool,
    destination_workload: &'a str,
    destination_namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<SocketAddr>,
    route: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn new(time: SystemTime, entry: &Entry<'a>) -> Self {
        Self {
            time: humantime::format_rfc3339_millis(time).to_string(),
            direction: entry.direction.label(),
            protocol: entry.protocol,
            method: entry.method,
            authority: entry.authority,
            path: entry.path,
            status: entry.status,
            grpc_status: entry.grpc_status,
            reason: entry.error.map(RequestError::reason),
            detail: entry.detail,
            duration_ms: (entry.duration.as_micros() as f64) / 1000.0,
            received_bytes: entry.received_bytes,
            sent_bytes: entry.sent_bytes,
            source: entry.source,
            peer: entry.peer.map(SpiffeId::as_str),
            mtls: entry.peer.is_some(),
            destination_workload: &entry.destination.name,
            destination_namespace: &entry.destination.namespace,
            endpoint: entry.endpoint,
            route: entry.route,
            attempts: entry.attempts,
            request_id: entry.request_id,
            trace_id: entry.trace_id,
            user_agent: entry.user_agent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Lines(mpsc::Sender<Vec<u8>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0
                .send(bytes.to_vec())
                .map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_request_becomes_one_line_of_json_without_what_is_absent() {
        let (sender, written) = mpsc::channel();
        let log = AccessLog::to(Mode::All, Box::new(Lines(sender))).unwrap();
        log.log(&Entry {
            direction: Direction::Outbound,
            protocol: "HTTP/1.1",
            method: "GET",
            authority: "user",
            path: "/\"quoted\"",
            status: Some(503),
            grpc_status: None,
            error: Some(RequestError::UpstreamConnectFailed),
            detail: Some("10.0.0.1:80: connection refused"),
            duration: Duration::from_micros(1_500),
            received_bytes: 0,
            sent_bytes: 12,
            source: "127.0.0.1:4000".parse().unwrap(),
            peer: None,
            destination: &WorkloadName::unknown(),
            endpoint: None,
            route: "default",
            attempts: Some(2),
            request_id: None,
            trace_id: None,
            user_agent: None,
        });
        let mut line: serde_json::Value = serde_json::from_slice(&written.recv().unwrap()).unwrap();
        assert!(line.as_object_mut().unwrap().remove("time").is_some());
        assert_eq!(
            line,
            serde_json::json!({
                "direction": "outbound", "protocol": "HTTP/1.1", "method": "GET",
                "authority": "user", "path": "/\"quoted\"", "status": 503,
                "reason": "upstream-connect-failed",
                "detail": "10.0.0.1:80: connection refused", "duration_ms": 1.5,
                "received_bytes": 0, "sent_bytes": 12, "source": "127.0.0.1:4000",
                "mtls": false, "destination_workload": "unknown",
                "destination_namespace": "unknown", "route": "default", "attempts": 2,
            })
        );
    }

    #[test]
    fn errors_are_logged_whatever_the_sample() {
        let log = AccessLog {
            mode: Mode::Sample(0.0),
            writer: None,
            dropped: Arc::default(),
        };
        assert!(log.wants(Some(503), None, false));
        assert!(log.wants(Some(200), Some(14), false));
        assert!(log.wants(None, None, true));
        assert!(!log.wants(Some(200), Some(0), false));
    }

    #[test]
    fn modes_are_read_and_written_alike() {
        for text in ["off", "all", "errors", "sample:0.25"] {
            assert_eq!(text.parse::<Mode>().unwrap().to_string(), text);
        }
        for text in ["", "on", "sample:2", "sample:x"] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
    }
}
