//! One watch: asks the API for the objects of a kind, and tells what it hears, in order.
//!
//! What to ask and when to ask again is decided in `course`. An object is converted as soon as it is read,
//! and dropped: what waits to be taken in is what the mesh uses of it.

use super::{
    catalog::{Event, Told, What},
    course::{Ask, Course, Listing, Setback},
    item::{Item, Page},
    kind::Watched,
    metrics::OfKind,
};
use crate::source::convert::{self, ZONE};
use futures_util::{AsyncBufRead, AsyncBufReadExt as _};
use kube::{
    Client,
    core::{
        WatchEvent,
        params::{ListParams, WatchParams},
    },
};
use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};

/// How long a watch is asked to last. The server may end it before.
const WATCH_SECONDS: u32 = 290;
/// A server has a bookmark to tell every minute or so. After a longer silence the connection may be dead, and
/// asking anew costs one request.
const SILENCE: Duration = Duration::from_secs(90);
/// How long the next part of a list may take.
const LIST_PATIENCE: Duration = Duration::from_secs(60);
/// Objects per page.
const PAGE: u32 = 500;
/// What a bookmark bears that ends the list at the start of a watch.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// Something that a watch heard.
#[derive(Debug)]
pub(super) struct Heard {
    /// Of which kind.
    pub(super) watched: Watched,
    /// When.
    pub(super) at: Instant,
    /// What.
    pub(super) event: Event,
}

/// The watch of one kind.
pub(super) struct Watch {
    pub(super) watched: Watched,
    pub(super) client: Client,
    pub(super) trust_domain: Arc<str>,
    pub(super) metrics: OfKind,
    pub(super) heard: mpsc::Sender<Heard>,
}

/// Why asking came to nothing.
enum Trouble {
    /// The connection or the server ended it in order, after so long.
    Closed(Duration),
    /// Nothing came for too long.
    Silent(Duration),
    /// The API does not know the kind.
    NoSuchKind,
    /// Nobody listens any more.
    Unheard,
    /// Something went wrong.
    Failed(Setback, String),
}

type Lines = Pin<Box<dyn AsyncBufRead + Send>>;

