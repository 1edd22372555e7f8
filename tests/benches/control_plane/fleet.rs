//! A thousand simulated proxies on one thread, each with a TLS connection and a delta stream of its own.

use anyhow::{Context, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;
use weft_tests::bench::control_plane::{
    http2,
    ledger::Ledger,
    proxy::{Applied, Memory, Proxy},
    world::{Change, World},
};

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
/// Between two attempts of a proxy to connect.
const RETRY: Duration = Duration::from_millis(100);
/// Larger than most that comes at once.
const BUFFER: usize = 4096;

/// The proxies. Dropping them ends their streams.
pub(crate) struct Fleet {
    connected: watch::Sender<bool>,
    shared: Arc<Mutex<Shared>>,
    size: usize,
    _tasks: JoinSet<()>,
}

/// What proxies have been given, added up.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    /// Responses.
    pub(crate) responses: u64,
    /// Resources in them.
    pub(crate) resources: u64,
    /// Bytes of them, as gRPC messages.
    pub(crate) bytes: u64,
    /// Resources that a proxy did not follow, or held like that.
    pub(crate) astray: u64,
    /// When the last came that was not endpoints.
    pub(crate) last_of_others: Option<Instant>,
}

/// The ledger of the current phase, for whoever makes changes.
#[derive(Clone)]
pub(crate) struct Book(Arc<Mutex<Shared>>);

impl Book {
    /// Notes that a change happens now.
    pub(crate) fn changed(&self, change: Change) {
        lock(&self.0).ledger.changed(change, Instant::now());
    }
}

#[derive(Default)]
struct Shared {
    ledger: Ledger,
    received: Received,
    /// How many streams are open.
    open: usize,
    /// How many proxies have all that they follow.
    complete: usize,
    /// Connections that failed, and streams that ended without being asked to, with the first reason.
    failures: usize,
    first_failure: Option<String>,
}

impl Shared {
    fn failed(&mut self, error: &anyhow::Error) {
        self.failures += 1;
        self.first_failure
            .get_or_insert_with(|| format!("{error:#}"));
    }
}

/// How the proxies reach the control plane.
#[derive(Clone)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Endpoint {
    /// A control plane at an address whose certificate chains to these roots.
    pub(crate) fn new(address: SocketAddr, roots: &[u8]) -> anyhow::Result<Self> {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(roots) {
            store.add(root?)?;
        }
        let mut config = ClientConfig::builder()
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        // One process stands for a thousand, none of which has the tickets of another.
        config.resumption = Resumption::disabled();
        Ok(Self {
            address,
            tls: Arc::new(config).into(),
        })
    }
}

impl Fleet {
    /// Starts a proxy for each token. They connect at once.
    pub(crate) fn start(world: World, endpoint: &Endpoint, tokens: Vec<String>) -> Self {
        let connected = watch::Sender::new(true);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let memory = Memory::default();
        let mut tasks = JoinSet::new();
        let size = tokens.len();
        for (number, token) in (0..).zip(tokens) {
            let task = Task {
                endpoint: endpoint.clone(),
                token,
                proxy: Proxy::new(world, number, memory.clone()),
                was_complete: false,
                shared: shared.clone(),
                connected: connected.subscribe(),
            };
            tasks.spawn(task.run());
        }
        let fleet = Self {
            connected,
            shared,
            size,
            _tasks: tasks,
        };
        fleet.begin(world);
        fleet
    }

    /// Begins a phase: forgets what was noted and counted before.
    pub(crate) fn begin(&self, world: World) {
        let mut followers = HashMap::new();
        for proxy in 0..u32::try_from(self.size).expect("proxies are numbered") {
            for service in world.followed(proxy) {
                *followers.entry(service).or_default() += 1;
            }
        }
        let mut shared = lock(&self.shared);
        shared.ledger = Ledger::new(followers);
        shared.received = Received::default();
        shared.failures = 0;
        shared.first_failure = None;
    }

