//! Load that notices every failure: callers in a closed loop, each with a connection of its own.

use super::{grpc, moody::ID};
use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::{
    body::Frame,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::net::TcpStream;
use tokio_stream::wrappers::ReceiverStream;
use weft_cli::sandbox::{Pod, Task};

/// A request or message that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Failures whose text is kept.
const KEPT: usize = 20;

/// Load under way. Dropping it ends it without a word.
pub struct Load {
    shared: Arc<Shared>,
    task: Task<()>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    leave: AtomicBool,
    sent: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    answers: Mutex<Vec<Answer>>,
}

/// When a request of HTTP/1.1 was answered, and how long that took.
#[derive(Debug, Clone, Copy)]
struct Answer {
    at: Instant,
    latency: Duration,
}

/// The requests of one load.
#[derive(Debug, Clone)]
pub struct Requests {
    method: Method,
    path: &'static str,
    pause: Option<Range<Duration>>,
    identified: bool,
}

impl Requests {
    /// GETs without a body, one after the other.
    pub fn get(path: &'static str) -> Self {
        Self {
            method: Method::GET,
            path,
            pause: None,
            identified: false,
        }
    }

    /// POSTs with a small body, each with an [`ID`] of its own, one after the other.
    pub fn post(path: &'static str) -> Self {
        Self {
            method: Method::POST,
            identified: true,
            ..Self::get(path)
        }
    }

    /// A pause of random length on each connection before every request.
    pub fn paused(mut self, pause: Range<Duration>) -> Self {
        self.pause = Some(pause);
        self
    }

    async fn next(&self, shared: &Shared) -> http::Result<Request<Full<Bytes>>> {
        if let Some(Range { start, end }) = self.pause {
            tokio::time::sleep(start + (end - start).mul_f64(fastrand::f64())).await;
        }
        let request = Request::builder()
            .method(&self.method)
            .uri(self.path)
            .header(header::HOST, "echo");
        if self.identified {
            let id = shared.sent.fetch_add(1, Ordering::Relaxed).to_string();
            return request.header(ID, &id).body(Full::from(id));
        }
        request.body(Full::default())
    }
}

/// What the load has seen.
#[derive(Debug)]
pub struct Report {
    /// Requests or messages that were answered.
    pub done: u64,
    /// Those that were not.
    pub failed: u64,
    /// What went wrong, the first few.
    pub failures: Vec<String>,
}

impl Load {
    /// GETs `path` on so many connections of HTTP/1.1, each kept as long as the other side lets it.
    pub fn http1(pod: &Pod, address: SocketAddr, path: &'static str, connections: usize) -> Self {
        Self::http1_of(pod, address, Requests::get(path), connections)
    }

    /// Sends such requests on so many connections of HTTP/1.1, each kept as long as the other side lets it.
    pub fn http1_of(
        pod: &Pod,
        address: SocketAddr,
        requests: Requests,
        connections: usize,
    ) -> Self {
        Self::start(pod, connections, move |shared| {
            http1_caller(shared, address, requests.clone())
        })
    }

    /// Holds so many gRPC calls open, each with messages going back and forth; a call ends after `messages` of them
    /// and the next begins.
    pub fn grpc(pod: &Pod, address: SocketAddr, calls: usize, messages: u64) -> Self {
        Self::start(pod, calls, move |shared| {
            grpc_caller(shared, address, messages)
        })
    }

    fn start<F>(
        pod: &Pod,
        callers: usize,
        caller: impl Fn(Arc<Shared>) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let shared = Arc::new(Shared::default());
        let of_task = Arc::clone(&shared);
        let task = pod.run(move || async move {
            let callers: Vec<_> = (0..callers)
                .map(|_| tokio::task::spawn_local(caller(Arc::clone(&of_task))))
                .collect();
            for caller in callers {
                caller.await.expect("a caller does not panic");
            }
        });
        Self { shared, task }
    }

    /// How many were answered so far.
    pub fn done(&self) -> u64 {
        self.shared.done.load(Ordering::Relaxed)
    }

    /// How many were not, so far.
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// The latency that all but one in a hundred of the requests of HTTP/1.1 kept to that were answered since.
    pub fn p99_since(&self, since: Instant) -> Option<Duration> {
        let answers = self.shared.answers.lock().expect("no caller panicked");
        let recent = answers.iter().rev().take_while(|answer| answer.at >= since);
        let mut latencies: Vec<_> = recent.map(|answer| answer.latency).collect();
        latencies.sort_unstable();
        latencies.get(latencies.len() * 99 / 100).copied()
    }

    /// From now on a caller whose connection is ended in order, by `Connection: close` or GOAWAY, makes no other.
    pub fn leave_when_told(&self) {
        self.shared.leave.store(true, Ordering::Relaxed);
    }

    /// Lets every caller finish what it has begun, and reports.
    pub fn stop(self) -> Report {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.wait()
    }

    /// Waits until every caller has left, and reports.
    pub fn wait(self) -> Report {
        self.task.join();
        Report {
            done: self.shared.done.load(Ordering::Relaxed),
            failed: self.shared.failed.load(Ordering::Relaxed),
            failures: self
                .shared
                .failures
                .lock()
                .expect("no caller panicked")
                .clone(),
        }
    }
}

impl Report {
    /// An error unless work was done and all of it succeeded.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.done > 0 && self.failed == 0,
            "{} answered, {} failed: {:#?}",
            self.done,
            self.failed,
            self.failures
        );
        Ok(())
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Whether a caller whose connection has ended is done. One that failed tries again, a little later.
    async fn is_over(&self, ended: anyhow::Result<()>) -> bool {
        match ended {
            Ok(()) => self.leave.load(Ordering::Relaxed),
            Err(error) => {
                self.fail(&error);
                tokio::time::sleep(Duration::from_millis(20)).await;
                false
            }
        }
    }

    fn answered(&self, started: Instant) {
        let at = Instant::now();
        let latency = at - started;
        let mut answers = self.answers.lock().expect("no caller panicked");
        answers.push(Answer { at, latency });
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self, error: &anyhow::Error) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        let mut failures = self.failures.lock().expect("no caller panicked");
        if failures.len() < KEPT {
            failures.push(format!("{error:#}"));
        }
    }
}