impl Watch {
    /// Watches until nobody listens.
    pub(super) async fn run(self) {
        let mut course = Course::new();
        loop {
            let trouble = match course.ask() {
                Ask::List(Listing::Streamed) => self.streamed(&mut course).await,
                Ask::List(listing) => match self.listed(listing).await {
                    Ok(version) => {
                        self.complete(&mut course, version);
                        continue;
                    }
                    Err(trouble) => trouble,
                },
                Ask::Watch(version) => self.watched(&mut course, &version).await,
            };
            let Some(delay) = self.troubled(&mut course, trouble).await else {
                return;
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// Counts and tells trouble, and gives how long to wait. `None` when there is no use in going on.
    async fn troubled(&self, course: &mut Course, trouble: Trouble) -> Option<Duration> {
        let kind = self.watched.name();
        let luck = fastrand::f64();
        match trouble {
            Trouble::Unheard => None,
            Trouble::Closed(lived) => Some(course.set_back(Setback::Closed(lived), luck)),
            Trouble::Silent(patience) => self.failed(
                course,
                Setback::Failed,
                &format!("no answer for {patience:?}"),
                luck,
            ),
            Trouble::NoSuchKind => {
                let missing = course.missing(Instant::now(), luck);
                self.metrics.served.set(0);
                if missing.first {
                    let install = self.watched.installed_by();
                    tracing::warn!(
                        kind,
                        install,
                        "the cluster does not have this kind; asked for again and again"
                    );
                }
                if missing.nothing {
                    self.missing().await.ok()?;
                }
                Some(missing.retry_in)
            }
            Trouble::Failed(setback, error) => self.failed(course, setback, &error, luck),
        }
    }

    fn failed(
        &self,
        course: &mut Course,
        setback: Setback,
        error: &str,
        luck: f64,
    ) -> Option<Duration> {
        let kind = self.watched.name();
        self.metrics.errors.inc();
        let retry_in = course.set_back(setback, luck);
        if setback == Setback::NotStreamed {
            tracing::debug!(kind, error, "the Kubernetes API does not stream lists");
        } else if setback == Setback::Lost {
            tracing::info!(kind, error, ?retry_in, "listing anew what is watched");
        } else if course.failures().is_power_of_two() {
            tracing::warn!(kind, error, ?retry_in, "cannot watch the Kubernetes API");
        }
        Some(retry_in)
    }

    /// Reads a list as the first part of a watch, then what happens after it.
    async fn streamed(&self, course: &mut Course) -> Trouble {
        let params = WatchParams::default()
            .timeout(WATCH_SECONDS)
            .initial_events();
        let began = Instant::now();
        let mut lines = match self.open(&params, "").await {
            Ok(lines) => lines,
            Err(trouble) => return trouble,
        };
        if let Err(trouble) = self.tell(Event::ListBegins).await {
            return trouble;
        }
        let mut line = String::new();
        loop {
            match self.next(&mut lines, &mut line, LIST_PATIENCE).await {
                Ok(WatchEvent::Added(item) | WatchEvent::Modified(item)) => {
                    if let Err(trouble) = self.tell_of(item).await {
                        return trouble;
                    }
                }
                Ok(WatchEvent::Bookmark(mark)) => {
                    if !mark.metadata.annotations.contains_key(LIST_ENDS) {
                        continue;
                    }
                    if let Err(trouble) = self.tell(Event::ListEnds).await {
                        return trouble;
                    }
                    self.complete(course, mark.metadata.resource_version);
                    return self.follow(course, lines, began).await;
                }
                Ok(WatchEvent::Deleted(item)) => {
                    if let Err(trouble) = self.tell_gone(&item).await {
                        return trouble;
                    }
                }
                Ok(WatchEvent::Error(status)) if status.code == 500 => {
                    return Trouble::Failed(Setback::NotStreamed, status.to_string());
                }
                Ok(WatchEvent::Error(status)) => return of_status(&status),
                // A server that takes the question for that of a plain watch never says that the list ends.
                Err(Trouble::Silent(_)) => {
                    let error = "a streamed list did not end".to_owned();
                    return Trouble::Failed(Setback::NotStreamed, error);
                }
                Err(trouble) => return trouble,
            }
        }
    }

    /// Reads a list, and gives its version.
    async fn listed(&self, listing: Listing) -> Result<String, Trouble> {
        self.tell(Event::ListBegins).await?;
        let mut params = ListParams::default();
        if listing == Listing::Paged {
            params = params.limit(PAGE);
        }
        loop {
            let page = self.page(&params).await?;
            self.metrics.heard();
            for item in page.items.unwrap_or_default() {
                self.tell_of(item).await?;
            }
            let version = page.metadata.resource_version;
            match page.metadata.r#continue.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => {
                    let version = version.filter(|version| !version.is_empty());
                    let version = version.ok_or_else(|| {
                        Trouble::Failed(Setback::Failed, "a list has no version".to_owned())
                    })?;
                    self.tell(Event::ListEnds).await?;
                    return Ok(version);
                }
            }
        }
    }

    async fn page(&self, params: &ListParams) -> Result<Page, Trouble> {
        let request = self.watched.list(params).map_err(of_error)?;
        let text = timeout(LIST_PATIENCE, self.client.request_text(request));
        let text = match text.await {
            Ok(Ok(text)) => text,
            Ok(Err(kube::Error::Api(status)))
                if status.code == 410 && params.continue_token.is_some() =>
            {
                return Err(Trouble::Failed(Setback::PagesExpired, status.to_string()));
            }
            Ok(Err(error)) => return Err(of_error(error)),
            Err(_) => return Err(Trouble::Silent(LIST_PATIENCE)),
        };
        serde_json::from_str(&text).map_err(|error| {
            let error = format!("a list makes no sense: {error}");
            Trouble::Failed(Setback::Failed, error)
        })
    }

    /// Tells what happens after a version.
    async fn watched(&self, course: &mut Course, version: &str) -> Trouble {
        let began = Instant::now();
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        match self.open(&params, version).await {
            Ok(lines) => self.follow(course, lines, began).await,
            Err(trouble) => trouble,
        }
    }

    /// Tells what happens, until that ends.
    async fn follow(&self, course: &mut Course, mut lines: Lines, began: Instant) -> Trouble {
        let mut line = String::new();
        loop {
            let (version, told) = match self.next(&mut lines, &mut line, SILENCE).await {
                Ok(WatchEvent::Added(item) | WatchEvent::Modified(item)) => {
                    (item.version().map(str::to_owned), self.tell_of(item).await)
                }
                Ok(WatchEvent::Deleted(item)) => (
                    item.version().map(str::to_owned),
                    self.tell_gone(&item).await,
                ),
                Ok(WatchEvent::Bookmark(mark)) => (Some(mark.metadata.resource_version), Ok(())),
                Ok(WatchEvent::Error(status)) => return of_status(&status),
                // A connection that is dead does not say so: asking anew is cheap.
                Err(Trouble::Closed(_) | Trouble::Silent(_)) => {
                    return Trouble::Closed(began.elapsed());
                }
                Err(trouble) => return trouble,
            };
            if let Err(trouble) = told {
                return trouble;
            }
            match version {
                Some(version) => course.heard(version),
                None => {
                    let error = "an object of a watch has no version".to_owned();
                    return Trouble::Failed(Setback::Lost, error);
                }
            }
        }
    }

    async fn open(&self, params: &WatchParams, version: &str) -> Result<Lines, Trouble> {
        let streamed = params.send_initial_events;
        let request = self.watched.watch(params, version).map_err(of_error)?;
        match timeout(LIST_PATIENCE, self.client.request_stream(request)).await {
            Ok(Ok(lines)) => {
                self.metrics.watches.inc();
                Ok(Box::pin(lines))
            }
            // Servers before 1.27 refuse what they do not know of, and those over an etcd before 3.5 cannot do it.
            Ok(Err(kube::Error::Api(status)))
                if streamed && matches!(status.code, 400 | 422 | 500) =>
            {
                Err(Trouble::Failed(Setback::NotStreamed, status.to_string()))
            }
            Ok(Err(error)) => Err(of_error(error)),
            Err(_) => Err(Trouble::Silent(LIST_PATIENCE)),
        }
    }

    /// The next event.
    async fn next(
        &self,
        lines: &mut Lines,
        line: &mut String,
        patience: Duration,
    ) -> Result<WatchEvent<Item>, Trouble> {
        line.clear();
        match timeout(patience, lines.read_line(line)).await {
            Ok(Ok(0)) => return Err(Trouble::Closed(Duration::ZERO)),
            Err(_) => return Err(Trouble::Silent(patience)),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Trouble::Failed(Setback::Failed, causes(&error))),
        }
        // The connection was cut within an event, which will be told again.
        if !line.ends_with('\n') {
            return Err(Trouble::Closed(Duration::ZERO));
        }
        self.metrics.heard();
        serde_json::from_str(line).map_err(|error| {
            let error = format!("an event makes no sense: {error}");
            Trouble::Failed(Setback::Lost, error)
        })
    }

