//! One stream: takes in what a client says, and gives what it is owed.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use prost::bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio_stream::Stream;
use tokio_util::{sync::WaitForCancellationFutureOwned, task::task_tracker::TaskTrackerToken};
use tonic::{Status, Streaming};
use weft_xds_proto::{
    envoy::{envoy::config::core::v3::Node, google::protobuf::value::Kind},
    exchange::{Answer, Received},
    names,
    resource::ResourceType,
};

use super::{
    nacks::{NackRecord, unix_ms},
    protocol::Protocol,
    resources::Follower,
    service::{Settings, Shared},
};
use crate::{caller::Caller, monitoring::metrics::StreamMetrics, translate::Dialect};

/// Names that one stream may follow. A proxy follows what its application calls; an Envoy follows the
/// mesh. What is far above either is a fault or an attack.
const MAX_SUBSCRIPTIONS: usize = 200_000;

/// The responses of one stream, as its connection asks for them.
///
/// It is no task of its own: whoever sends the responses drives it, and so there is no queue between what
/// changes and what is sent. While the connection takes nothing, changes are coalesced, and requests wait.
pub(super) struct Responses<P: Protocol> {
    state: State<P>,
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Tells that the stream is there as long as it is.
    _tracked: TaskTrackerToken,
}

enum State<P: Protocol> {
    Opening(Opening<P>),
    Open(Box<Session<P>>),
    Over,
}

/// Yields `None` when the client leaves before it said anything.
type Opening<P> = Pin<Box<dyn Future<Output = Result<Option<Session<P>>, Status>> + Send>>;

