//! A data worker: one thread with its own listeners, pools, balancers and counters.
//!
//! What belongs to one worker is in [`Worker`] and never leaves its thread; what workers share, in
//! [`Shared`].

use crate::{
    admin::Health,
    config::{Config, Mode},
    deadline::Deadlines,
    detection::Memory,
    drain::{Drain, Guard},
    edges::Edges,
    exchange::{Caller, Known, Watchdog},
    inbound,
    net::original_dst::{Intercepted, LocalAddress, OriginalDestination},
    outbound,
    telemetry::{self, AccessLog, Connections, Direction},
    tls::Identity,
    upstream::{LimitRegistry, StatusRegistry, Upstreams, WorkloadConnector},
    xds::Destinations,
};
use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

/// How long a worker that can't accept waits before it tries again. There is no event to wait for: the
/// listener stays readable, and what is short (descriptors, memory) may be freed by another process.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
/// How often a worker shows a sign of life.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How often the worker lets go of the edges it has looked up, so that idle ones can be evicted.
const RELEASE_EDGES: u64 = 60;

/// What a connection does until it ends, once it is known what it carries. In a box, which is all that it holds
/// while it rests.
pub(crate) type Rest<'w> = Pin<Box<dyn Future<Output = ()> + 'w>>;

/// What the workers of a proxy share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) identity: Identity,
    pub(crate) destinations: Destinations,
    pub(crate) registry: telemetry::Registry,
    pub(crate) access_log: AccessLog,
    pub(crate) health: Health,
    /// Drains what comes in, and begins the drain of the proxy.
    pub(crate) drain: Drain,
    /// Drains what goes out, once nothing comes in any more: the application needs it to answer.
    pub(crate) outbound_drain: Drain,
    pub(crate) limits: Arc<LimitRegistry>,
    pub(crate) status: Arc<StatusRegistry>,
    /// Addresses of this workload.
    pub(crate) own_addresses: Vec<IpAddr>,
    /// Ports of our own listeners: a connection that "wanted" to go there was not redirected.
    pub(crate) own_ports: Vec<u16>,
}

impl Shared {
    /// What the connections of a direction drain by.
    pub(crate) fn drain_of(&self, direction: Direction) -> &Drain {
        match direction {
            Direction::Inbound => &self.drain,
            Direction::Outbound => &self.outbound_drain,
        }
    }
}

/// The listeners of one worker.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) outbound: StdListener,
    pub(crate) inbound: Option<StdListener>,
}

/// What belongs to one worker.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) telemetry: telemetry::Worker,
    pub(crate) deadlines: Deadlines,
    pub(crate) memory: RefCell<Memory>,
    pub(crate) edges: Rc<Edges>,
    pub(crate) applications: inbound::Applications,
    pub(crate) rng: RefCell<fastrand::Rng>,
    pub(crate) mirrors: outbound::Mirrors,
    original_destination: Box<dyn OriginalDestination>,
}

