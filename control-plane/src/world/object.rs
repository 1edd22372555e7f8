//! The objects a world is made of: domain types, validated, free of what Kubernetes holds besides.

use super::{
    policy::TrafficPolicy,
    route::{ReferenceGrant, Route, RouteKind},
};
use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};
use weft_xds_proto::spiffe::SpiffeId;

/// The name of an object. Objects of the whole cluster have an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name within the namespace.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The name of an object in a namespace.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The name of an object of the whole cluster.
    pub fn of_cluster(name: impl Into<Arc<str>>) -> Self {
        Self::new("", name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// The kinds of object that a source may emit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A [`Namespace`].
    Namespace,
    /// A [`Service`].
    Service,
    /// An [`EndpointSlice`].
    EndpointSlice,
    /// A [`Workload`].
    Workload,
    /// The [`Mesh`].
    Mesh,
    /// A [`TrafficPolicy`].
    TrafficPolicy,
    /// A [`Route`].
    Route(RouteKind),
    /// A [`ReferenceGrant`].
    ReferenceGrant,
}

/// Which object: what a source needs to say to remove one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub key: ObjectKey,
}

/// An object as a source emits it.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A namespace.
    Namespace(Arc<Namespace>),
    /// A service.
    Service(Arc<Service>),
    /// Some of the endpoints of a service.
    EndpointSlice(Arc<EndpointSlice>),
    /// A workload.
    Workload(Arc<Workload>),
    /// The settings of the mesh.
    Mesh(Arc<Mesh>),
    /// A traffic policy.
    TrafficPolicy(Arc<TrafficPolicy>),
    /// A route.
    Route(Arc<Route>),
    /// A permission to name services from elsewhere.
    ReferenceGrant(Arc<ReferenceGrant>),
}

impl Object {
    /// Which object this is.
    pub fn reference(&self) -> ObjectRef {
        let (kind, key) = match self {
            Self::Namespace(namespace) => (
                Kind::Namespace,
                ObjectKey::of_cluster(namespace.name.clone()),
            ),
            Self::Service(service) => (Kind::Service, service.key.clone()),
            Self::EndpointSlice(slice) => (Kind::EndpointSlice, slice.key.clone()),
            Self::Workload(workload) => (Kind::Workload, workload.key.clone()),
            Self::Mesh(_) => (Kind::Mesh, ObjectKey::of_cluster(Mesh::NAME)),
            Self::TrafficPolicy(policy) => (Kind::TrafficPolicy, policy.key.clone()),
            Self::Route(route) => (
                Kind::Route(route.reference.kind),
                route.reference.key.clone(),
            ),
            Self::ReferenceGrant(grant) => (Kind::ReferenceGrant, grant.key.clone()),
        };
        ObjectRef { kind, key }
    }
}

/// A namespace, as far as it configures the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: Arc<str>,
    /// Overrides the mesh's mode for the workloads of the namespace.
    pub mtls: Option<MtlsMode>,
}

/// A service: a name, addresses and ports, behind which its endpoint slices stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub key: ObjectKey,
    /// Its virtual addresses, primary first; empty for a headless service.
    pub addresses: Vec<IpAddr>,
    /// The family that its clients are given first. Absent for a headless service that does not say.
    pub primary_family: Option<IpFamily>,
    /// Its TCP ports, by number.
    pub ports: Vec<ServicePort>,
    /// The host outside of the mesh that it is another name for (`ExternalName`).
    pub external_name: Option<Arc<str>>,
    /// Whether its callers prefer endpoints of their zone, where no policy says how endpoints are chosen.
    pub prefers_zone: bool,
}

impl Service {
    /// The port of a number.
    pub fn port(&self, port: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|candidate| candidate.port == port)
    }
}

/// A TCP port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// The number that clients dial.
    pub port: u16,
    /// The name that ties it to the ports of endpoint slices; empty for the only port of a service.
    pub name: Arc<str>,
    /// What it is declared to speak.
    pub protocol: Protocol,
}

/// A version of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IpFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl IpFamily {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// What a port is declared to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2, told apart by the preface.
    Http,
    /// HTTP/2 with prior knowledge, which gRPC is too.
    Http2,
    /// Opaque bytes.
    Tcp,
    /// Nothing declared: proxies detect.
    Undeclared,
}

