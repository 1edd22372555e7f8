//! Servers that do what a test tells them to.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    cell::Cell,
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    task::spawn_local,
    time::timeout,
};

/// What a server counts and waits for.
pub(super) struct Observed {
    /// Connections accepted.
    pub(super) accepted: Cell<usize>,
    /// Connections that are open.
    pub(super) open: Cell<usize>,
    /// Requests to `/wait` that wait.
    pub(super) waiting: Cell<usize>,
    /// Requests received.
    pub(super) requests: Cell<usize>,
    changed: Notify,
    go: Semaphore,
    go_away: Notify,
    break_off: Notify,
}

impl Observed {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            accepted: Cell::new(0),
            open: Cell::new(0),
            waiting: Cell::new(0),
            requests: Cell::new(0),
            changed: Notify::new(),
            go: Semaphore::new(0),
            go_away: Notify::new(),
            break_off: Notify::new(),
        })
    }

    /// Waits until the server has seen what the test needs to go on.
    pub(super) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let wait = async {
            while !condition(self) {
                self.changed.notified().await;
            }
        };
        timeout(Duration::from_secs(10), wait)
            .await
            .expect("the server comes to see it");
    }

    /// Lets so many requests to `/wait` go on.
    pub(super) fn go(&self, requests: usize) {
        self.go.add_permits(requests);
    }

    /// Tells every connection to go away when its streams are done.
    pub(super) fn go_away(&self) {
        self.go_away.notify_waiters();
    }

    /// Closes every HTTP/2 connection at once.
    pub(super) fn break_off(&self) {
        self.break_off.notify_waiters();
    }

    pub(super) fn count_request(&self) {
        self.count(&self.requests, 1);
    }

    async fn wait(self: &Rc<Self>) {
        let _waiting = Counted::one(self, |observed| &observed.waiting);
        self.go.acquire().await.unwrap().forget();
    }

    fn count(&self, counter: &Cell<usize>, change: isize) {
        counter.set(counter.get().checked_add_signed(change).unwrap());
        self.changed.notify_waiters();
    }
}

/// One more, until dropped.
struct Counted {
    observed: Rc<Observed>,
    counter: fn(&Observed) -> &Cell<usize>,
}

impl Counted {
    fn one(observed: &Rc<Observed>, counter: fn(&Observed) -> &Cell<usize>) -> Self {
        observed.count(counter(observed), 1);
        Self {
            observed: observed.clone(),
            counter,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.observed.count((self.counter)(&self.observed), -1);
    }
}

/// Accepts connections, numbered from 1, and handles each in a task.
pub(super) async fn serve<F: Future<Output = ()> + 'static>(
    handle: impl Fn(TcpStream, usize, Rc<Observed>) -> F + 'static,
) -> (SocketAddr, Rc<Observed>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let observed = Observed::new();
    spawn_local({
        let observed = observed.clone();
        async move {
            while let Ok((tcp, _)) = listener.accept().await {
                observed.count(&observed.accepted, 1);
                let open = Counted::one(&observed, |observed| &observed.open);
                let handled = handle(tcp, observed.accepted.get(), observed.clone());
                spawn_local(async move {
                    handled.await;
                    drop(open);
                });
            }
        }
    });
    (address, observed)
}

/// Answers every HTTP/2 request with the number of its connection; `/wait` when it is told to.
pub(super) async fn http2(most_streams: u32) -> (SocketAddr, Rc<Observed>) {
    serve(move |tcp, number, observed| async move {
        let service = service_fn({
            let observed = observed.clone();
            move |request: Request<Incoming>| {
                let observed = observed.clone();
                async move {
                    observed.count(&observed.requests, 1);
                    if request.uri().path() == "/wait" {
                        observed.wait().await;
                    }
                    let response = Response::builder()
                        .header("x-connection", number)
                        .body(Full::new(Bytes::from_static(b"hello")));
                    Ok::<_, Infallible>(response.unwrap())
                }
            }
        });
        let connection = http2::Builder::new(LocalExecutor)
            .max_concurrent_streams(most_streams)
            .serve_connection(TokioIo::new(tcp), service);
        tokio::pin!(connection);
        // Clients of these tests break off on purpose: how a connection ends is no failure.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = observed.break_off.notified() => return,
            () = observed.go_away.notified() => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    })
    .await
}

