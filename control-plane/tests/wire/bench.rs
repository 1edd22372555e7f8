//! A control plane in this process, over a directory of its own, and clients of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use prost::Message as _;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming, transport::Channel};
use weft_control_plane::{
    app::{Config, ControlPlane, Source},
    ca::token::{AUDIENCE, JoinKey, Subject},
};
use weft_xds_proto::{
    csr::{
        IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient,
    },
    delta,
    envoy::envoy::{
        config::{cluster::v3::Cluster, core::v3::Node},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
        },
    },
    exchange::Rejection,
    names,
    resource::ResourceType,
    sotw,
};

/// The name of the resources of the service `user`.
pub(crate) const SERVICE: &str = "user.demo.svc.cluster.local:80";

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running control plane.
pub(crate) struct Bench {
    dir: TempDir,
    running: Option<ControlPlane>,
}

/// What a client shows.
#[derive(Debug, Clone)]
pub(crate) enum Identity {
    /// A join token of the pod `demo/user-0` with the service account `user`.
    Token,
    /// Any bearer token.
    Bearer(String),
    /// A client certificate: PEM chain as signed, and PEM key.
    Certificate { chain: Vec<String>, key: String },
    /// TLS, and nothing else.
    Nobody,
    /// No TLS.
    Plaintext,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        // Only the first one does it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("config")).unwrap();
        let mut bench = Self { dir, running: None };
        bench.restart().await;
        bench
    }

    /// Starts the control plane over the same directory again, on other ports.
    pub(crate) async fn restart(&mut self) {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let config = Config {
            source: Source::Files(self.dir.path().join("config")),
            ca_dir: self.dir.path().join("ca"),
            trust_domain: "cluster.local".into(),
            cluster_domain: "cluster.local".into(),
            xds_address: any,
            plaintext_xds_address: Some(any),
            monitoring_address: any,
            tls_names: vec!["localhost".to_owned()],
            max_leaf_ttl: Duration::from_secs(3600),
            ca_secret: None,
            root_overlap: None,
            admitted_streams: 2,
            injector: None,
        };
        self.running = Some(ControlPlane::start(config).await.unwrap());
    }

    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().shut_down().await;
    }

    /// A service of one port in the namespace `demo`, at 10.96.0.1, with ready endpoints.
    pub(crate) fn write_service(&self, name: &str, port: u16, endpoints: &[&str]) {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "namespace": "demo" },
            "spec": {
                "clusterIP": if name == "user" { "10.96.0.1" } else { "10.96.0.2" },
                "ports": [{ "name": "http", "port": port }],
            },
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "namespace": "demo",
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080 }],
            "endpoints": endpoints
                .iter()
                .map(|address| json!({ "addresses": [address], "conditions": { "ready": true } }))
                .collect::<Vec<_>>(),
        });
        // Written beside and moved, so that nobody reads half a file.
        let draft = self.dir.path().join("draft");
        fs::write(&draft, format!("{service}\n---\n{slice}\n")).unwrap();
        fs::rename(draft, self.service_file(name)).unwrap();
    }

    pub(crate) fn remove_service(&self, name: &str) {
        fs::remove_file(self.service_file(name)).unwrap();
    }

    pub(crate) fn roots(&self) -> String {
        fs::read_to_string(self.dir.path().join("ca/root-cert.pem")).unwrap()
    }

    pub(crate) fn token(&self, subject: &Subject) -> String {
        let key = JoinKey::load(&self.dir.path().join("ca")).unwrap();
        key.mint(subject, Duration::from_secs(60))
    }

    /// A token that would be good if it were not an hour too old.
    pub(crate) fn expired_token(&self) -> String {
        let key = fs::read(self.dir.path().join("ca/join-token-key")).unwrap();
        let claims = json!({
            "aud": [AUDIENCE],
            "iat": jsonwebtoken::get_current_timestamp() - 7200,
            "exp": jsonwebtoken::get_current_timestamp() - 3600,
            "kubernetes.io": {
                "namespace": "demo",
                "serviceaccount": { "name": "user" },
                "pod": { "name": "user-0" },
            },
        });
        let key = jsonwebtoken::EncodingKey::from_secret(&key);
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
    }

    pub(crate) async fn csr_client(&self, identity: &Identity) -> CsrClient {
        CsrClient(IstioCertificateServiceClient::new(
            self.channel(identity).await,
        ))
    }

    /// The body of a monitoring page.
    pub(crate) async fn get(&self, path: &str) -> String {
        let address = self.running.as_ref().unwrap().monitoring_address();
        let mut connection = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        connection.read_to_string(&mut response).await.unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{response}");
        body.to_owned()
    }

    /// Waits until a metric is as it should be: counting comes after answering.
    pub(crate) async fn until_metric(&self, metric: &str, is_right: impl Fn(f64) -> bool) {
        let wait = async {
            loop {
                let page = self.get("/metrics").await;
                let value = page
                    .lines()
                    .find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
                if value.is_some_and(&is_right) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{metric} never was as it should be");
    }

    fn service_file(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("config/{name}.yaml"))
    }

    async fn channel(&self, identity: &Identity) -> Channel {
        let running = self.running.as_ref().unwrap();
        let tls = match identity {
            Identity::Plaintext => None,
            _ => Some(self.tls(identity)),
        };
        let address = match identity {
            Identity::Plaintext => running.plaintext_xds_address().unwrap(),
            _ => running.xds_address(),
        };
        let connect = tower::service_fn(move |_| {
            let tls = tls.clone();
            async move {
                let tcp = TcpStream::connect(address).await?;
                let io: Box<dyn Io> = match tls {
                    Some(tls) => {
                        let name = ServerName::try_from("localhost").unwrap();
                        Box::new(
                            tokio_rustls::TlsConnector::from(tls)
                                .connect(name, tcp)
                                .await?,
                        )
                    }
                    None => Box::new(tcp),
                };
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(io))
            }
        });
        Channel::from_static("http://localhost")
            .connect_with_connector(connect)
            .await
            .unwrap()
    }

    fn tls(&self, identity: &Identity) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let bundle = self.roots();
        for root in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(root.unwrap()).unwrap();
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match identity {
            Identity::Certificate { chain, key } => config
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(chain[0].as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
            _ => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config)
    }

    fn authorize<T>(&self, identity: &Identity, message: T) -> Request<T> {
        let token = match identity {
            Identity::Token => Some(self.token(&Subject {
                namespace: "demo".to_owned(),
                service_account: "user".to_owned(),
                pod: "user-0".to_owned(),
            })),
            Identity::Bearer(token) => Some(token.clone()),
            _ => None,
        };
        let mut request = Request::new(message);
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        request
    }
}

trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

/// A client of the certificate signing service.
pub(crate) struct CsrClient(IstioCertificateServiceClient<Channel>);

impl CsrClient {
    pub(crate) async fn sign(
        &mut self,
        bench: &Bench,
        identity: Identity,
        csr: String,
    ) -> Result<Vec<String>, Status> {
        let message = IstioCertificateRequest {
            csr,
            ..IstioCertificateRequest::default()
        };
        let request = bench.authorize(&identity, message);
        let response = self.0.create_certificate(request).await?;
        Ok(response.into_inner().cert_chain)
    }
}

/// A request for a certificate, and its key.
pub(crate) fn csr(uri: Option<&str>) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .subject_alt_names
        .extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    (request, key.serialize_pem())
}

pub(crate) fn node(user_agent: &str) -> Node {
    Node {
        id: names::node_id("demo", "user-0"),
        user_agent_name: user_agent.to_owned(),
        ..Node::default()
    }
}

/// A client of the delta variant.
pub(crate) struct Delta {
    machine: delta::Client,
    identity: Identity,
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
    held: BTreeMap<(ResourceType, String), Vec<u8>>,
    /// What came, as `type +name` and `type -name`.
    pub(crate) log: Vec<String>,
    /// A resource to refuse.
    pub(crate) reject: Option<Rejection>,
}

impl Delta {
    pub(crate) async fn connect(bench: &Bench, user_agent: &str, identity: Identity) -> Self {
        Self::try_connect(bench, user_agent, identity)
            .await
            .unwrap()
    }

    pub(crate) async fn try_connect(
        bench: &Bench,
        user_agent: &str,
        identity: Identity,
    ) -> Result<Self, Status> {
        let (requests, responses) = Self::open(bench, &identity).await?;
        Ok(Self {
            machine: delta::Client::new(node(user_agent)),
            identity,
            requests,
            responses,
            held: BTreeMap::new(),
            log: Vec::new(),
            reject: None,
        })
    }

    pub(crate) async fn reconnect(&mut self, bench: &Bench) {
        self.machine.disconnected();
        (self.requests, self.responses) = Self::open(bench, &self.identity).await.unwrap();
    }

    pub(crate) fn subscribe(&mut self, ty: ResourceType, name: &str) {
        self.machine.subscribe(ty, name);
    }