    /// Looks at the ledger of this phase.
    pub(crate) fn ledger<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&lock(&self.shared).ledger)
    }

    /// Where changes are noted.
    pub(crate) fn book(&self) -> Book {
        Book(self.shared.clone())
    }

    /// What proxies were given in this phase.
    pub(crate) fn received(&self) -> Received {
        lock(&self.shared).received
    }

    /// Connections and streams that failed in this phase, and the first reason.
    pub(crate) fn failures(&self) -> (usize, Option<String>) {
        let shared = lock(&self.shared);
        (shared.failures, shared.first_failure.clone())
    }

    /// Ends every connection, or opens all of them at once.
    pub(crate) fn connect(&self, connected: bool) {
        self.connected.send_replace(connected);
    }

    /// Waits until every proxy has all that it follows.
    pub(crate) async fn complete(&self, patience: Duration) -> anyhow::Result<()> {
        self.until(patience, |shared| shared.complete == self.size)
            .await
    }

    /// Waits until nobody is connected.
    pub(crate) async fn gone(&self, patience: Duration) -> anyhow::Result<()> {
        self.until(patience, |shared| shared.open == 0).await
    }

    /// Waits until every change of this phase is acknowledged by all whom it concerns. Says whether they did in time.
    pub(crate) async fn settled(&self, patience: Duration) -> bool {
        self.until(patience, |shared| shared.ledger.is_settled())
            .await
            .is_ok()
    }

    async fn until(
        &self,
        patience: Duration,
        holds: impl Fn(&Shared) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            {
                let shared = lock(&self.shared);
                if holds(&shared) {
                    return Ok(());
                }
                ensure!(
                    Instant::now() < deadline,
                    "after {patience:?}: {} of {} streams open, {} complete, {} failures, the first: {:?}",
                    shared.open,
                    self.size,
                    shared.complete,
                    shared.failures,
                    shared.first_failure,
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One proxy.
struct Task {
    endpoint: Endpoint,
    token: String,
    proxy: Proxy,
    was_complete: bool,
    shared: Arc<Mutex<Shared>>,
    connected: watch::Receiver<bool>,
}

impl Task {
    async fn run(mut self) {
        let mut connected = self.connected.clone();
        // Ends when the fleet is dropped.
        while connected.wait_for(|connected| *connected).await.is_ok() {
            let failed = tokio::select! {
                Err(error) = self.session() => Some(error),
                _ = connected.wait_for(|connected| !*connected) => None,
            };
            self.proxy.disconnected();
            if let Some(error) = failed {
                lock(&self.shared).failed(&error);
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    /// One connection. Ends only with an error.
    async fn session(&mut self) -> anyhow::Result<std::convert::Infallible> {
        let tcp = TcpStream::connect(self.endpoint.address)
            .await
            .context("connect")?;
        tcp.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let mut tls = self.endpoint.tls.connect(name, tcp).await.context("TLS")?;
        let _open = Open::new(&self.shared);
        let mut stream = http2::Client::call("localhost", METHOD, &self.token);
        let mut buffer = vec![0; BUFFER];
        let mut messages = Vec::new();
        loop {
            let applied = self.apply(&mut messages)?;
            while let Some(request) = self.proxy.next_request() {
                stream.send(&request)?;
            }
            let outbound = stream.take_outbound();
            if !outbound.is_empty() {
                tls.write_all(&outbound).await?;
                tls.flush().await?;
            }
            self.note(&applied);
            let length = tls.read(&mut buffer).await?;
            ensure!(length > 0, "the server closed the connection");
            stream.receive(&buffer[..length], &mut messages)?;
        }
    }

    fn apply(&mut self, messages: &mut Vec<Vec<u8>>) -> anyhow::Result<Vec<(usize, Applied)>> {
        messages
            .drain(..)
            .map(|message| Ok((message.len(), self.proxy.receive(&message)?)))
            .collect()
    }

    fn note(&mut self, applied: &[(usize, Applied)]) {
        if applied.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut shared = lock(&self.shared);
        for (bytes, applied) in applied {
            shared.received.responses += 1;
            shared.received.resources += applied.resources as u64;
            shared.received.bytes += *bytes as u64;
            shared.received.astray += applied.astray as u64;
            if applied.resources > applied.endpoints.len() {
                shared.received.last_of_others = Some(now);
            }
            for (service, before, change) in &applied.endpoints {
                shared.ledger.acknowledged(*service, *before, *change, now);
            }
        }
        if !std::mem::replace(&mut self.was_complete, self.proxy.is_complete()) && self.was_complete
        {
            shared.complete += 1;
        }
    }
}

/// Counts a stream as open as long as it lives.
struct Open(Arc<Mutex<Shared>>);

impl Open {
    fn new(shared: &Arc<Mutex<Shared>>) -> Self {
        lock(shared).open += 1;
        Self(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0).open -= 1;
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
