//! A fake control plane: TLS, delta ADS over a catalogue that tests write, and a CA.

use crate::{
    tls::testing::TestCa,
    xds::convert::tests::{address, ads, any},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use prost::Name;
use rustls::{ServerConfig, server::WebPkiClientVerifier};
use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    sync::{broadcast, mpsc, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::{Stream, wrappers::UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming, service::Routes};
use weft_xds_proto::{
    csr::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{
            IstioCertificateService, IstioCertificateServiceServer,
        },
    },
    delta::Server,
    envoy::envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig},
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints,
                lb_endpoint::HostIdentifier,
            },
            listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
        },
        extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_server::{
                AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
            },
        },
    },
    exchange::{Catalogue, Encoded},
    resource::ResourceType,
};

pub(super) struct FakeControlPlane {
    shared: Arc<Shared>,
    pub(super) address: SocketAddr,
    server: Option<JoinHandle<()>>,
}

type Key = (ResourceType, Arc<str>);

struct Shared {
    ca: TestCa,
    resources: Mutex<HashMap<Key, Arc<Encoded>>>,
    changed: broadcast::Sender<Key>,
    goodbye: broadcast::Sender<()>,
    seen: watch::Sender<Seen>,
}

/// What clients have sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// The `authorization` of each stream.
    pub(super) streams: Vec<Option<String>>,
    /// With the number of the stream, from 1.
    pub(super) requests: Vec<(usize, DeltaDiscoveryRequest)>,
}

impl FakeControlPlane {
    pub(super) async fn start(ca: TestCa) -> Self {
        let shared = Arc::new(Shared {
            ca,
            resources: Mutex::default(),
            changed: broadcast::Sender::new(1024),
            goodbye: broadcast::Sender::new(16),
            seen: watch::Sender::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            server: Some(tokio::spawn(serve(listener, shared.clone()))),
            shared,
            address,
        }
    }

    /// Cuts every connection and stops listening.
    pub(super) async fn stop(&mut self) {
        let server = self.server.take().unwrap();
        server.abort();
        server.await.unwrap_err();
    }

    /// Listens again, at the same address.
    pub(super) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.server = Some(tokio::spawn(serve(listener, self.shared.clone())));
    }

    /// Ends every stream in good order.
    pub(super) fn say_goodbye(&self) {
        self.shared.goodbye.send(()).unwrap();
    }

    pub(super) fn set<M: Name>(&self, ty: ResourceType, name: &str, version: &str, message: &M) {
        let encoded = Encoded::new(name.into(), version.into(), any(message));
        self.write(ty, name, Some(encoded));
    }

    pub(super) fn remove(&self, ty: ResourceType, name: &str) {
        self.write(ty, name, None);
    }

    fn write(&self, ty: ResourceType, name: &str, encoded: Option<Encoded>) {
        let key = (ty, Arc::from(name));
        let mut resources = self.shared.resources.lock().unwrap();
        match encoded {
            Some(encoded) => drop(resources.insert(key.clone(), Arc::new(encoded))),
            None => drop(resources.remove(&key)),
        }
        drop(resources);
        // Nobody listens while nobody is connected.
        let _ = self.shared.changed.send(key);
    }

    /// A destination for opaque connections with its cluster and one endpoint.
    pub(super) fn set_tcp(&self, name: &str, endpoint: &str) {
        self.set(ResourceType::Listener, name, "1", &listener(name));
        self.set(ResourceType::Cluster, name, "1", &cluster(name));
        self.set_endpoint(name, "1", endpoint);
    }

    pub(super) fn set_endpoint(&self, name: &str, version: &str, endpoint: &str) {
        let assignment = assignment(name, endpoint);
        self.set(ResourceType::Endpoints, name, version, &assignment);
    }

    /// Waits until what clients have sent satisfies a condition.
    pub(super) async fn until(&self, condition: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.shared.seen.subscribe();
        tokio::time::timeout(Duration::from_secs(20), seen.wait_for(condition))
            .await
            .expect("it never came")
            .unwrap()
            .clone()
    }
}