/// Speaks HTTP/2 just well enough to say on every connection that it goes away.
pub(super) async fn http2_always_going() -> (SocketAddr, Rc<Observed>) {
    const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    serve(|mut tcp, _, _| async move {
        let _ = tcp.read_exact(&mut [0; PREFACE]).await;
        let _ = tcp
            .write_all(&[SETTINGS.as_slice(), &GOAWAY].concat())
            .await;
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    })
    .await
}

/// Answers HTTP/1.1 requests without body with the number of its connection.
///
/// - `/wait`: when it is told to.
/// - `/slow`: the head at once, the body when it is told to.
/// - `/announce`: with a `Keep-Alive` of 10 s.
/// - `/last`: and closes, without having said so.
/// - `/close`: not at all, and closes, unless it is the first on its connection.
pub(super) async fn http1() -> (SocketAddr, Rc<Observed>) {
    serve(|mut tcp, number, observed| async move {
        let mut requests = 0;
        while let Ok(Some(path)) = read_head(&mut tcp).await {
            requests += 1;
            observed.count(&observed.requests, 1);
            if path == "/close" && requests > 1 {
                return;
            }
            if path == "/wait" {
                observed.wait().await;
            }
            let keep_alive = match path.as_str() {
                "/announce" => "keep-alive: timeout=10\r\n",
                _ => "",
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nx-connection: {number}\r\n{keep_alive}content-length: 5\r\n\r\n"
            );
            let sent = if path == "/slow" {
                let sent = tcp.write_all(head.as_bytes()).await;
                observed.wait().await;
                sent.and(tcp.write_all(b"hello").await)
            } else {
                tcp.write_all((head + "hello").as_bytes()).await
            };
            if sent.is_err() {
                return;
            }
            if path == "/last" {
                return;
            }
        }
    })
    .await
}

/// What a server does with a request that it has read.
pub(super) enum Reply {
    /// Answers with this, to the last byte.
    Bytes(String),
    /// The head at once, the body a moment later.
    Slowly(String, String),
    /// Says nothing until the client gives up.
    Nothing,
    /// Closes the connection after so much of an answer.
    Cut(&'static str),
}

impl Reply {
    /// A response without body.
    pub(super) fn status(status: u16) -> Self {
        Self::with(status, "")
    }

    /// A response without body that has these fields.
    pub(super) fn with(status: u16, fields: &str) -> Self {
        Self::Bytes(format!(
            "HTTP/1.1 {status} Some\r\n{fields}content-length: 0\r\n\r\n"
        ))
    }
}

/// Does with every HTTP/1.1 request what the test says of its body.
pub(super) async fn http1_that(
    answer: impl Fn(&[u8]) -> Reply + 'static,
) -> (SocketAddr, Rc<Observed>) {
    let answer = Rc::new(answer);
    serve(move |mut tcp, _, observed| {
        let answer = answer.clone();
        async move {
            while let Ok(Some(body)) = read_request(&mut tcp).await {
                observed.count(&observed.requests, 1);
                let sent = match answer(&body) {
                    Reply::Bytes(bytes) => tcp.write_all(bytes.as_bytes()).await,
                    Reply::Slowly(head, body) => {
                        let sent = tcp.write_all(head.as_bytes()).await;
                        tokio::task::yield_now().await;
                        sent.and(tcp.write_all(body.as_bytes()).await)
                    }
                    Reply::Nothing => tcp.read_u8().await.map(|_| ()),
                    Reply::Cut(part) => {
                        let _ = tcp.write_all(part.as_bytes()).await;
                        return;
                    }
                };
                if sent.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

/// Reads a request to the end of its body, which is as long as the head says.
async fn read_request(tcp: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let Some(head) = read_head_text(tcp).await? else {
        return Ok(None);
    };
    let length = head.to_ascii_lowercase();
    let length = length
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await?;
    Ok(Some(body))
}

/// Reads up to the empty line; `None` when the client has closed.
async fn read_head(tcp: &mut TcpStream) -> io::Result<Option<String>> {
    let head = read_head_text(tcp).await?;
    Ok(head.and_then(|head| head.split(' ').nth(1).map(str::to_owned)))
}

async fn read_head_text(tcp: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tcp.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(head).map(Some).map_err(io::Error::other)
}

#[derive(Clone, Copy)]
pub(super) struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}