/// Runs a worker on the calling thread until the process ends.
pub(crate) fn run(index: usize, shared: Arc<Shared>, listeners: Listeners) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let worker = Worker::new(index, shared);
        worker.serve(index, listeners).await
    })
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>) -> Rc<Self> {
        let connector = WorkloadConnector::new(
            shared.identity.clone(),
            shared.own_addresses.iter().copied(),
        );
        let telemetry = shared.registry.worker(index);
        let deadlines = Deadlines::new();
        Rc::new(Self {
            upstreams: Upstreams::new(
                connector,
                shared.config.http.clone(),
                shared.limits.clone(),
                shared.status.clone(),
                deadlines.clone(),
            ),
            edges: Rc::new(Edges::new(
                telemetry.clone(),
                shared.config.workload.name.clone(),
            )),
            telemetry,
            deadlines,
            memory: RefCell::default(),
            applications: inbound::Applications::default(),
            rng: RefCell::new(fastrand::Rng::new()),
            mirrors: outbound::Mirrors::default(),
            original_destination: match shared.config.mode {
                Mode::Transparent => Box::new(Intercepted),
                Mode::Explicit => Box::new(LocalAddress),
            },
            shared,
        })
    }

    pub(crate) async fn serve(
        self: Rc<Self>,
        index: usize,
        listeners: Listeners,
    ) -> io::Result<()> {
        spawn_local(self.upstreams.clone().run());
        let deadlines = self.deadlines.clone();
        spawn_local(async move { deadlines.sweep().await });
        if let Some(listener) = listeners.inbound {
            let listener = TcpListener::from_std(listener)?;
            spawn_local(self.clone().accept(listener, Direction::Inbound));
        }
        let listener = TcpListener::from_std(listeners.outbound)?;
        spawn_local(self.clone().accept(listener, Direction::Outbound));
        self.beat(index).await;
        Ok(())
    }

    /// Serves every connection of a listener, while draining too: who calls may not know of it yet, and is
    /// told by `Connection: close` or GOAWAY rather than by a refused connection.
    async fn accept(self: Rc<Self>, listener: TcpListener, direction: Direction) {
        loop {
            match listener.accept().await {
                Ok((tcp, caller)) => {
                    let guard = self.shared.drain_of(direction).guard();
                    let worker = self.clone();
                    spawn_local(worker.connection(tcp, canonical(caller), direction, guard));
                }
                // The connection was gone before we took it: accept(2), Linux passes such errors on.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.connections(direction).accept_failed();
                    tracing::warn!(direction = direction.label(), %error, "cannot accept a connection");
                    sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    async fn connection(
        self: Rc<Self>,
        tcp: TcpStream,
        caller: SocketAddr,
        direction: Direction,
        _guard: Guard,
    ) {
        let _open = self.connections(direction).open();
        // In a box: a connection that lasts does without the memory of its beginning.
        let rest = match direction {
            Direction::Outbound => Box::pin(outbound::begin(&self, tcp, caller)).await,
            Direction::Inbound => Box::pin(inbound::begin(&self, tcp, caller)).await,
        };
        if let Some(rest) = rest {
            rest.await;
        }
    }

    /// Shows that the worker is alive, takes in where it is, and lets go of what others wait to be let go.
    async fn beat(&self, index: usize) {
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for beat in 0_u64.. {
            let now = beats.tick().await;
            self.shared.health.beat(index, now.into_std());
            self.upstreams
                .locate(&self.shared.destinations.inbound().zone);
            if beat % RELEASE_EDGES == 0 {
                self.edges.release();
                self.applications.release();
            }
        }
    }

    /// The counters of connections.
    pub(crate) fn connections(&self, direction: Direction) -> &Connections {
        self.telemetry.connections(direction)
    }

    /// Where a connection wanted to go. `None`, with a word in the log, when that is not known, or when it
    /// is ourselves: forwarding it would go round for ever.
    pub(crate) fn original_destination(&self, tcp: &TcpStream) -> Option<SocketAddr> {
        let original = match self.original_destination.of(tcp) {
            Ok(original) => original,
            Err(error) => {
                tracing::debug!(%error, "the original destination of a connection is not known");
                return None;
            }
        };
        let to_ourselves = self.shared.config.mode == Mode::Transparent
            && self.shared.own_ports.contains(&original.port())
            && tcp
                .local_addr()
                .is_ok_and(|local| canonical(local) == original);
        if to_ourselves {
            tracing::warn!(
                %original,
                "a connection was dialled to the proxy's own port and is refused; dial the service instead"
            );
            return None;
        }
        Some(original)
    }

    /// What the exchanges of a connection have in common.
    pub(crate) fn caller(
        &self,
        direction: Direction,
        address: SocketAddr,
        known: Option<Rc<Known>>,
    ) -> Rc<Caller> {
        Rc::new(Caller {
            direction,
            address,
            known,
            edges: self.edges.clone(),
            deadlines: self.deadlines.clone(),
            access_log: self.shared.access_log.clone(),
            watchdog: Watchdog::new(&self.deadlines),
        })
    }

    /// Now, for what is compared with the clock of the runtime.
    pub(crate) fn now(&self) -> Instant {
        Instant::now()
    }
}

/// An IPv4 address never in IPv6 clothes.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
