//! The control plane as a whole: what starts, in which order, and how it ends.

mod identity;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::{
    net::TcpListener,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use weft_xds_proto::csr::istio_certificate_service_server::IstioCertificateServiceServer;

use self::identity::{Identity, tell_roots};
use crate::{
    ca::{Serving, ServingError, StorageError, secret::SecretError, service::CertificateService},
    kubernetes::{self, Cluster},
    monitoring::{
        Inventory, Monitoring,
        metrics::{BundleMetrics, CsrMetrics, XdsMetrics},
    },
    serve::{self, BindError, Transport},
    source::{self, Problems, Unread, files},
    status::{self, StatusMetrics},
    trust_bundle::TrustBundle,
    webhook::{self, InjectionMetrics, NativeSidecars, SettingsFile, SettingsFileError, Webhook},
    world::{Store, World},
    xds::{self, AdsService, Nacks, Resources},
};

/// Streams get this long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(5);

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the objects of the mesh come from.
    pub source: Source,
    /// Where the CA keeps its root and the key of join tokens, except in a cluster.
    pub ca_dir: PathBuf,
    /// In a cluster, the Secret that signs instead of the control plane's own.
    pub ca_secret: Option<Arc<str>>,
    /// In a cluster, how long a new root is trusted before it signs. By default the longest lifetime of a
    /// workload's certificate.
    pub root_overlap: Option<Duration>,
    /// The trust domain of all identities.
    pub trust_domain: Arc<str>,
    /// What ends the names of services.
    pub cluster_domain: Arc<str>,
    /// xDS and certificates, over TLS.
    pub xds_address: SocketAddr,
    /// xDS without TLS and without authentication. `None` for no such listener.
    pub plaintext_xds_address: Option<SocketAddr>,
    /// Health, readiness, metrics.
    pub monitoring_address: SocketAddr,
    /// Names and addresses in the serving certificate.
    pub tls_names: Vec<String>,
    /// The longest lifetime of a workload's certificate.
    pub max_leaf_ttl: Duration,
    /// How many new streams are brought up to date at a time.
    pub admitted_streams: usize,
    /// The injector, for the source `kubernetes`. `None` for a cluster whose pods get no sidecars from us.
    pub injector: Option<Injector>,
}

/// Where pods are shown to the injector, and what it is told.
#[derive(Debug, Clone)]
pub struct Injector {
    /// The webhook, over TLS.
    pub address: SocketAddr,
    /// The file with its settings.
    pub settings: PathBuf,
}

/// Where the objects of the mesh come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory of YAML files.
    Files(PathBuf),
    /// The API of a Kubernetes cluster.
    Kubernetes(kubernetes::Settings),
    /// Whoever writes to this store: tests and embedders.
    Store(Arc<Store>),
}

/// A control plane that is running.
#[derive(Debug)]
pub struct ControlPlane {
    xds_address: SocketAddr,
    plaintext_xds_address: Option<SocketAddr>,
    monitoring_address: SocketAddr,
    ads: AdsService,
    shutdown: CancellationToken,
    tasks: JoinSet<Result<(), RunError>>,
    /// Ends last of all.
    monitoring: Option<AbortHandle>,
    /// Watches as long as it is kept.
    source: Option<files::Source>,
}

