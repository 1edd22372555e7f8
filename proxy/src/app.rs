//! The life of the process: threads, readiness, signals and the way out.
//!
//! The calling thread runs the control runtime (xDS, certificates, admin endpoints, signals); each data
//! worker has a thread and a runtime of its own.

use crate::{
    admin::{Condition, Health, Parts, View, endpoints, samples, server},
    config::{Certificates, Config, Mode},
    drain::Drain,
    memory,
    net::listen,
    own_addresses,
    telemetry::{self, AccessLog, log, registry::DEFAULT_EDGE_IDLE},
    tls::{
        Authorities, Identity,
        control_plane::ControlPlane,
        rotation,
        source::{Csr, Files},
    },
    upstream::{LimitRegistry, StatusRegistry},
    worker::{self, Listeners, Shared},
    xds::{self, Destinations},
};
use anyhow::Context;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Instant, SystemTime},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

/// Runs a proxy until it has drained. Errors when it can't start, or when a worker fails.
pub(crate) fn run(config: Config, log: log::Control) -> anyhow::Result<()> {
    limit_arenas();
    // Fails when a test or `weft` has installed the same one before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For what blocks (files, names): idle threads go after seconds, and there are few at once.
        .max_blocking_threads(4)
        .build()
        .context("cannot start the control runtime")?;
    runtime.block_on(control(config, log))
}

async fn control(config: Config, log: log::Control) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let listeners = Listening::bind(&config).await?;
    let access_log = AccessLog::stdout(config.access_log).context("cannot start the access log")?;
    let health = Health::new(config.workers.get(), Instant::now());
    health.met(Condition::Listeners);

    let identity = Identity::new();
    let control_plane = control_plane(&config, identity.clone());
    let authorities = control_plane.authorities.clone();
    let certificates = certificates(&config, &control_plane, identity.clone());
    let (destinations, client) = xds::Client::new(client_config(&config), control_plane);
    tokio::spawn(certificates);
    tokio::spawn(authorities.clone().follow());
    tokio::spawn(client.run());
    tokio::spawn(memory::give_back());
    tokio::spawn(note_readiness(
        health.clone(),
        identity.clone(),
        destinations.clone(),
    ));

    let shared = Arc::new(Shared {
        own_addresses: own_addresses(&config),
        own_ports: listeners.ports(),
        registry: telemetry::Registry::new(config.workers, config.max_edges, DEFAULT_EDGE_IDLE),
        drain: Drain::new(),
        outbound_drain: Drain::new(),
        limits: Arc::new(LimitRegistry::default()),
        status: Arc::new(StatusRegistry::default()),
        identity,
        destinations,
        access_log,
        health,
        config,
    });
    let parts = parts(&shared, authorities, log);
    tokio::spawn(server::serve(
        listeners.admin,
        endpoints::admin(parts.clone()),
    ));
    tokio::spawn(server::serve(
        listeners.metrics,
        endpoints::scrape(parts.clone()),
    ));
    let probes = shared.config.app_probes.clone();
    tokio::spawn(server::serve(
        listeners.health,
        endpoints::health(parts, probes),
    ));
    let mut failures = start_workers(&shared, listeners.workers)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        workers = shared.config.workers,
        identity = %shared.config.workload.identity,
        "proxy started"
    );

    tokio::select! {
        signal = signals.received() => tracing::info!(signal, "draining"),
        () = shared.drain.signaled() => {}
        failure = failures.recv() => {
            let failure = failure.unwrap_or_else(|| anyhow::anyhow!("every worker has ended"));
            return Err(failure);
        }
    }
    drain(&shared, &mut signals).await;
    Ok(())
}

/// Lets what is in flight finish, for as long as there is time and nobody insists: first what others ask of
/// the application, then what it asks of others, which it needs to answer the former.
async fn drain(shared: &Shared, signals: &mut Signals) {
    shared.health.draining();
    shared.drain.start();
    let config = &shared.config;
    let finished = async {
        // Those who call us may not know yet that we go: as long as they come, they are served.
        shared.drain.quiet(config.drain_quiet).await;
        shared.outbound_drain.start();
        shared.outbound_drain.all_done().await;
    };
    let in_flight = || shared.drain.in_flight() + shared.outbound_drain.in_flight();
    tokio::select! {
        finished = timeout(config.drain_timeout, finished) => match finished {
            Ok(()) => tracing::info!("drained"),
            Err(_) => tracing::warn!(
                connections = in_flight(),
                "the drain timeout is over; what is in flight is cut off"
            ),
        },
        signal = signals.received() => tracing::warn!(
            signal,
            connections = in_flight(),
            "a second signal; what is in flight is cut off"
        ),
    }
}

/// Every listener of the proxy, bound before anything else is done: a port in use is told at once.
struct Listening {
    workers: Vec<Listeners>,
    admin: tokio::net::TcpListener,
    metrics: tokio::net::TcpListener,
    health: tokio::net::TcpListener,
}