/// Some of the endpoints of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its name.
    pub key: ObjectKey,
    /// The name of its service, in the same namespace.
    pub service: Arc<str>,
    /// The TCP ports that every endpoint of the slice listens on.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

impl EndpointSlice {
    /// The service that the slice belongs to.
    pub fn service_key(&self) -> ObjectKey {
        ObjectKey {
            namespace: self.key.namespace.clone(),
            name: self.service.clone(),
        }
    }
}

/// A port of an endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlicePort {
    /// The name of the service port that it serves.
    pub name: Arc<str>,
    /// The number that endpoints listen on.
    pub port: u16,
}

/// An address of an endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Where it is.
    pub address: IpAddr,
    /// Whether it takes new connections: ready and not terminating.
    pub ready: bool,
    /// The workload at the address, where the slice says it; else it is found by the address.
    pub workload: Option<ObjectKey>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// The zone whose callers it is meant for, where the slice says it.
    pub serves: Option<Arc<str>>,
}

/// Something that runs and may be called: a pod, for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// The name of this one replica: the pod's.
    pub key: ObjectKey,
    /// What telemetry calls it: the name of the Deployment, StatefulSet or the like.
    pub name: Arc<str>,
    /// What it proves to be when it speaks mutual TLS.
    pub identity: SpiffeId,
    /// Where it is reached; empty before it has an address and after it ended.
    pub addresses: Vec<IpAddr>,
    /// Whether a proxy of the mesh stands before it.
    pub meshed: bool,
    /// The TCP ports it declares, by number.
    pub ports: BTreeMap<u16, Protocol>,
    /// Overrides the namespace's mode.
    pub mtls: Option<MtlsMode>,
    /// Overrides the workload's mode, by port.
    pub port_mtls: BTreeMap<u16, MtlsMode>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// The node that it runs on.
    pub node: Option<Arc<str>>,
    /// Whether its addresses are those of its node, where only the ports that it declares are its own.
    pub on_host_network: bool,
    /// Its share, under the algorithms that look at weights: 1 to 1000.
    pub weight: NonZeroU16,
}

impl Workload {
    /// The weight of a workload that has none of its own.
    pub const DEFAULT_WEIGHT: NonZeroU16 = NonZeroU16::MIN;
}

/// What a port takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MtlsMode {
    /// Mutual TLS of the mesh, or plaintext.
    Permissive,
    /// Mutual TLS of the mesh only.
    Strict,
}

/// The settings of the mesh (`MeshConfig`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mesh {
    /// What ports take, unless a namespace, workload or port overrides it.
    pub mtls: MtlsMode,
    /// How endpoints are chosen.
    pub load_balancer: LoadBalancer,
    /// From the end of a request to the end of its response; `None` never ends.
    pub request_timeout: Option<Duration>,
    /// No byte in either direction of a stream; `None` never ends.
    pub idle_timeout: Option<Duration>,
    /// TCP and TLS together.
    pub connect_timeout: Duration,
    /// What one proxy may have in use of one cluster.
    pub limits: Limits,
}

impl Mesh {
    /// The only name that a `MeshConfig` may have.
    pub const NAME: &str = "default";
}

impl Default for Mesh {
    /// What is in force without a `MeshConfig`.
    fn default() -> Self {
        Self {
            mtls: MtlsMode::Permissive,
            load_balancer: LoadBalancer::PeakEwma,
            request_timeout: Some(Duration::from_secs(15)),
            idle_timeout: Some(Duration::from_secs(5 * 60)),
            connect_timeout: Duration::from_secs(5),
            limits: Limits::default(),
        }
    }
}

/// How an endpoint is chosen for a request or connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LoadBalancer {
    /// The lower of latency times load over two random choices.
    PeakEwma,
    /// The fewer requests in flight over two random choices.
    LeastRequest,
    /// In turn.
    RoundRobin,
}

/// What one proxy may have in use of one cluster. What passes a limit fails at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Open connections.
    pub connections: NonZeroU32,
    /// Requests that wait for a connection.
    pub pending: NonZeroU32,
    /// Requests in flight.
    pub requests: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        const fn limit(n: u32) -> NonZeroU32 {
            NonZeroU32::new(n).expect("the default limits are not zero")
        }
        Self {
            connections: limit(10_000),
            pending: limit(1_024),
            requests: limit(10_000),
        }
    }
}

/// Where a port of a service may be reached, and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// What is there, if it is known.
    pub workload: Option<Arc<Workload>>,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}
