//! Proxies in one process, whose configuration the test holds in its own hands.

#[cfg(test)]
use crate::admission::Summary;
use crate::{
    admin::Health,
    cli,
    config::Config,
    drain::Drain,
    net::listen,
    snapshot::{
        Cluster, Destination, Endpoint, Inbound, InboundPort, MtlsMode, Protocol, Route,
        RouteTable, WorkloadName,
        admission::Limits,
        route::{Action, Domain, Forward, VirtualHost},
    },
    telemetry::{self, AccessLog, EdgeKey, Mirrored, Mode as AccessLogMode, edge::MergedEdge},
    tls::{Identity, testing::TestCa},
    upstream::{LimitRegistry, StatusRegistry},
    worker::{Listeners, Shared, Worker},
    xds::{Destinations, destinations::Feed},
};
use std::{
    net::SocketAddr,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio::task::spawn_local;

/// The identity of the workload that calls.
pub const ORDER: &str = "spiffe://cluster.local/ns/demo/sa/order";
/// The identity of the workload that is called.
pub const USER: &str = "spiffe://cluster.local/ns/demo/sa/user";

/// Enough for a TLS handshake under valgrind, which takes more than 5 s on a busy machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for the side that is called, as its flag.
const HANDSHAKE_TIMEOUT: &str = "--handshake-timeout=60s";

/// A proxy whose workers are on the thread of the test.
pub struct Proxy {
    /// Where it takes outbound connections.
    pub outbound: SocketAddr,
    /// Where it takes inbound connections.
    pub inbound: SocketAddr,
    /// What it believes its control plane to have said.
    pub feed: Feed,
    /// Ends it, in order.
    pub drain: Drain,
    registry: telemetry::Registry,
    #[cfg(test)]
    destinations: Destinations,
}

/// Starts a proxy for the workload of an identity.
pub fn proxy(ca: &TestCa, identity: &str, flags: &[&str]) -> Proxy {
    proxy_of_workers(NonZeroUsize::MIN, ca, identity, flags).0
}

/// The same with so many workers, and where each of them takes inbound connections.
pub fn proxy_of_workers(
    workers: NonZeroUsize,
    ca: &TestCa,
    identity: &str,
    flags: &[&str],
) -> (Proxy, Vec<SocketAddr>) {
    let defaults = [
        "--namespace",
        "demo",
        "--pod",
        "pod-0",
        "--workers",
        "1",
        HANDSHAKE_TIMEOUT,
    ];
    let listen = [
        "--outbound-listen",
        "127.0.0.1:0",
        "--inbound-listen",
        "127.0.0.1:0",
    ];
    let args = cli::parse(&[&defaults[..], &listen, flags].concat());
    let config = Config::try_from(args).unwrap();
    let inbound_address = "127.0.0.1:0".parse().unwrap();
    let listeners: Vec<Listeners> = (0..workers.get())
        .map(|_| Listeners {
            outbound: listen::single("--outbound-listen", config.listen.outbound).unwrap(),
            inbound: Some(listen::single("--inbound-listen", inbound_address).unwrap()),
        })
        .collect();
    let inbound: Vec<SocketAddr> = listeners
        .iter()
        .filter_map(|listeners| listeners.inbound.as_ref())
        .map(|listener| listener.local_addr().unwrap())
        .collect();
    let own = Identity::new();
    own.install(ca.workload(identity), None, SystemTime::now())
        .unwrap();
    let (destinations, feed) =
        Destinations::new("inbound/demo/pod-0".into(), Duration::from_millis(200));
    let registry = telemetry::Registry::new(
        workers,
        config.max_edges,
        telemetry::registry::DEFAULT_EDGE_IDLE,
    );
    let drain = Drain::new();
    let proxy = Proxy {
        outbound: listeners[0].outbound.local_addr().unwrap(),
        inbound: inbound[0],
        feed,
        drain: drain.clone(),
        #[cfg(test)]
        destinations: destinations.clone(),
        registry: registry.clone(),
    };
    let shared = Arc::new(Shared {
        identity: own,
        destinations,
        registry,
        access_log: AccessLog::stdout(AccessLogMode::Off).unwrap(),
        health: Health::new(workers.get(), Instant::now()),
        // One switch here: which direction drains first is the concern of `app`.
        outbound_drain: drain.clone(),
        drain,
        limits: Arc::new(LimitRegistry::default()),
        status: Arc::new(StatusRegistry::default()),
        own_addresses: Vec::new(),
        own_ports: Vec::new(),
        config,
    });
    for (index, listeners) in listeners.into_iter().enumerate() {
        let worker = Worker::new(index, shared.clone());
        spawn_local(async move { worker.serve(index, listeners).await.unwrap() });
    }
    (proxy, inbound)
}

/// The pair of most scenarios: `order` calls, `user` is called and its application listens at `app`.
pub struct Pair {
    /// The proxy of the workload that calls.
    pub order: Proxy,
    /// The proxy of the workload that is called.
    pub user: Proxy,
}

/// Starts a pair. `outbound` is the mode of the caller's proxy, `port` every port of the workload that is called.
pub fn pair(app: SocketAddr, outbound: &str, port: InboundPort) -> Pair {
    let ca = TestCa::root("mesh");
    let order = proxy(&ca, ORDER, &["--mode", outbound]);
    let user = proxy(
        &ca,
        USER,
        &["--mode", "explicit", "--app-address", &app.to_string()],
    );
    user.feed.inbound(Inbound {
        workload: workload("user"),
        zone: "".into(),
        ports: Default::default(),
        other: port,
    });
    Pair { order, user }
}

impl Proxy {
    /// What is used of the limits of its workload.
    #[cfg(test)]
    pub(crate) fn limits(&self) -> Summary {
        self.destinations.admission().summary()
    }

    /// How many requests that were to be mirrored ended so.
    pub fn mirrored(&self, mirrored: Mirrored) -> u64 {
        self.registry.mirrored(mirrored)
    }

    /// Every outbound or inbound edge that carried something.
    pub fn edges(&self) -> Vec<(EdgeKey, MergedEdge)> {
        self.registry
            .edges(Instant::now())
            .into_iter()
            .filter(|(_, edge)| *edge != MergedEdge::default())
            .collect()
    }
}

/// A port for every caller whom the mode lets in.
pub fn port(protocol: Protocol, mtls: MtlsMode) -> InboundPort {
    InboundPort {
        protocol,
        mtls,
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: Some(Duration::from_secs(300)),
        limits: Limits::default(),
    }
}

/// A destination with one endpoint, which proves the identity of `user` if it is `meshed`.
pub fn destination(
    name: &str,
    protocol: Protocol,
    endpoints: &[SocketAddr],
    meshed: bool,
) -> Destination {
    destination_with(
        name,
        protocol,
        endpoints,
        meshed,
        Some(Duration::from_secs(15)),
    )
}

/// The same with a request timeout.
pub fn destination_with(
    name: &str,
    protocol: Protocol,
    endpoints: &[SocketAddr],
    meshed: bool,
    timeout: Option<Duration>,
) -> Destination {
    let cluster = Arc::new(Cluster {
        service: "user".into(),
        namespace: "demo".into(),
        connect_timeout: CONNECT_TIMEOUT,
        endpoints: endpoints
            .iter()
            .map(|&address| {
                Arc::new(Endpoint {
                    address,
                    identity: meshed.then(|| USER.parse().unwrap()),
                    workload: workload("user"),
                    weight: std::num::NonZeroU32::MIN,
                    zone: "".into(),
                })
            })
            .collect(),
        ..Cluster::new(name.into())
    });
    let any = VirtualHost {
        domains: vec![Domain::Any],
        routes: vec![Arc::new(Route {
            action: Action::Forward(Forward {
                timeout,
                ..Forward::to(cluster.clone())
            }),
            ..Route::to(cluster.clone())
        })],
    };
    let routes = Arc::new(RouteTable::new(name.into(), vec![any]));
    Destination {
        name: name.into(),
        protocol,
        routes: (protocol != Protocol::Tcp).then_some(routes),
        tcp: matches!(protocol, Protocol::Tcp | Protocol::Detect).then_some(cluster),
    }
}

/// What telemetry calls a workload of the scenarios.
pub fn workload(name: &str) -> WorkloadName {
    WorkloadName {
        name: name.into(),
        namespace: "demo".into(),
    }
}

/// Runs a scenario with everything on this thread.
pub async fn scenario(test: impl Future<Output = ()>) {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let local = tokio::task::LocalSet::new();
    tokio::time::timeout(Duration::from_secs(20), local.run_until(test))
        .await
        .expect("the scenario ends");
}
