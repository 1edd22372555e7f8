//! Watches: the changes of a resource from a revision on, as a stream of JSON lines.

use super::{
    read::{self, Form, Selection},
    request::Call,
    state::State,
    status::Status,
    store::{Change, Object, Table},
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::json;
use std::{collections::VecDeque, io, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};

/// The shortest a watch lasts that does not say how long; the longest is twice that, as in Kubernetes.
const LEAST: Duration = Duration::from_secs(30 * 60);

/// One watch.
struct Watch {
    state: Arc<State>,
    table: Table,
    namespace: String,
    selection: Selection,
    form: Form,
    kind: (String, String),
    /// The last revision that was looked at.
    cursor: u64,
    revisions: watch::Receiver<u64>,
    cuts: watch::Receiver<u64>,
    wants_bookmarks: bool,
    next_bookmark: Instant,
    end: Instant,
    cut: Option<Instant>,
    due: VecDeque<Bytes>,
    is_over: bool,
}

/// Starts a watch.
pub(super) fn stream(
    state: &Arc<State>,
    call: &Call,
) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static + use<>, Status> {
    let watch = Watch::start(state, call)?;
    Ok(stream::unfold(watch, |mut watch| async {
        let line = watch.next().await?;
        Some((line, watch))
    }))
}

impl Watch {
    fn start(state: &Arc<State>, call: &Call) -> Result<Self, Status> {
        let selection = Selection::of(&call.query, &call.resource)?;
        let wants_bookmarks = call.query.is("allowWatchBookmarks");
        let wants_initial = call.query.is("sendInitialEvents");
        let matches = call.query.get("resourceVersionMatch");
        if wants_initial && (matches != "NotOlderThan" || !wants_bookmarks) {
            return Err(Status::invalid(
                "ListOptions.meta.k8s.io",
                "",
                vec!["resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan and allowWatchBookmarks".to_owned()],
            ));
        }
        let asked = call.query.get("resourceVersion");
        let from = match asked {
            "" | "0" => None,
            asked => Some(read::revision(asked)?),
        };
        let now = Instant::now();
        let lasts = call
            .query
            .number("timeoutSeconds")
            .map_or_else(|| LEAST.mul_f64(1.0 + fastrand::f64()), Duration::from_secs);
        let data = state.data();
        let current = data.store.revision();
        let mut watch = Self {
            state: Arc::clone(state),
            table: call.target.table(),
            namespace: call.target.namespace.clone(),
            selection,
            form: Form::of(call),
            kind: (call.resource.api_version(), call.resource.kind.clone()),
            cursor: from.unwrap_or(current),
            revisions: data.store.subscribe(),
            cuts: state.faults.cuts(),
            wants_bookmarks,
            next_bookmark: now + state.bookmarks(),
            end: now + lasts,
            cut: state.faults.lifetime().map(|lifetime| now + lifetime),
            due: VecDeque::new(),
            is_over: false,
        };
        if let Some(asked) = from.filter(|asked| *asked > current) {
            watch.fail(&read::too_large(asked, current));
        } else if wants_initial || from.is_none() {
            let objects = data.store.list(&watch.table, &watch.namespace, None);
            let objects: Vec<Arc<Object>> = objects.cloned().collect();
            for object in objects {
                if watch.selection.has(&object.value) {
                    watch.push("ADDED", &object);
                }
            }
            watch.cursor = current;
            if wants_initial {
                let bookmark = watch.bookmark(true);
                watch.due.push_back(bookmark);
            }
        }
        Ok(watch)
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(line) = self.due.pop_front() {
                let delay = self.state.faults.watch_delay();
                if !delay.is_zero() {
                    tokio::time::sleep(delay).await;
                }
                return Some(Ok(line));
            }
            if self.is_over {
                return None;
            }
            self.revisions.mark_unchanged();
            self.collect();
            if !self.due.is_empty() || self.is_over {
                continue;
            }
            let cut = self.cut.unwrap_or(self.end + LEAST);
            tokio::select! {
                changed = self.revisions.changed() => {
                    self.is_over = changed.is_err();
                }
                _ = self.cuts.changed() => return self.cut_off(),
                () = tokio::time::sleep_until(cut) => return self.cut_off(),
                () = tokio::time::sleep_until(self.end) => {
                    self.is_over = true;
                    self.push_bookmark();
                }
                () = tokio::time::sleep_until(self.next_bookmark) => {
                    self.next_bookmark = Instant::now() + self.state.bookmarks();
                    self.push_bookmark();
                }
            }
        }
    }

    /// Ends the stream as a lost connection does: in the middle.
    fn cut_off(&mut self) -> Option<io::Result<Bytes>> {
        self.is_over = true;
        Some(Err(io::Error::new(
            io::ErrorKind::ConnectionAborted,
            "the watch was cut",
        )))
    }

    /// Takes what has changed since.
    fn collect(&mut self) {
        let state = Arc::clone(&self.state);
        let data = state.data();
        let Some(changes) = data.store.changes(&self.table, self.cursor) else {
            self.fail(&read::too_old(self.cursor, data.store.floor()));
            return;
        };
        self.cursor = data.store.revision();
        drop(data);
        for change in changes {
            self.take(&change);
        }
    }

    fn take(&mut self, change: &Change) {
        if !self.namespace.is_empty() && change.name.0 != self.namespace {
            return;
        }
        let old = change.old.as_ref();
        let was_selected = old.is_some_and(|old| self.selection.has(&old.value));
        let is_selected = !change.is_deletion && self.selection.has(&change.new.value);
        match (was_selected, is_selected) {
            (false, true) => self.push("ADDED", &change.new),
            (true, true) => self.push("MODIFIED", &change.new),
            (true, false) => self.push("DELETED", &change.new),
            (false, false) => {}
        }
    }

    fn push(&mut self, kind: &str, object: &Object) {
        let encoded = self.form.encode(object);
        let mut line = Vec::with_capacity(encoded.len() + 40);
        line.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
        line.extend_from_slice(&encoded);
        line.extend_from_slice(b"}\n");
        self.due.push_back(Bytes::from(line));
    }

    fn push_bookmark(&mut self) {
        if self.wants_bookmarks {
            let bookmark = self.bookmark(false);
            self.due.push_back(bookmark);
        }
    }

    /// How far the watch is.
    fn bookmark(&self, ends_initial: bool) -> Bytes {
        let (version, kind) = match &self.form {
            Form::Whole(_) => (self.kind.0.as_str(), self.kind.1.as_str()),
            Form::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadata"),
        };
        let mut metadata =
            json!({ "resourceVersion": self.cursor.to_string(), "creationTimestamp": null });
        if ends_initial {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata });
        Bytes::from(format!(
            "{}\n",
            json!({ "type": "BOOKMARK", "object": object })
        ))
    }

    fn fail(&mut self, status: &Status) {
        let event = json!({ "type": "ERROR", "object": status.object() });
        self.due.push_back(Bytes::from(format!("{event}\n")));
        self.is_over = true;
    }
}
