//! Copies of requests for other clusters. Nobody waits for their answers, which are thrown away.

use crate::{
    http::{
        body::{Body, BodyError},
        header_changes, mirror, rewrite,
    },
    snapshot::{
        Cluster,
        route::{Forward, MirrorHost},
    },
    telemetry::Mirrored,
    upstream::Call,
    worker::Worker,
};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Version, header::UPGRADE};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    mem,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{task::spawn_local, time::timeout};

/// How many a worker has under way at once, those included whose original is still being read. What comes then is not
/// mirrored.
const IN_FLIGHT: usize = 128;
/// A request with a longer body is not mirrored.
const BODY_LIMIT: usize = 64 * 1024;
/// How long one may take on a route without a timeout.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The mirrored requests of a worker that are under way.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Rc<()>);

/// Keeps one counted until dropped.
struct Slot {
    _counted: Rc<()>,
}

impl Mirrors {
    fn slot(&self) -> Option<Slot> {
        let in_flight = Rc::strong_count(&self.0) - 1;
        (in_flight < IN_FLIGHT).then(|| Slot {
            _counted: self.0.clone(),
        })
    }
}

/// A request to be mirrored, whose body is not there yet.
struct Copy {
    worker: Rc<Worker>,
    cluster: Arc<Cluster>,
    version: Version,
    head: Request<()>,
    timeout: Duration,
    _slot: Slot,
}

/// Sends copies of a request that is in its final form where its route says so: at once when its body is in memory,
/// else when it has been read. Switches of protocol are not mirrored.
pub(super) fn begin(
    worker: &Rc<Worker>,
    forward: &Forward,
    version: Version,
    request: &mut Request<Body>,
) {
    if request.method() == Method::CONNECT || request.headers().contains_key(UPGRADE) {
        return;
    }
    let mut copies = Vec::new();
    for mirror in forward.mirrors.iter() {
        if !mirror.share.includes(worker.rng.borrow_mut().u64(..)) {
            continue;
        }
        let Some(slot) = worker.mirrors.slot() else {
            worker.telemetry.mirrored(Mirrored::Busy);
            continue;
        };
        let mut head = mirror::head(request);
        match &mirror.host {
            MirrorHost::Shadow => mirror::shadow(&mut head),
            MirrorHost::Same => {}
            MirrorHost::Other(host) => rewrite::set_host(host, &mut head),
        }
        header_changes::apply(&mirror.headers, head.headers_mut());
        copies.push(Copy {
            worker: worker.clone(),
            cluster: mirror.cluster.clone(),
            version,
            head,
            timeout: forward.timeout.unwrap_or(TIMEOUT),
            _slot: slot,
        });
    }
    if copies.is_empty() {
        return;
    }
    if request.body().size_hint().lower() > BODY_LIMIT as u64 {
        return too_long(&copies);
    }
    let body = match request.body().is_end_stream() {
        true => Some(Body::Empty),
        false => request.body().replay(),
    };
    if let Some(body) = body {
        for copy in copies {
            copy.send(body.replay().unwrap_or_default());
        }
        return;
    }
    let body = mem::take(request.body_mut());
    *request.body_mut() = Body::boxed(Tee {
        body,
        copies,
        read: BytesMut::new(),
    });
}

fn too_long(copies: &[Copy]) {
    for copy in copies {
        copy.worker.telemetry.mirrored(Mirrored::TooLong);
    }
}

impl Copy {
    fn send(mut self, body: Body) {
        spawn_local(async move {
            let answered = timeout(self.timeout, self.answered(body)).await;
            self.worker.telemetry.mirrored(match answered {
                Ok(true) => Mirrored::Answered,
                Ok(false) | Err(_) => Mirrored::Failed,
            });
        });
    }

    /// Whether there was an answer, whatever it says.
    async fn answered(&mut self, body: Body) -> bool {
        let mut request = mem::take(&mut self.head).map(|()| body);
        let cluster = self.worker.upstreams.cluster(&self.cluster);
        let call = Call::default();
        let sent = cluster.call(self.version, &mut request, &call);
        let Ok(mut sent) = sent.await else {
            return false;
        };
        // To its end, so that the connection can be used again.
        while let Some(frame) = sent.response.body_mut().frame().await {
            if frame.is_err() {
                return false;
            }
        }
        true
    }
}

/// A body that is kept while it is read, for copies of its request.
struct Tee {
    body: Body,
    /// Empty once they are sent, or given up.
    copies: Vec<Copy>,
    read: BytesMut,
}

impl Tee {
    fn keep(&mut self, data: &Bytes) {
        if self.copies.is_empty() {
            return;
        }
        if self.read.len() + data.len() > BODY_LIMIT {
            too_long(&self.copies);
            self.copies.clear();
            self.read = BytesMut::new();
            return;
        }
        self.read.extend_from_slice(data);
    }

    fn complete(&mut self, trailers: Option<&HeaderMap>) {
        let body = mem::take(&mut self.read).freeze();
        for copy in self.copies.drain(..) {
            let body = Body::full(body.clone());
            copy.send(match trailers {
                Some(trailers) => body.with_trailers(trailers.clone()),
                None => body,
            });
        }
    }
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            None => self.complete(None),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.keep(data);
                }
                if let trailers @ Some(_) = frame.trailers_ref() {
                    self.complete(trailers);
                } else if self.body.is_end_stream() {
                    // Nobody has to poll for a `None` that was announced.
                    self.complete(None);
                }
            }
            // The original broke off: there is nothing whole to mirror.
            Some(Err(_)) => self.copies.clear(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tee {
    /// Who is told that a body is at its end may not ask for more.
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.complete(None);
        }
    }
}
