//! The gRPC service: authenticates a stream and gives it a task.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use weft_xds_proto::{
    delta,
    envoy::envoy::service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
        aggregated_discovery_service_server::AggregatedDiscoveryService,
    },
    sotw,
};

use super::{
    nacks::Nacks,
    protocol::Protocol,
    resources::Resources,
    stream::{self, Stream},
};
use crate::{caller::Authenticator, monitoring::metrics::XdsMetrics, world::Store};

/// Responses between a stream's task and its connection. What does not fit waits in the task, where it
/// is coalesced.
const QUEUE: usize = 1;

type Responses<T> = ReceiverStream<Result<T, Status>>;

/// The aggregated discovery service. Clones serve the same resources.
#[derive(Debug, Clone)]
pub struct AdsService {
    pub(super) shared: Arc<Shared>,
    /// `None` where whoever connects is trusted.
    authenticator: Option<Authenticator>,
}

/// What the service works with.
#[derive(Debug)]
pub struct Settings {
    /// What it serves.
    pub resources: Arc<Resources>,
    /// Says when the world is complete enough to be served.
    pub store: Arc<Store>,
    /// Where it counts.
    pub metrics: XdsMetrics,
    /// Where it keeps refusals.
    pub nacks: Nacks,
    /// How many new streams are brought up to date at a time.
    pub admitted: usize,
    /// Ends every stream when cancelled.
    pub shutdown: CancellationToken,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// Held by a new stream until it is up to date: a thousand proxies that reconnect at once must not
    /// starve those that are connected.
    pub(super) admission: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl AdsService {
    /// A service that trusts only callers that this authenticator knows.
    pub fn new(settings: Settings, authenticator: Authenticator) -> Self {
        let admission = Arc::new(Semaphore::new(settings.admitted.max(1)));
        Self {
            shared: Arc::new(Shared {
                settings,
                admission,
                tasks: TaskTracker::new(),
            }),
            authenticator: Some(authenticator),
        }
    }

    /// The same service for a listener whose callers are all trusted.
    pub fn trusting(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            authenticator: None,
        }
    }

    /// Waits until every stream has ended, but not for longer than this.
    pub async fn ended(&self, patience: Duration) {
        self.shared.tasks.close();
        let ended = tokio::time::timeout(patience, self.shared.tasks.wait()).await;
        if ended.is_err() {
            tracing::warn!(streams = self.shared.tasks.len(), "streams left behind");
        }
    }

    fn open<P: Protocol>(
        &self,
        request: Request<Streaming<P::Request>>,
    ) -> Result<Response<Responses<P::Response>>, Status> {
        let caller = match &self.authenticator {
            Some(authenticator) => Some(authenticator.caller(&request).inspect_err(|status| {
                tracing::warn!(reason = status.message(), "stream refused");
            })?),
            None => None,
        };
        let (outbound, responses) = mpsc::channel(QUEUE);
        let stream = Stream::<P> {
            shared: self.shared.clone(),
            caller,
            inbound: request.into_inner(),
            outbound,
        };
        self.shared.tasks.spawn(stream::run(stream));
        Ok(Response::new(ReceiverStream::new(responses)))
    }
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsService {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<sotw::Server>(request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        self.open::<delta::Server>(request)
    }
}