impl Listening {
    async fn bind(config: &Config) -> anyhow::Result<Self> {
        let addresses = &config.listen;
        let outbound = listen::shared("--outbound-listen", addresses.outbound, config.workers)?;
        let mut inbound = match addresses.inbound {
            Some(address) => listen::shared("--inbound-listen", address, config.workers)?,
            None => Vec::new(),
        }
        .into_iter();
        let single = |flag, address: SocketAddr| -> anyhow::Result<_> {
            let listener = listen::single(flag, address)?;
            Ok(tokio::net::TcpListener::from_std(listener)?)
        };
        Ok(Self {
            workers: outbound
                .into_iter()
                .map(|outbound| Listeners {
                    outbound,
                    inbound: inbound.next(),
                })
                .collect(),
            admin: single("--admin-listen", addresses.admin)?,
            metrics: single("--metrics-listen", addresses.metrics)?,
            health: single("--health-listen", addresses.health)?,
        })
    }

    fn ports(&self) -> Vec<u16> {
        let first = self.workers.first();
        let outbound = first.map(|listeners| &listeners.outbound);
        let inbound = first.and_then(|listeners| listeners.inbound.as_ref());
        outbound
            .into_iter()
            .chain(inbound)
            .filter_map(|listener| listener.local_addr().ok())
            .map(|address| address.port())
            .collect()
    }
}

/// What the endpoints for operators read and switch.
fn parts(shared: &Arc<Shared>, authorities: Authorities, log: log::Control) -> Parts {
    let look = |view: fn(&Shared) -> Value| -> View<Value> {
        let shared = shared.clone();
        Arc::new(move || view(&shared))
    };
    let counted = shared.clone();
    Parts {
        health: shared.health.clone(),
        registry: shared.registry.clone(),
        access_log: shared.access_log.clone(),
        samples: Arc::new(move || {
            samples::take(
                &counted.destinations,
                &counted.identity,
                &authorities,
                &counted.status,
            )
        }),
        config: look(|shared| shared.destinations.dump()),
        clusters: look(|shared| json!(shared.status.summary())),
        certificates: look(|shared| json!(shared.identity.status())),
        drain: shared.drain.clone(),
        log,
    }
}

/// Starts a thread per worker. What comes out of the channel is why one has ended.
fn start_workers(
    shared: &Arc<Shared>,
    listeners: Vec<Listeners>,
) -> anyhow::Result<mpsc::UnboundedReceiver<anyhow::Error>> {
    let (failed, failures) = mpsc::unbounded_channel();
    for (index, listeners) in listeners.into_iter().enumerate() {
        let (shared, failed) = (shared.clone(), failed.clone());
        thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                if let Err(error) = worker::run(index, shared, listeners) {
                    let error = anyhow::Error::from(error).context(format!("worker {index}"));
                    // Nobody listens any more only when the process ends anyway.
                    let _ = failed.send(error);
                }
            })
            .with_context(|| format!("cannot start worker {index}"))?;
    }
    Ok(failures)
}

async fn note_readiness(health: Health, identity: Identity, destinations: Destinations) {
    tokio::join!(
        async {
            identity.ready().await;
            health.met(Condition::Certificate);
        },
        async {
            destinations.ready().await;
            health.met(Condition::Configuration);
        }
    );
    memory::let_go_of_code();
    tracing::info!("proxy is ready");
}

fn client_config(config: &Config) -> xds::client::Config {
    xds::client::Config {
        namespace: config.workload.identity.namespace().to_owned(),
        pod: config.workload.pod.clone(),
        destination_timeout: config.control_plane.destination_timeout,
        destination_idle: config.control_plane.destination_idle,
    }
}

fn control_plane(config: &Config, identity: Identity) -> ControlPlane {
    let control_plane = config.control_plane.clone();
    ControlPlane {
        host: control_plane.host,
        port: control_plane.port,
        server_name: control_plane.server_name,
        authorities: Authorities::at(control_plane.ca),
        token: control_plane.token,
        identity,
    }
}

/// Keeps the workload's certificate in force, wherever it comes from.
fn certificates(
    config: &Config,
    control_plane: &ControlPlane,
    identity: Identity,
) -> impl Future<Output = ()> + Send + 'static {
    let clock: Arc<dyn Fn() -> SystemTime + Send + Sync> = Arc::new(SystemTime::now);
    let certificates = config.certificates.clone();
    let control_plane = control_plane.clone();
    let id = config.workload.identity.clone();
    async move {
        match certificates {
            Certificates::Directory(directory) => {
                rotation::run(Files::new(directory), identity, clock).await;
            }
            Certificates::ControlPlane { lifetime } => {
                rotation::run(Csr::new(control_plane, id, lifetime), identity, clock).await;
            }
        }
    }
}

/// The addresses at which the workload calls itself. In explicit mode many proxies may share those of one
/// host, so that only what is given counts.
fn own_addresses(config: &Config) -> Vec<std::net::IpAddr> {
    if config.workload.addresses.is_empty() && config.mode == Mode::Transparent {
        own_addresses::of_this_host()
    } else {
        config.workload.addresses.clone()
    }
}

/// The signals that ask the process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// glibc gives every thread an arena of its own, which keeps what the thread once used: with a handful of
/// threads, two are as fast and hold less memory.
fn limit_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes no pointers; it is called before any other thread of ours is started.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