    pub(crate) fn holds(&self, ty: ResourceType, name: &str) -> bool {
        self.held.contains_key(&(ty, name.to_owned()))
    }

    /// Whether a resource is held whose encoding contains a text.
    pub(crate) fn holds_text(&self, ty: ResourceType, name: &str, text: &str) -> bool {
        let body = self.held.get(&(ty, name.to_owned()));
        body.is_some_and(|body| body.windows(text.len()).any(|part| part == text.as_bytes()))
    }

    /// Sends all there is to send.
    pub(crate) async fn send(&mut self) {
        while let Some(request) = self.machine.next_request() {
            self.requests.send(request).await.unwrap();
        }
    }

    /// Talks to the control plane until something is so, and everything is answered.
    pub(crate) async fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let talk = async {
            loop {
                self.send().await;
                if is_so(self) {
                    return;
                }
                let response = self.responses.message().await.unwrap().unwrap();
                self.apply(response);
            }
        };
        let talked = tokio::time::timeout(PATIENCE, talk).await;
        assert!(talked.is_ok(), "{what}: not so; came: {:?}", self.log);
    }

    /// How the control plane ends the stream.
    pub(crate) async fn refusal(&mut self) -> Status {
        self.send().await;
        self.responses.message().await.unwrap_err()
    }

    fn apply(&mut self, response: DeltaDiscoveryResponse) {
        let update = self.machine.receive(response).unwrap();
        let ty = update.pending.ty();
        for resource in update.resources {
            self.log.push(format!("{} +{}", ty.label(), resource.name));
            let body = resource.resource.unwrap();
            assert_eq!(body.type_url, ty.url());
            self.held.insert((ty, resource.name), body.value);
        }
        for name in update.removed {
            self.log.push(format!("{} -{name}", ty.label()));
            self.held.remove(&(ty, name));
        }
        self.machine.answer(update.pending, self.reject.as_slice());
    }

    async fn open(
        bench: &Bench,
        identity: &Identity,
    ) -> Result<
        (
            mpsc::Sender<DeltaDiscoveryRequest>,
            Streaming<DeltaDiscoveryResponse>,
        ),
        Status,
    > {
        let mut ads = AggregatedDiscoveryServiceClient::new(bench.channel(identity).await);
        let (requests, outbound) = mpsc::channel(16);
        let request = bench.authorize(identity, ReceiverStream::new(outbound));
        let responses = ads.delta_aggregated_resources(request).await?;
        Ok((requests, responses.into_inner()))
    }
}

/// A client of the state-of-the-world variant that follows clusters.
pub(crate) struct Sotw {
    machine: sotw::Client,
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
    clusters: BTreeSet<String>,
}

impl Sotw {
    pub(crate) async fn connect(bench: &Bench, user_agent: &str) -> Self {
        let identity = Identity::Plaintext;
        let mut ads = AggregatedDiscoveryServiceClient::new(bench.channel(&identity).await);
        let (requests, outbound) = mpsc::channel(16);
        let responses = ads
            .stream_aggregated_resources(ReceiverStream::new(outbound))
            .await
            .unwrap();
        Self {
            machine: sotw::Client::new(node(user_agent)),
            requests,
            responses: responses.into_inner(),
            clusters: BTreeSet::new(),
        }
    }

    pub(crate) fn subscribe(&mut self, ty: ResourceType, name: &str) {
        self.machine.subscribe(ty, name);
    }

    /// Talks to the control plane until the names of the clusters are right.
    pub(crate) async fn until(&mut self, what: &str, is_right: impl Fn(&[&str]) -> bool) {
        let talk = async {
            loop {
                while let Some(request) = self.machine.next_request() {
                    self.requests.send(request).await.unwrap();
                }
                let clusters: Vec<_> = self.clusters.iter().map(String::as_str).collect();
                if is_right(&clusters) {
                    return;
                }
                let response = self.responses.message().await.unwrap().unwrap();
                let update = self.machine.receive(response).unwrap();
                self.clusters = update
                    .resources
                    .iter()
                    .map(|body| Cluster::decode(body.value.as_slice()).unwrap().name)
                    .collect();
                let names = self.clusters.iter().map(String::as_str);
                self.machine.answer(update.pending, names, &[]);
            }
        };
        let talked = tokio::time::timeout(PATIENCE, talk).await;
        assert!(
            talked.is_ok(),
            "{what}: not so; there are {:?}",
            self.clusters
        );
    }
}