async fn http1_caller(shared: Arc<Shared>, address: SocketAddr, requests: Requests) {
    while shared.goes_on() {
        let ended = http1_connection(&shared, address, &requests).await;
        if shared.is_over(ended).await {
            return;
        }
    }
}

/// Calls on one connection until the other side announces its end.
async fn http1_connection(
    shared: &Shared,
    address: SocketAddr,
    requests: &Requests,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    while shared.goes_on() {
        let request = requests.next(shared).await?;
        let started = Instant::now();
        let exchange = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            body.collect().await?;
            Ok::<_, hyper::Error>(head)
        };
        let head = tokio::time::timeout(PATIENCE, exchange)
            .await
            .context("no answer in time")?
            .context("request")?;
        if !head.status.is_success() {
            bail!("{} {:?}", head.status, head.headers.get("weft-error"));
        }
        shared.answered(started);
        let closes = head.headers.get(header::CONNECTION);
        if closes.is_some_and(|value| value == "close") {
            return Ok(());
        }
    }
    Ok(())
}

async fn grpc_caller(shared: Arc<Shared>, address: SocketAddr, messages: u64) {
    while shared.goes_on() {
        let ended = grpc_connection(&shared, address, messages).await;
        if shared.is_over(ended).await {
            return;
        }
    }
}

/// Calls on one connection until it takes no more calls.
async fn grpc_connection(
    shared: &Shared,
    address: SocketAddr,
    messages: u64,
) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::task::spawn_local(connection);
    while shared.goes_on() && sender.ready().await.is_ok() {
        if grpc_call(shared, &mut sender, address, messages).await? == Call::NotBegun {
            break;
        }
    }
    Ok(())
}

/// What became of a call that did not fail.
#[derive(PartialEq, Eq)]
enum Call {
    /// It ended as it should.
    Ended,
    /// The connection was on its way out, and the call never left.
    NotBegun,
}

type Messages = StreamBody<ReceiverStream<Result<Frame<Bytes>, std::convert::Infallible>>>;

async fn grpc_call(
    shared: &Shared,
    sender: &mut http2::SendRequest<Messages>,
    address: SocketAddr,
    messages: u64,
) -> anyhow::Result<Call> {
    let (send, receive) = tokio::sync::mpsc::channel(1);
    let request = Request::post(format!("http://{address}/weft.test.Echo/Talk"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .body(StreamBody::new(ReceiverStream::new(receive)))?;
    let sent = tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .context("no response in time")?;
    let response = match sent {
        Err(error) if error.is_canceled() => return Ok(Call::NotBegun),
        sent => sent.context("call")?,
    };
    ensure!(response.status().is_success(), "{response:?}");
    let mut answers = response.into_body();
    let mut received = BytesMut::new();
    for _ in 0..messages {
        send.send(Ok(Frame::data(grpc::frame(b"ping"))))
            .await
            .context("the call takes no more messages")?;
        while grpc::next_message(&mut received).is_none() {
            let frame = tokio::time::timeout(PATIENCE, answers.frame())
                .await
                .context("no message in time")?
                .context("the call ended early")?
                .context("message")?;
            match frame.into_data() {
                Ok(data) => received.extend_from_slice(&data),
                Err(trailers) => bail!("the call ended early: {trailers:?}"),
            }
        }
        shared.done.fetch_add(1, Ordering::Relaxed);
        if !shared.goes_on() {
            break;
        }
    }
    drop(send);
    let rest = answers.collect().await.context("end of the call")?;
    let status = rest
        .trailers()
        .and_then(|trailers| trailers.get("grpc-status"));
    ensure!(status.is_some_and(|status| status == "0"), "{status:?}");
    Ok(Call::Ended)
}