    fn complete(&self, course: &mut Course, version: String) {
        course.listed(version);
        self.metrics.lists.inc();
        if self.metrics.served.set(1) == 0 && self.watched.installed_by().is_some() {
            tracing::info!(
                kind = self.watched.name(),
                "watching what the cluster has of it"
            );
        }
    }

    /// There is nothing of the kind, as there is no such kind.
    async fn missing(&self) -> Result<(), Trouble> {
        self.tell(Event::ListBegins).await?;
        self.tell(Event::ListEnds).await?;
        Ok(())
    }

    async fn tell_of(&self, item: Item) -> Result<(), Trouble> {
        let Some(key) = item.key() else {
            return Ok(());
        };
        let incarnation = item.incarnation();
        let what = match self.watched {
            Watched::Node => What::Node {
                zone: item.label(ZONE).map(Arc::from),
            },
            watched => What::Object(convert::object(
                item.into_value(watched),
                &self.trust_domain,
            )),
        };
        self.tell(Event::Told(Told {
            key,
            incarnation,
            what,
        }))
        .await
    }

    async fn tell_gone(&self, item: &Item) -> Result<(), Trouble> {
        match item.key() {
            Some(key) => self.tell(Event::Gone(key)).await,
            None => Ok(()),
        }
    }

    async fn tell(&self, event: Event) -> Result<(), Trouble> {
        let heard = Heard {
            watched: self.watched,
            at: Instant::now(),
            event,
        };
        let sent = self.heard.send(heard).await;
        sent.map_err(|_| Trouble::Unheard)
    }
}

fn of_error(error: kube::Error) -> Trouble {
    match error {
        kube::Error::Api(status) => of_status(&status),
        other => Trouble::Failed(Setback::Failed, causes(&other)),
    }
}

/// An error with what caused it: that a request failed, the client says first, and why, last.
fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text += ": ";
            text += &cause;
        }
        text
    })
}

fn of_status(status: &kube::core::Status) -> Trouble {
    let setback = match status.code {
        404 => return Trouble::NoSuchKind,
        410 => Setback::Lost,
        _ => Setback::Failed,
    };
    Trouble::Failed(setback, status.to_string())
}