pub(super) fn listener(name: &str) -> Listener {
    let proxy = TcpProxy {
        cluster_specifier: Some(ClusterSpecifier::Cluster(name.to_owned())),
        ..TcpProxy::default()
    };
    Listener {
        name: name.to_owned(),
        default_filter_chain: Some(FilterChain {
            filters: vec![Filter {
                name: "tcp".to_owned(),
                config_type: Some(ConfigType::TypedConfig(any(&proxy))),
            }],
            ..FilterChain::default()
        }),
        ..Listener::default()
    }
}

pub(super) fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: ads(),
            service_name: String::new(),
        }),
        ..Cluster::default()
    }
}

fn assignment(name: &str, endpoint: &str) -> ClusterLoadAssignment {
    let endpoint: SocketAddr = endpoint.parse().unwrap();
    let endpoint = Endpoint {
        address: address(&endpoint.ip().to_string(), endpoint.port().into()),
        ..Endpoint::default()
    };
    ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![LocalityLbEndpoints {
            lb_endpoints: vec![LbEndpoint {
                host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
                ..LbEndpoint::default()
            }],
            ..LocalityLbEndpoints::default()
        }],
        ..ClusterLoadAssignment::default()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let acceptor = TlsAcceptor::from(Arc::new(server_config(&shared.ca)));
    // Dropped, and thereby aborted, with this task.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        let routes = Routes::new(AggregatedDiscoveryServiceServer::new(Service(
            shared.clone(),
        )))
        .add_service(IstioCertificateServiceServer::new(Service(shared.clone())));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            // Ends with an error when the client is gone.
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(
                    TokioIo::new(stream),
                    TowerToHyperService::new(routes.prepare()),
                )
                .await;
        });
    }
}

/// Asks for a client certificate and does without.
fn server_config(ca: &TestCa) -> ServerConfig {
    let provider = crate::tls::provider();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.root_certificate()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let (certificate, key) = ca.server("127.0.0.1");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

struct Service(Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send>>;
    type DeltaAggregatedResourcesStream = Responses;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("state of the world"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        let authorization = request
            .metadata()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        let mut number = 0;
        self.0.seen.send_modify(|seen| {
            seen.streams.push(authorization.clone());
            number = seen.streams.len();
        });
        if authorization.is_some_and(|token| token != "Bearer token") {
            return Err(Status::unauthenticated("not my token"));
        }
        let (responses, outgoing) = mpsc::unbounded_channel();
        tokio::spawn(stream(
            self.0.clone(),
            number,
            request.into_inner(),
            responses,
        ));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(
            outgoing,
        ))))
    }
}

async fn stream(
    shared: Arc<Shared>,
    number: usize,
    mut requests: Streaming<DeltaDiscoveryRequest>,
    responses: mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>,
) {
    let mut protocol = Server::new();
    let mut changed = shared.changed.subscribe();
    let mut goodbye = shared.goodbye.subscribe();
    loop {
        tokio::select! {
            request = requests.message() => {
                let Ok(Some(request)) = request else { return };
                shared.seen.send_modify(|seen| seen.requests.push((number, request.clone())));
                protocol.receive(request).unwrap();
            }
            change = changed.recv() => {
                let (ty, name) = change.unwrap();
                protocol.changed(ty, &name, Instant::now());
            }
            _ = goodbye.recv() => return,
        }
        while let Some(response) = protocol.next_response(&*shared) {
            if responses.send(Ok(response.decode().unwrap())).is_err() {
                return;
            }
        }
    }
}

impl Catalogue for Shared {
    fn find(&self, ty: ResourceType, name: &Arc<str>) -> Option<Arc<Encoded>> {
        let resources = self.resources.lock().unwrap();
        resources.get(&(ty, name.clone())).cloned()
    }

    fn names(&self, ty: ResourceType) -> Vec<Arc<str>> {
        let resources = self.resources.lock().unwrap();
        let names = resources.keys().filter(|(of, _)| *of == ty);
        names.map(|(_, name)| name.clone()).collect()
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let request = request.into_inner();
        let seconds = u64::try_from(request.validity_duration).unwrap();
        let life = Duration::from_secs(if seconds == 0 { 3600 } else { seconds });
        Ok(Response::new(IstioCertificateResponse {
            cert_chain: self.0.ca.sign(&request.csr, life),
        }))
    }
}
