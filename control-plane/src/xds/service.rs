//! The gRPC service: authenticates streams and opens them.

use std::{
    convert::Infallible,
    future::{Future, ready},
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use prost::bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::Service,
    server::{Grpc, NamedService, StreamingService},
};
use weft_xds_proto::{
    delta, envoy::envoy::service::discovery::v3::aggregated_discovery_service_server::SERVICE_NAME,
    sotw,
};

use super::{
    codec::Codec, nacks::Nacks, protocol::Protocol, resources::Resources, stream::Responses,
};
use crate::{caller::Authenticator, monitoring::metrics::XdsMetrics, world::Store};

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

    async fn open<P: Protocol>(
        &self,
        request: Request<Streaming<P::Request>>,
    ) -> Result<Response<Responses<P>>, Status> {
        let caller = match &self.authenticator {
            Some(authenticator) => {
                let caller = authenticator.caller(&request).await;
                Some(caller.inspect_err(|status| {
                    tracing::warn!(reason = status.message(), "stream refused");
                })?)
            }
            None => None,
        };
        let responses = Responses::new(self.shared.clone(), caller, request.into_inner());
        Ok(Response::new(responses))
    }

    async fn stream<P: Protocol>(self, request: http::Request<Body>) -> http::Response<Body> {
        let mut grpc = Grpc::new(Codec::<P::Request>::new());
        grpc.streaming(Method::<P>(self, PhantomData), request)
            .await
    }
}

impl Shared {
    /// Says that a stream is there, until it is dropped.
    pub(super) fn tracked(&self) -> TaskTrackerToken {
        self.tasks.token()
    }
}

/// As generated code does it, but with a codec of our own.
impl Service<http::Request<Body>> for AdsService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        let method = request.uri().path().rsplit('/').next();
        match method {
            Some("DeltaAggregatedResources") => {
                Box::pin(async move { Ok(service.stream::<delta::Server>(request).await) })
            }
            Some("StreamAggregatedResources") => {
                Box::pin(async move { Ok(service.stream::<sotw::Server>(request).await) })
            }
            _ => Box::pin(ready(Ok(
                Status::unimplemented("ADS has no such method").into_http()
            ))),
        }
    }
}

impl NamedService for AdsService {
    const NAME: &'static str = SERVICE_NAME;
}

/// One variant of the protocol.
struct Method<P>(AdsService, PhantomData<P>);

impl<P: Protocol> StreamingService<P::Request> for Method<P> {
    type Response = Bytes;
    type ResponseStream = Responses<P>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Responses<P>>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<P::Request>>) -> Self::Future {
        let service = self.0.clone();
        Box::pin(async move { service.open(request).await })
    }
}