impl<P: Protocol> Responses<P> {
    /// A stream that a caller has opened; `None` on a listener whose callers are all trusted.
    pub(super) fn new(
        shared: Arc<Shared>,
        caller: Option<Caller>,
        inbound: Streaming<P::Request>,
    ) -> Self {
        Self {
            shutdown: Box::pin(shared.settings.shutdown.clone().cancelled_owned()),
            _tracked: shared.tracked(),
            state: State::Opening(Box::pin(open(shared, caller, inbound))),
        }
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match &mut self.state {
                State::Opening(opening) => match opening.as_mut().poll(cx) {
                    Poll::Ready(Ok(Some(session))) => self.state = State::Open(Box::new(session)),
                    Poll::Ready(Ok(None)) => return Poll::Ready(None),
                    Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
                    Poll::Pending => return Poll::Pending,
                },
                State::Open(session) => return session.poll_response(cx).map(Result::transpose),
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

impl<P: Protocol> Stream for Responses<P> {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if matches!(self.state, State::Over) {
            return Poll::Ready(None);
        }
        let mut response = self.poll_response(cx);
        // Last, as this takes a lock that all streams share; a client that does not answer ends every other reason
        // to go on soon.
        if response.is_pending() && self.shutdown.as_mut().poll(cx).is_ready() {
            response = Poll::Ready(Some(Err(Status::unavailable(
                "the control plane is shutting down; connect again",
            ))));
        }
        if let Poll::Ready(None | Some(Err(_))) = &response {
            self.state = State::Over;
        }
        response
    }
}

/// Hears a client's first request, and lets it in.
async fn open<P: Protocol>(
    shared: Arc<Shared>,
    caller: Option<Caller>,
    mut inbound: Streaming<P::Request>,
) -> Result<Option<Session<P>>, Status> {
    let Some(first) = inbound.message().await? else {
        return Ok(None);
    };
    let node = P::node(&first).cloned().unwrap_or_default();
    let dialect = dialect(&node).map_err(Status::invalid_argument)?;
    check_node(&dialect, &node, caller.as_ref())?;

    // Until the source has told everything, what the world lacks proves nothing: answering now would
    // take away what proxies rely on.
    let Settings {
        store, resources, ..
    } = &shared.settings;
    store.synced().await;
    resources.caught_up(store.count()).await;
    let admission = shared.admission.clone().acquire_owned().await;
    let admission = admission.map_err(|closed| Status::internal(closed.to_string()))?;

    let mut session = Session {
        follower: shared.settings.resources.follower(&dialect),
        machine: P::new(matches!(dialect, Dialect::Envoy(_))),
        metrics: shared.settings.metrics.stream(dialect.label(), P::LABEL),
        node: node.id,
        inbound,
        admission: Some(admission),
        owed: true,
        shared,
    };
    tracing::debug!(
        node = session.node,
        dialect = dialect.label(),
        protocol = P::LABEL,
        "stream opened"
    );
    session.receive(first)?;
    Ok(Some(session))
}

/// A stream whose client has introduced itself.
struct Session<P: Protocol> {
    shared: Arc<Shared>,
    inbound: Streaming<P::Request>,
    follower: Follower,
    machine: P,
    metrics: StreamMetrics,
    node: String,
    /// Held until the client is up to date for the first time.
    admission: Option<OwnedSemaphorePermit>,
    /// Whether the machine may have a response to give.
    owed: bool,
}

impl<P: Protocol> Session<P> {
    /// The next response; `None` when the client is done.
    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        // Before anything is sent, so that it takes into account all that the client has said.
        while let Poll::Ready(request) = Pin::new(&mut self.inbound).poll_next(cx) {
            match request.transpose()? {
                Some(request) => {
                    self.receive(request)?;
                    self.owed = true;
                }
                None => return Poll::Ready(Ok(None)),
            }
        }
        if self.follower.poll_changed(cx).is_ready() {
            self.owed |= self.note_changes();
        }
        if self.owed {
            if let Some(response) = self.next_response() {
                return Poll::Ready(Ok(Some(response)));
            }
            self.owed = false;
            self.admission = None;
            if self.machine.is_answered() {
                self.follower.up_to_date();
            }
        }
        Poll::Pending
    }

    fn receive(&mut self, request: P::Request) -> Result<(), Status> {
        let received = match self.machine.receive(request) {
            Ok(received) => received,
            Err(unknown) => {
                // Envoy asks for types that are news to us; it lives without.
                tracing::debug!(node = self.node, url = unknown.url, "unknown resource type");
                return Ok(());
            }
        };
        let Received {
            ty,
            subscribed,
            unsubscribed,
            answer,
        } = received;
        for name in &subscribed {
            self.follower.follow(ty, name);
        }
        for name in &unsubscribed {
            self.follower.unfollow(ty, name);
        }
        self.follower.follow_all(ty, self.machine.is_wildcard(ty));
        if self.follower.len() > MAX_SUBSCRIPTIONS {
            return Err(Status::resource_exhausted(format!(
                "a stream may follow {MAX_SUBSCRIPTIONS} resources by name, and this one follows more"
            )));
        }
        if let Some(answer) = answer {
            self.settle(ty, answer);
        }
        Ok(())
    }

    fn note_changes(&mut self) -> bool {
        let mut concerned = false;
        for ((ty, name), since) in self.follower.take_changed() {
            concerned |= self.machine.changed(ty, &name, since);
        }
        concerned
    }

    fn next_response(&mut self) -> Option<Bytes> {
        let (ty, response) = self.machine.next_response(&self.follower)?;
        self.follower.behind();
        self.metrics.pushed(ty, response.len());
        Some(response)
    }

    fn settle(&self, ty: ResourceType, answer: Answer) {
        let Some(nack) = answer.nack else {
            let latency = answer.since.map(|since| since.elapsed());
            self.metrics.acked(ty, latency);
            self.follower.accepted(ty);
            return;
        };
        self.metrics.nacked(ty);
        self.follower.refused(ty, &self.node, &nack);
        let resources: Vec<_> = nack
            .resources
            .into_iter()
            .map(|refused| (refused.name, refused.message))
            .collect();
        for (name, reason) in &resources {
            tracing::warn!(
                node = self.node,
                ty = ty.label(),
                name,
                reason,
                "resource refused by a proxy"
            );
        }
        if resources.is_empty() {
            tracing::warn!(
                node = self.node,
                ty = ty.label(),
                reason = nack.message,
                "response refused by a proxy"
            );
        }
        self.shared.settings.nacks.push(NackRecord {
            unix_ms: unix_ms(),
            node: self.node.clone(),
            resource_type: ty.label(),
            resources,
            message: nack.message,
        });
    }
}

/// The dialect that a node's introduction asks for, or what is wrong with its metadata.
fn dialect(node: &Node) -> Result<Dialect, String> {
    let metadata = |key: &str| {
        let value = node.metadata.as_ref()?.fields.get(key)?;
        match value.kind.as_ref()? {
            Kind::StringValue(text) => Some(text.as_str()),
            _ => None,
        }
    };
    Dialect::of_node(&node.user_agent_name, metadata)
}

/// A sidecar may only be the sidecar that its credentials are for. Other clients may name themselves as
/// they like: nothing that they are given depends on it.
fn check_node(dialect: &Dialect, node: &Node, caller: Option<&Caller>) -> Result<(), Status> {
    let (Dialect::Weft, Some(caller)) = (dialect, caller) else {
        return Ok(());
    };
    let namespace = caller.identity.namespace();
    let proven = match &caller.pod {
        Some(pod) => node.id == names::node_id(namespace, pod),
        None => node
            .id
            .rsplit_once('.')
            .is_some_and(|(_, of)| of == namespace),
    };
    if proven {
        return Ok(());
    }
    let whose = match &caller.pod {
        Some(pod) => format!("the pod {namespace}/{pod}"),
        None => format!("a pod of the namespace {namespace}"),
    };
    Err(Status::permission_denied(format!(
        "node.id: it is {:?}, but the caller's credentials ({}) are those of {whose}",
        node.id, caller.identity
    )))
}
