//! The client of the control plane: one delta ADS stream, kept alive, on the control runtime.
//!
//! While there is no connection everything goes on with what is held; names that are asked for meanwhile are
//! asked of the next connection.

#[cfg(test)]
mod tests;

use super::{
    Destinations,
    assemble::Change,
    destinations::Feed,
    dns::{Answer, Dns},
    mirror::{Mirror, Outcome},
};
use crate::tls::{
    backoff::Backoff,
    control_plane::{ConnectError, ControlPlane, Proof, with_sources},
};
use std::{
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use weft_xds_proto::{
    envoy::envoy::{
        config::core::v3::{Node, node::UserAgentVersionType},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    names,
    resource::ResourceType,
};

const RECONNECT_FIRST: Duration = Duration::from_millis(100);
const RECONNECT_CAP: Duration = Duration::from_secs(10);
/// A stream that lives as long was a good one: the next failure starts with a short delay again.
const STABLE: Duration = Duration::from_secs(5);
/// Between two looks for destinations that nobody uses: a quarter of the time after which they are forgotten,
/// within these.
const SWEEP: Duration = Duration::from_secs(10);
const SWEEP_LEAST: Duration = Duration::from_millis(100);
/// A single response. Servers cut at 2 to 4 MiB.
const MAX_MESSAGE: usize = 16 << 20;

/// Who this proxy is to the control plane, and how long it waits and remembers.
#[derive(Debug, Clone)]
pub struct Config {
    /// The namespace of the pod.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// How long [`Destinations::resolve`] waits.
    pub destination_timeout: Duration,
    /// After which a destination that nobody uses is forgotten.
    pub destination_idle: Duration,
}

/// The client. [`Client::run`] is to be spawned on the control runtime.
#[derive(Debug)]
pub struct Client {
    control_plane: ControlPlane,
    feed: Feed,
    mirror: Mirror,
    dns: Dns,
    destination_idle: Duration,
    next_sweep: tokio::time::Instant,
    sweep_every: Duration,
    /// The certificate did not convince the last time.
    distrusted: bool,
}

/// Why a stream is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{address} answered {code:?}: {message}")]
    Refused {
        address: SocketAddr,
        code: Code,
        message: String,
    },
    #[error("the stream ended with {code:?}: {message}")]
    Broken { code: Code, message: String },
    /// The server said goodbye: a restart, or its way to balance connections.
    #[error("the control plane ended the stream")]
    Goodbye,
}

/// Every [`Destinations`] is gone: the process ends.
struct Stop;

struct Stream {
    requests: mpsc::UnboundedSender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Client {
    /// A client that has not connected yet, and what it will feed.
    pub fn new(config: Config, control_plane: ControlPlane) -> (Destinations, Self) {
        let own_inbound = names::inbound(&config.namespace, &config.pod).into();
        let (destinations, feed) = Destinations::new(own_inbound, config.destination_timeout);
        let node = Node {
            id: names::node_id(&config.namespace, &config.pod),
            user_agent_name: names::PROXY_USER_AGENT.to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentVersion(
                env!("CARGO_PKG_VERSION").to_owned(),
            )),
            ..Node::default()
        };
        let client = Self {
            control_plane,
            mirror: Mirror::new(node, feed.held().clone()),
            feed,
            dns: Dns::new(None),
            destination_idle: config.destination_idle,
            next_sweep: tokio::time::Instant::now(),
            sweep_every: (config.destination_idle / 4).clamp(SWEEP_LEAST, SWEEP),
            distrusted: false,
        };
        (destinations, client)
    }

    /// Runs until every [`Destinations`] is gone.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(RECONNECT_FIRST, RECONNECT_CAP);
        let mut may_hurry = true;
        loop {
            let began = Instant::now();
            let Ok(ended) = self.session().await else {
                return;
            };
            let now = Instant::now();
            let was_connected = self.feed.status(|status| {
                let was_connected = status.connected_to.is_some();
                status.disconnected(ended.to_string(), now);
                was_connected
            });
            self.mirror.disconnected();
            if was_connected && now - began >= STABLE {
                backoff.reset();
                may_hurry = true;
            }
            // At once after a goodbye, but only once: a server that always says goodbye is not well.
            let hurry = matches!(ended, Ended::Goodbye) && std::mem::take(&mut may_hurry);
            let retry_in = if hurry {
                Duration::ZERO
            } else {
                backoff.delay(fastrand::f64())
            };
            if hurry {
                tracing::info!(reason = %ended, "connecting to the control plane again");
            } else {
                tracing::warn!(
                    control_plane = self.control_plane.url(),
                    error = %ended,
                    ?retry_in,
                    "no connection to the control plane, going on with the configuration held",
                );
            }
            if self.meanwhile(tokio::time::sleep(retry_in)).await.is_err() {
                return;
            }
        }
    }

    /// One connection and its stream, from beginning to end.
    async fn session(&mut self) -> Result<Ended, Stop> {
        let proof = match self.control_plane.proof() {
            Proof::Certificate if !self.distrusted => Proof::Certificate,
            Proof::Certificate | Proof::Token => Proof::Token,
        };
        let (requests, outgoing) = mpsc::unbounded_channel();
        self.send_requests(&requests);
        let control_plane = self.control_plane.clone();
        let opened = self.meanwhile(open(control_plane, proof, outgoing)).await?;
        let (responses, address) = match opened {
            Ok(opened) => opened,
            Err(ended) => {
                // Whatever proof did not convince, the other may.
                if let Ended::Refused {
                    code: Code::Unauthenticated | Code::PermissionDenied,
                    ..
                } = ended
                {
                    self.distrusted = proof == Proof::Certificate;
                }
                return Ok(ended);
            }
        };
        self.distrusted = false;
        tracing::info!(control_plane = self.control_plane.url(), %address, ?proof, "connected to the control plane");
        self.feed
            .status(|status| status.connected(address.to_string(), Instant::now()));
        self.exchange(Stream {
            requests,
            responses,
        })
        .await
    }

    /// Moves messages both ways until the stream ends.
    async fn exchange(&mut self, mut stream: Stream) -> Result<Ended, Stop> {
        loop {
            self.send_requests(&stream.requests);
            tokio::select! {
                response = stream.responses.message() => match response {
                    Ok(Some(response)) => self.receive(response),
                    Ok(None) => return Ok(Ended::Goodbye),
                    Err(status) => return Ok(ended(&status)),
                },
                local = next_local(&mut self.feed, &mut self.dns, self.next_sweep) => {
                    self.handle(local)?;
                }
            }
        }
    }

    /// Does local work until something else is done.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                local = next_local(&mut self.feed, &mut self.dns, self.next_sweep) => {
                    self.handle(local)?;
                }
            }
        }
    }

    fn handle(&mut self, local: Local) -> Result<(), Stop> {
        match local {
            Local::Wanted(Some(name)) => {
                let changes = self.mirror.want(&name);
                self.publish(changes);
            }
            Local::Wanted(None) => return Err(Stop),
            Local::Resolved(answer) => {
                let changes = self.mirror.resolved(answer);
                self.publish(changes);
            }
            Local::Sweep => {
                self.next_sweep = tokio::time::Instant::now() + self.sweep_every;
                let idle = self.feed.forget_idle(self.destination_idle, Instant::now());
                if !idle.is_empty() {
                    tracing::debug!(names = ?idle, "destinations not used for a while are forgotten");
                    self.mirror.forget(&idle);
                    self.dns.follow(&self.mirror.hosts());
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, response: DeltaDiscoveryResponse) {
        let ty = ResourceType::from_url(&response.type_url);
        match self.mirror.receive(response, SystemTime::now()) {
            Ok(outcome) => {
                let ty = ty.expect("a response of an unknown type is an error");
                self.apply(ty, outcome);
            }
            Err(error) => tracing::warn!(%error, "response ignored"),
        }
    }

    fn apply(&mut self, ty: ResourceType, outcome: Outcome) {
        self.feed.status(|status| {
            let counts = &mut status.types[ty as usize];
            counts.applied += outcome.applied as u64;
            counts.refused += outcome.refused as u64;
            status.last_message = Some(Instant::now());
        });
        if let Some(roots) = outcome.roots {
            self.control_plane.identity.set_pushed_roots(roots);
        }
        self.publish(outcome.changes);
    }

    fn publish(&mut self, changes: Vec<Change>) {
        self.dns.follow(&self.mirror.hosts());
        for change in changes {
            match change {
                Change::Destination(destination) => self.feed.publish(destination),
                Change::Unknown(name, rest) => self.feed.unknown(&name, rest),
                Change::Unavailable(name) => self.feed.unavailable(&name),
                Change::Inbound(inbound) => self.feed.inbound(inbound),
            }
        }
    }

    /// Requests that find no stream any more are made again by the next.
    fn send_requests(&mut self, requests: &mpsc::UnboundedSender<DeltaDiscoveryRequest>) {
        while let Some(request) = self.mirror.next_request() {
            if requests.send(request).is_err() {
                return;
            }
        }
    }
}

enum Local {
    Wanted(Option<Arc<str>>),
    Resolved(Answer),
    Sweep,
}

async fn next_local(feed: &mut Feed, dns: &mut Dns, next_sweep: tokio::time::Instant) -> Local {
    tokio::select! {
        wanted = feed.wanted() => Local::Wanted(wanted),
        answer = dns.next() => Local::Resolved(answer),
        () = tokio::time::sleep_until(next_sweep) => Local::Sweep,
    }
}

async fn open(
    control_plane: ControlPlane,
    proof: Proof,
    outgoing: mpsc::UnboundedReceiver<DeltaDiscoveryRequest>,
) -> Result<(Streaming<DeltaDiscoveryResponse>, SocketAddr), Ended> {
    let connection = control_plane.connect(proof).await?;
    let mut request = Request::new(UnboundedReceiverStream::new(outgoing));
    if let Some(authorization) = connection.authorization {
        request
            .metadata_mut()
            .insert("authorization", authorization);
    }
    let response = AggregatedDiscoveryServiceClient::new(connection.channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .delta_aggregated_resources(request)
        .await
        .map_err(|status| Ended::Refused {
            address: connection.address,
            code: status.code(),
            message: with_sources(&status),
        })?;
    Ok((response.into_inner(), connection.address))
}

fn ended(status: &Status) -> Ended {
    Ended::Broken {
        code: status.code(),
        message: with_sources(status),
    }
}
