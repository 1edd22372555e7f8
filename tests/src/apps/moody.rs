//! An HTTP/1.1 application that misbehaves as it is told, and keeps a ledger of what it did.

use super::App;
use anyhow::Context;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use weft_cli::sandbox::Pod;

/// What identifies a request in the ledger.
pub const ID: &str = "x-id";

/// How the application treats requests from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Answers 200 at once.
    Well,
    /// Answers 200 after a while.
    Slow(Duration),
    /// Answers with a status.
    Failing(u16),
    /// Answers with a status, and asks with `Retry-After` to be left alone for so many seconds.
    Busy(u16, u32),
    /// Sends the head and half the body of an answer, and nothing more.
    Stalling,
    /// Resets the connection when it has read the request.
    Resetting,
    /// Reads requests and never answers.
    Silent,
    /// Cuts the connection of one request in so many, anywhere: before it processes it, before the answer, within it,
    /// or after it.
    Cutting(u32),
}

/// Where a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Unprocessed,
    Unanswered,
    Answering,
    Answered,
}

impl Cut {
    fn by_chance(mood: Mood) -> Option<Self> {
        let Mood::Cutting(one_in) = mood else {
            return None;
        };
        (fastrand::u32(..one_in) == 0).then(|| {
            let all = [
                Self::Unprocessed,
                Self::Unanswered,
                Self::Answering,
                Self::Answered,
            ];
            all[fastrand::usize(..all.len())]
        })
    }
}

/// The application with its ledger.
pub struct Moody {
    shared: Arc<Shared>,
    _app: App,
}

struct Shared {
    name: String,
    mood: Mutex<Mood>,
    ledger: Mutex<Ledger>,
}

/// What the application has done.
#[derive(Debug, Default, Clone)]
pub struct Ledger {
    /// Requests that it began to process.
    pub processed: u64,
    /// How often each request was processed, by its [`ID`].
    pub by_id: HashMap<String, u32>,
    /// Connections that it was sent requests on.
    pub connections: u64,
    /// Those of them that are open.
    pub open: u64,
}

impl Moody {
    /// Starts the application in a good mood. Its name is the body of its answers.
    pub fn start(pod: &Pod, port: u16, name: &str) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            mood: Mutex::new(Mood::Well),
            ledger: Mutex::default(),
        });
        let served = shared.clone();
        let app = App::start(pod, port, |listener| async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = served.clone();
                tokio::spawn(async move { shared.connection(stream).await });
            }
        })?;
        Ok(Self { shared, _app: app })
    }

    /// From the next request on.
    pub fn becomes(&self, mood: Mood) {
        *self.shared.mood.lock().expect("nobody panicked") = mood;
    }

    /// What it has done so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger().clone()
    }

    /// How many requests it began to process.
    pub fn processed(&self) -> u64 {
        self.shared.ledger().processed
    }
}

impl Shared {
    async fn connection(&self, stream: TcpStream) {
        let mut used = false;
        // A connection that ends in the middle is what it is for.
        let _ = self.serve(stream, &mut used).await;
        if used {
            self.ledger().open -= 1;
        }
    }

    async fn serve(&self, mut stream: TcpStream, used: &mut bool) -> anyhow::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        loop {
            let Some(request) = read_request(&mut stream, &mut buffer).await? else {
                return Ok(());
            };
            let mood = *self.mood.lock().expect("nobody panicked");
            let cut = Cut::by_chance(mood);
            if cut == Some(Cut::Unprocessed) {
                return reset(stream);
            }
            self.process(request, !std::mem::replace(used, true));
            let status = match mood {
                Mood::Well | Mood::Cutting(_) | Mood::Stalling => 200,
                Mood::Slow(pause) => {
                    tokio::time::sleep(pause).await;
                    200
                }
                Mood::Failing(status) | Mood::Busy(status, _) => status,
                Mood::Resetting => return reset(stream),
                Mood::Silent => {
                    // Until the other end gives up.
                    stream.read_buf(&mut buffer).await?;
                    return Ok(());
                }
            };
            let name = &self.name;
            let retry_after = match mood {
                Mood::Busy(_, seconds) => format!("retry-after: {seconds}\r\n"),
                _ => String::new(),
            };
            let answer = format!(
                "HTTP/1.1 {status} Mood\r\ncontent-length: {}\r\nx-server: {name}\r\n{retry_after}\r\n{name}",
                name.len()
            );
            if mood == Mood::Stalling {
                let half = answer.len() - name.len() / 2;
                stream.write_all(&answer.as_bytes()[..half]).await?;
                // Until the other end gives up.
                stream.read_buf(&mut buffer).await?;
                return Ok(());
            }
            let sent = match cut {
                Some(Cut::Unprocessed | Cut::Unanswered) => 0,
                Some(Cut::Answering) => answer.len() / 2,
                Some(Cut::Answered) | None => answer.len(),
            };
            stream.write_all(&answer.as_bytes()[..sent]).await?;
            match cut {
                None => {}
                // In order, as a server does that retires an idle connection.
                Some(Cut::Answered) => return Ok(()),
                Some(_) => return reset(stream),
            }
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panicked")
    }

    fn process(&self, id: Option<String>, is_first: bool) {
        let mut ledger = self.ledger();
        ledger.processed += 1;
        if is_first {
            ledger.connections += 1;
            ledger.open += 1;
        }
        if let Some(id) = id {
            *ledger.by_id.entry(id).or_default() += 1;
        }
    }
}

/// Ends a connection with RST: what was sent and not yet read is lost.
fn reset(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_zero_linger()?;
    Ok(())
}

/// Reads a request with its body: its id, if it has one. `None` at the end of the connection.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<Option<Option<String>>> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        if let httparse::Status::Complete(head) = request.parse(buffer)? {
            let field = |name: &str| {
                let found = request.headers.iter();
                let mut found = found.filter(|field| field.name.eq_ignore_ascii_case(name));
                found
                    .next()
                    .map(|field| String::from_utf8_lossy(field.value).into_owned())
            };
            let length = field("content-length").map_or(Ok(0), |length| length.parse::<usize>());
            let whole = head + length.context("a length is a number")?;
            if buffer.len() >= whole {
                let id = field(ID);
                buffer.drain(..whole);
                return Ok(Some(id));
            }
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}
