//! The task of one stream: moves messages between a connection and a protocol machine.

use std::sync::Arc;

use prost::Message as _;
use tokio::sync::mpsc;
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
    service::Shared,
};
use crate::{caller::Caller, monitoring::metrics::StreamMetrics, translate::Dialect};

/// Names that one stream may follow. A proxy follows what its application calls; an Envoy follows the
/// mesh. What is far above either is a fault or an attack.
const MAX_SUBSCRIPTIONS: usize = 200_000;

/// A stream that has been opened.
pub(super) struct Stream<P: Protocol> {
    pub(super) shared: Arc<Shared>,
    /// `None` on a listener whose callers are all trusted.
    pub(super) caller: Option<Caller>,
    pub(super) inbound: Streaming<P::Request>,
    pub(super) outbound: mpsc::Sender<Result<P::Response, Status>>,
}

/// Serves a stream until either end is done with it.
pub(super) async fn run<P: Protocol>(stream: Stream<P>) {
    let Stream {
        shared,
        caller,
        mut inbound,
        outbound,
    } = stream;
    let shutdown = shared.settings.shutdown.clone();
    let served = tokio::select! {
        () = shutdown.cancelled() => Err(Status::unavailable(
            "the control plane is shutting down; connect again",
        )),
        served = serve::<P>(&shared, caller, &mut inbound, &outbound) => served,
    };
    if let Err(status) = served {
        // Where the queue is full the client has stopped reading, and need not be told.
        let _ = outbound.try_send(Err(status));
    }
}

async fn serve<P: Protocol>(
    shared: &Shared,
    caller: Option<Caller>,
    inbound: &mut Streaming<P::Request>,
    outbound: &mpsc::Sender<Result<P::Response, Status>>,
) -> Result<(), Status> {
    let Some(first) = inbound.message().await? else {
        return Ok(());
    };
    let node = P::node(&first).cloned().unwrap_or_default();
    let dialect = dialect(&node).map_err(Status::invalid_argument)?;
    check_node(&dialect, &node, caller.as_ref())?;

    // Until the source has told everything, what the world lacks proves nothing: answering now would
    // take away what proxies rely on.
    shared.settings.store.synced().await;
    let admission = shared.admission.clone().acquire_owned().await;
    let mut admission = Some(admission.map_err(|closed| Status::internal(closed.to_string()))?);

    let mut session = Session {
        shared,
        follower: shared.settings.resources.follower(&dialect),
        machine: P::new(matches!(dialect, Dialect::Envoy(_))),
        metrics: shared.settings.metrics.stream(dialect.label(), P::LABEL),
        node: node.id,
    };
    tracing::debug!(
        node = session.node,
        dialect = dialect.label(),
        protocol = P::LABEL,
        "stream opened"
    );
    session.receive(first)?;
    let mut owed = true;
    loop {
        tokio::select! {
            biased;
            request = inbound.message() => match request? {
                Some(request) => {
                    session.receive(request)?;
                    owed = true;
                }
                None => return Ok(()),
            },
            () = session.follower.changed() => owed |= session.note_changes(),
            place = outbound.reserve(), if owed => {
                let Ok(place) = place else { return Ok(()) };
                match session.next_response() {
                    Some(response) => place.send(Ok(response)),
                    None => {
                        owed = false;
                        admission.take();
                    }
                }
            }
        }
    }
}

struct Session<'a, P> {
    shared: &'a Shared,
    follower: Follower,
    machine: P,
    metrics: StreamMetrics,
    node: String,
}

impl<P: Protocol> Session<'_, P> {
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

    fn next_response(&mut self) -> Option<P::Response> {
        let response = self.machine.next_response(&self.follower)?;
        if let Some(ty) = P::type_of(&response) {
            self.metrics.pushed(ty, response.encoded_len());
        }
        Some(response)
    }

    fn settle(&self, ty: ResourceType, answer: Answer) {
        let Some(nack) = answer.nack else {
            let latency = answer.since.map(|since| since.elapsed());
            self.metrics.acked(ty, latency);
            return;
        };
        self.metrics.nacked(ty);
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