/// Why the control plane does not start, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The CA's directory.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The CA's Secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The serving certificate.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// The source.
    #[error("--config-dir: {0}")]
    Source(#[from] files::WatchError),
    /// The Kubernetes API.
    #[error(transparent)]
    Kubernetes(#[from] kubernetes::ConnectError),
    /// The settings of the injector.
    #[error(transparent)]
    Injector(#[from] SettingsFileError),
    /// A server.
    #[error("a listener failed: {0}")]
    Server(#[from] tonic::transport::Error),
    /// The monitoring server.
    #[error("the monitoring listener failed: {0}")]
    Monitoring(#[from] std::io::Error),
    /// The webhook's server.
    #[error("the webhook's listener failed: {0}")]
    Webhook(std::io::Error),
    /// A part of the control plane panicked: a fault of Weft.
    #[error("a part of the control plane failed: {0}; please report this")]
    Panic(#[from] tokio::task::JoinError),
}

impl ControlPlane {
    /// Binds every listener, loads or makes the CA, and starts serving. The world may still be empty:
    /// streams wait until the source has told all it knew at its start. Must be called in a tokio runtime.
    pub async fn start(config: Config) -> Result<Self, RunError> {
        // Listeners first: a port in use is found before anything is written.
        let xds = serve::bind("--xds-address", config.xds_address)?;
        let plaintext = config
            .plaintext_xds_address
            .map(|address| serve::bind("--plaintext-xds-address", address))
            .transpose()?;
        let monitoring = serve::bind("--monitoring-address", config.monitoring_address)?;
        let injector = match (&config.source, &config.injector) {
            (Source::Kubernetes(_), Some(injector)) => Some((
                serve::bind("--webhook-address", injector.address)?,
                SettingsFile::open(injector.settings.clone())?,
            )),
            _ => None,
        };

        let mut registry = Registry::with_prefix("weft");
        let mesh_config = match &config.source {
            Source::Kubernetes(settings) => settings.mesh_config.clone(),
            Source::Files(_) | Source::Store(_) => None,
        };
        let cluster = match &config.source {
            Source::Kubernetes(settings) => Some(Cluster::connect(settings.clone()).await?),
            Source::Files(_) | Source::Store(_) => None,
        };
        let Identity {
            ca,
            authenticator,
            keeper,
        } = Identity::open(&config, cluster.as_ref(), &mut registry).await?;
        let serving = Arc::new(Serving::to_proxies(ca.clone(), config.tls_names.clone())?);

        let store = match &config.source {
            Source::Files(_) | Source::Kubernetes(_) => {
                Store::new(World::new(config.cluster_domain.clone()))
            }
            Source::Store(store) => store.clone(),
        };
        store.set_roots(ca.bundle().into());
        let changes = store.follow();
        let resources = Resources::new(changes.seen().clone());

        let shutdown = CancellationToken::new();
        let problems = Problems::new();
        let unread = Unread::default();
        let nacks = Nacks::default();
        registry.register_collector(Box::new(problems.clone()));
        registry.register_collector(Box::new(Inventory {
            store: store.clone(),
            resources: resources.clone(),
            ca: ca.clone(),
        }));
        let ads = AdsService::new(
            xds::Settings {
                resources: resources.clone(),
                store: store.clone(),
                metrics: XdsMetrics::register(&mut registry),
                nacks: nacks.clone(),
                admitted: config.admitted_streams,
                shutdown: shutdown.clone(),
            },
            authenticator.clone(),
        );
        let csr = CertificateService::new(
            ca.clone(),
            authenticator,
            CsrMetrics::register(&mut registry),
        );

        let mut control_plane = Self {
            xds_address: local_address(&xds)?,
            plaintext_xds_address: plaintext.as_ref().map(local_address).transpose()?,
            monitoring_address: local_address(&monitoring)?,
            ads: ads.clone(),
            shutdown: shutdown.clone(),
            tasks: JoinSet::new(),
            monitoring: None,
            source: None,
        };
        let followed = resources.clone();
        control_plane.background(async move { followed.keep_current(changes).await });
        let renewed = serving.clone();
        control_plane.background(async move { renewed.keep_current().await });
        if let Some(cluster) = &cluster {
            control_plane.background(source::kubernetes::run(source::kubernetes::Settings {
                client: cluster.client.clone(),
                trust_domain: config.trust_domain.clone(),
                metrics: source::kubernetes::Metrics::register(&mut registry),
                unread: unread.clone(),
                problems: problems.clone(),
                store: store.clone(),
            }));
        }
        control_plane.background(tell_roots(ca.clone(), store.clone()));
        if let Source::Files(directory) = config.source {
            let settings = files::Settings {
                directory,
                trust_domain: config.trust_domain,
            };
            control_plane.source = Some(files::start(settings, store.clone(), problems.clone())?);
        }
        if let Some(cluster) = &cluster {
            let (leadership, election) = kubernetes::elect(cluster, shutdown.clone());
            registry.register_collector(Box::new(leadership.clone()));
            if let Some(keeper) = keeper {
                control_plane.background(keeper.run(leadership.clone()));
            }
            if let Some(mesh_config) = mesh_config {
                control_plane
                    .background(mesh_config.keep(cluster.client.clone(), leadership.clone()));
            }
            let metrics = BundleMetrics::register(&mut registry);
            let bundle = TrustBundle::new(cluster.clone(), ca.clone(), store.clone(), metrics);
            control_plane.background(bundle.run(leadership.clone()));
            control_plane.background(status::keep_current(status::Settings {
                cluster: cluster.clone(),
                leadership: leadership.clone(),
                store: store.clone(),
                resources: resources.clone(),
                metrics: StatusMetrics::register(&mut registry),
            }));
            control_plane.tasks.spawn(async move {
                election.await;
                Ok(())
            });
            if let Some((listener, settings)) = injector {
                let names = webhook::names(&cluster.namespace, &config.cluster_domain);
                let serving = Arc::new(Serving::to_api_server(ca.clone(), names)?);
                let metrics = InjectionMetrics::register(&mut registry);
                control_plane.inject(listener, serving, settings, metrics, cluster);
                let roots =
                    webhook::bundle::keep_current(cluster.client.clone(), ca.clone(), leadership);
                control_plane.background(roots);
            }
        }
        if let Some(listener) = plaintext {
            let routes = Routes::new(ads.trusting());
            control_plane.grpc(listener, Transport::Plaintext, routes);
        }
        let routes = Routes::new(ads).add_service(IstioCertificateServiceServer::new(csr));
        control_plane.grpc(xds, Transport::Tls(serving), routes);
        let router = Monitoring {
            store,
            unread,
            problems,
            nacks,
            registry,
            shutdown: shutdown.clone(),
        }
        .router();
        control_plane.monitoring = Some(
            control_plane
                .tasks
                .spawn(async move { Ok(axum::serve(monitoring, router).await?) }),
        );
        Ok(control_plane)
    }

    /// Where xDS and certificates are served.
    pub fn xds_address(&self) -> SocketAddr {
        self.xds_address
    }

    /// Where xDS is served in plaintext, if it is.
    pub fn plaintext_xds_address(&self) -> Option<SocketAddr> {
        self.plaintext_xds_address
    }

    /// Where health, readiness and metrics are served.
    pub fn monitoring_address(&self) -> SocketAddr {
        self.monitoring_address
    }

    /// Waits until a part fails; without a failure never ends.
    pub async fn failed(&mut self) -> RunError {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return error.into(),
                Some(Ok(Ok(()))) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Tells every client to go elsewhere, and ends. Readiness fails from the first moment, and is
    /// answered to the last.
    pub async fn shut_down(mut self) {
        self.shutdown.cancel();
        self.ads.ended(FAREWELL).await;
        if let Some(monitoring) = self.monitoring.take() {
            monitoring.abort();
        }
        let servers = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, servers).await.is_err() {
            tracing::warn!("connections left behind");
        }
        drop(self.source);
    }

    /// Runs a task that has no end of its own until shutdown.
    fn background(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.shutdown.clone().run_until_cancelled_owned(task);
        self.tasks.spawn(async move {
            task.await;
            Ok(())
        });
    }

    fn inject(
        &mut self,
        listener: TcpListener,
        serving: Arc<Serving>,
        settings: SettingsFile,
        metrics: InjectionMetrics,
        cluster: &Cluster,
    ) {
        let settings = Arc::new(settings);
        let (native_sidecars, asking) = NativeSidecars::ask(cluster.client.clone());
        self.background(async move { match asking.await {} });
        let followed = settings.clone();
        self.background(async move { followed.follow().await });
        let renewed = serving.clone();
        self.background(async move { renewed.keep_current().await });
        let webhook = Webhook {
            settings,
            native_sidecars,
            metrics,
        };
        let (router, shutdown) = (webhook.router(), self.shutdown.clone());
        self.tasks.spawn(async move {
            let transport = Transport::Tls(serving);
            serve::serve_http(listener, transport, router, shutdown)
                .await
                .map_err(RunError::Webhook)
        });
    }

    fn grpc(&mut self, listener: TcpListener, transport: Transport, routes: Routes) {
        let shutdown = self.shutdown.clone();
        self.tasks
            .spawn(async move { Ok(serve::serve(listener, transport, routes, shutdown).await?) });
    }
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, RunError> {
    Ok(listener.local_addr()?)
}
