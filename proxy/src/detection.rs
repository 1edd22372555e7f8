//! Finding out what a connection speaks, without making anybody wait.
//!
//! The caller's first bytes tell, but in some protocols (MySQL, SMTP) the server speaks first and the caller
//! says nothing until then. So the endpoint is dialled while we listen to the caller: whoever speaks first
//! decides. What came of it is remembered, so that a destination that speaks HTTP is not dialled in vain.

use crate::{
    http::detect::{self, Verdict},
    net::stream::Stream,
    telemetry::Verdict as Counted,
    upstream::{Connected, Failed},
};
use std::{collections::HashMap, future::Future, io, pin::pin, sync::Arc, time::Duration};
use tokio::time::timeout;

/// A caller of a destination known for HTTP is given this long before the endpoint is dialled after all.
const PATIENCE: Duration = Duration::from_millis(200);
/// A caller that has sent too little to tell, and sends no more, is waiting for an answer: its bytes are
/// passed on. What was decided so is not remembered.
const UNDECIDED: Duration = Duration::from_millis(100);
/// With no endpoint there is nobody else to wait for: so long may the caller take to show that it speaks
/// HTTP and can be told why it failed.
const WITHOUT_ENDPOINT: Duration = Duration::from_secs(1);

/// What a connection turned out to speak.
pub(crate) enum Speaks {
    /// HTTP/1.1: serve it.
    Http1,
    /// HTTP/2: serve it.
    Http2,
    /// Anything else: carry it, over the connection that was opened meanwhile.
    Opaque(Result<Connected, Box<Failed>>),
    /// The caller left without a word.
    Nothing,
}

/// What destinations turned out to speak before, on this worker.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    http: HashMap<Arc<str>, bool>,
}

/// Destinations remembered at most; beyond it all is forgotten and learned again.
const REMEMBERED: usize = 4_096;

impl Memory {
    /// Whether a destination spoke HTTP the last time.
    pub(crate) fn speaks_http(&self, destination: &str) -> bool {
        self.http.get(destination).copied().unwrap_or(false)
    }

    fn remember(&mut self, destination: &Arc<str>, http: bool) {
        if self.http.get(destination) == Some(&http) {
            return;
        }
        if self.http.len() >= REMEMBERED {
            self.http.clear();
        }
        self.http.insert(destination.clone(), http);
    }

    /// Learns from a connection.
    pub(crate) fn learn(&mut self, destination: &Arc<str>, found: &Found) {
        match found.counted {
            Some(Counted::Http1 | Counted::Http2) => self.remember(destination, true),
            Some(Counted::ServerFirst) => self.remember(destination, false),
            Some(Counted::Opaque) if found.certain => self.remember(destination, false),
            Some(Counted::Opaque | Counted::Declared) | None => {}
        }
    }
}

/// What was found, and how.
pub(crate) struct Found {
    /// What to do.
    pub(crate) speaks: Speaks,
    /// For the metric.
    pub(crate) counted: Option<Counted>,
    certain: bool,
}

/// What the caller's first bytes say.
enum FirstWords {
    Clear(Verdict),
    /// It sent some and waits.
    Unclear,
    /// It sent nothing and never will.
    Nothing,
}

/// Decides what a connection speaks. `dial` opens a connection for opaque bytes; it is polled only when it
/// may be needed, and dropped when it is not.
pub(crate) async fn detect(
    stream: &mut Stream,
    spoke_http: bool,
    dial: impl Future<Output = Result<Connected, Box<Failed>>>,
) -> Found {
    let mut caller = pin!(first_words(stream));
    let mut dial = pin!(dial);
    if spoke_http && let Ok(words) = timeout(PATIENCE, caller.as_mut()).await {
        return understood(words, dial).await;
    }
    let connected = tokio::select! {
        biased;
        words = caller.as_mut() => return understood(words, dial).await,
        connected = dial.as_mut() => connected,
    };
    match connected {
        Ok(mut connected) => tokio::select! {
            biased;
            words = caller => understood(words, async { Ok(connected) }).await,
            // An endpoint that closes without a word has spoken too.
            _ = connected.stream.peek(1) => Found {
                speaks: Speaks::Opaque(Ok(connected)),
                counted: Some(Counted::ServerFirst),
                certain: true,
            },
        },
        failed @ Err(_) => {
            let words = timeout(WITHOUT_ENDPOINT, caller).await;
            understood(words.unwrap_or(FirstWords::Unclear), async { failed }).await
        }
    }
}

/// Decides between the two versions where HTTP is declared. Any bytes that are no preface of HTTP/2 are left
/// to HTTP/1.1 to refuse. `None` when the caller leaves, or says nothing for so long.
pub(crate) async fn http_version(stream: &mut Stream, within: Duration) -> Option<Verdict> {
    let words = timeout(within, async {
        loop {
            match detect::detect(stream.peeked()) {
                Some(Verdict::Http2) => return Some(Verdict::Http2),
                Some(Verdict::Http1 | Verdict::Tls | Verdict::Opaque) => {
                    return Some(Verdict::Http1);
                }
                // An unfinished request line: no preface any more, and HTTP/1.1 has its own time limit.
                None if !detect::may_be_http2(stream.peeked()) => return Some(Verdict::Http1),
                None => {}
            }
            let seen = stream.peeked().len();
            match stream.peek(seen + 1).await {
                Ok(bytes) if bytes.len() > seen => {}
                Ok(_) | Err(_) if seen > 0 => return Some(Verdict::Http1),
                Ok(_) | Err(_) => return None,
            }
        }
    });
    words.await.ok().flatten()
}

async fn understood(
    words: FirstWords,
    dial: impl Future<Output = Result<Connected, Box<Failed>>>,
) -> Found {
    let (speaks, counted, certain) = match words {
        FirstWords::Clear(Verdict::Http1) => (Speaks::Http1, Some(Counted::Http1), true),
        FirstWords::Clear(Verdict::Http2) => (Speaks::Http2, Some(Counted::Http2), true),
        FirstWords::Clear(Verdict::Tls | Verdict::Opaque) => {
            (Speaks::Opaque(dial.await), Some(Counted::Opaque), true)
        }
        FirstWords::Unclear => (Speaks::Opaque(dial.await), Some(Counted::Opaque), false),
        FirstWords::Nothing => (Speaks::Nothing, None, false),
    };
    Found {
        speaks,
        counted,
        certain,
    }
}

async fn first_words(stream: &mut Stream) -> FirstWords {
    loop {
        if let Some(verdict) = detect::detect(stream.peeked()) {
            return FirstWords::Clear(verdict);
        }
        let seen = stream.peeked().len();
        let more = stream.peek(seen + 1);
        let more: io::Result<usize> = if seen == 0 {
            more.await.map(<[u8]>::len)
        } else {
            match timeout(UNDECIDED, more).await {
                Ok(more) => more.map(<[u8]>::len),
                Err(_) => return FirstWords::Unclear,
            }
        };
        match more {
            Ok(now) if now > seen => {}
            Ok(0) | Err(_) => return FirstWords::Nothing,
            Ok(_) => return FirstWords::Unclear,
        }
    }
}
