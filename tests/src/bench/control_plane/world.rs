//! A world of any size, which proxy follows what of it, and what changes when.

use std::{
    fmt::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};
use weft_xds_proto::names;

/// The service that every proxy follows.
pub const SHARED: u32 = 0;
/// How many services a proxy follows besides.
const OTHERS: u32 = 4;
/// Services of a namespace.
const NAMESPACE_SIZE: u32 = 100;
const PORT: u16 = 80;

const SERVICES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 0);
const PODS: Ipv4Addr = Ipv4Addr::new(10, 128, 0, 0);
/// Of the pods that replaced another: their number says in which change.
const REPLACEMENTS: Ipv4Addr = Ipv4Addr::new(10, 192, 0, 0);

/// How large the world is.
#[derive(Debug, Clone, Copy)]
pub struct World {
    services: u32,
    endpoints: u32,
}

/// A change: a pod of a service is replaced by another, as in a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Its number, from 1, which is in the address of the new pod.
    pub number: u32,
    /// The service.
    pub service: u32,
}

impl World {
    /// A world in which every service has two endpoints or more: one is replaced by changes, one may be a proxy's.
    pub fn new(services: u32, endpoints: u32) -> Result<Self, String> {
        if services < 2 || u64::from(endpoints) < 2 * u64::from(services) {
            return Err("there must be two services, and two endpoints of each".to_owned());
        }
        Ok(Self {
            services,
            endpoints,
        })
    }

    /// How many services there are.
    pub fn services(self) -> u32 {
        self.services
    }

    /// The file of a service below the watched directory: one for each, in a directory for its namespace.
    pub fn file(self, service: u32) -> PathBuf {
        let mut file = PathBuf::from(namespace(service));
        file.push(format!("{}.yaml", service_name(service)));
        file
    }

    /// What stands in the file of a service after a change, or before the first: the service, its slice and its pods.
    pub fn objects(self, service: u32, change: Option<Change>) -> String {
        let (name, namespace) = (service_name(service), namespace(service));
        let mut yaml = format!(
            "apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
  labels:
    app: {name}
spec:
  clusterIP: {cluster_ip}
  clusterIPs:
  - {cluster_ip}
  ipFamilies:
  - IPv4
  selector:
    app: {name}
  ports:
  - name: http
    port: {PORT}
    protocol: TCP
    targetPort: 8080
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-slice
  namespace: {namespace}
  labels:
    kubernetes.io/service-name: {name}
addressType: IPv4
ports:
- name: http
  port: 8080
  protocol: TCP
endpoints:
",
            cluster_ip = at(SERVICES, service),
        );
        let pods = self.pods(service, change);
        for (pod, address) in &pods {
            write!(
                yaml,
                "- addresses:
  - {address}
  conditions:
    ready: true
    serving: true
    terminating: false
  targetRef:
    kind: Pod
    name: {pod}
    namespace: {namespace}
"
            )
            .expect("a string takes everything");
        }
        for (pod, address) in &pods {
            write!(
                yaml,
                "---
apiVersion: v1
kind: Pod
metadata:
  name: {pod}
  namespace: {namespace}
  labels:
    app: {name}
spec:
  serviceAccountName: {name}
  containers:
  - name: app
    image: registry.example/{name}:1
    ports:
    - name: http
      containerPort: 8080
  - name: weft-proxy
    image: registry.example/weft-proxy:1
status:
  phase: Running
  podIP: {address}
  podIPs:
  - ip: {address}
"
            )
            .expect("a string takes everything");
        }
        yaml
    }

    /// The services that a proxy follows: the shared one, and a few that lie spread over the world.
    pub fn followed(self, proxy: u32) -> Vec<u32> {
        let mut followed = vec![SHARED];
        for n in 0..OTHERS {
            let other = self.other(u64::from(proxy) << 32 | u64::from(n));
            if !followed.contains(&other) {
                followed.push(other);
            }
        }
        followed
    }

    /// The change of a number, from 1, where so many of a hundred are of the shared service: evenly mixed.
    pub fn change(self, number: u32, shared_percent: u32) -> Change {
        let shared_until =
            |number: u32| u64::from(number) * u64::from(shared_percent.min(100)) / 100;
        let is_shared = shared_until(number) > shared_until(number - 1);
        Change {
            number,
            service: if is_shared {
                SHARED
            } else {
                self.other(u64::from(number) << 40)
            },
        }
    }

    /// Any service but the shared one.
    fn other(self, seed: u64) -> u32 {
        let others = u64::from(self.services - 1);
        let other = 1 + mix(seed) % others;
        u32::try_from(other).expect("it is at most the number of services")
    }

    fn pods(self, service: u32, change: Option<Change>) -> Vec<(String, Ipv4Addr)> {
        let (services, endpoints) = (u64::from(self.services), u64::from(self.endpoints));
        let begin = |service: u32| {
            u32::try_from(u64::from(service) * endpoints / services)
                .expect("it is at most the number of endpoints")
        };
        let mut pods: Vec<_> = (begin(service)..begin(service + 1))
            .enumerate()
            .map(|(n, number)| (pod_name(service, n), at(PODS, number)))
            .collect();
        if let Some(Change { number, .. }) = change {
            let name = format!("{}-r{number}", service_name(service));
            pods[0] = (name, at(REPLACEMENTS, number));
        }
        pods
    }
}

/// The pod of a proxy, which no change replaces: its namespace, its service account and its name.
pub fn proxy_pod(proxy: u32) -> (String, String, String) {
    (namespace(proxy), service_name(proxy), pod_name(proxy, 1))
}

/// The name by which a proxy whose application dials a service follows its listener.
pub fn listener(service: u32) -> String {
    names::address(SocketAddr::new(at(SERVICES, service).into(), PORT))
}

/// The name of the routes, the cluster and the endpoints of a service.
pub fn cluster(service: u32) -> String {
    let host = names::service_host(&service_name(service), &namespace(service), "cluster.local");
    names::authority(&host, PORT)
}

/// The service whose routes, cluster or endpoints bear this name.
pub fn service_of_cluster(name: &str) -> Option<u32> {
    let (service, _) = name.strip_prefix("svc-")?.split_once('.')?;
    service.parse().ok()
}

/// The service whose listener bears this name.
pub fn service_of_listener(name: &str) -> Option<u32> {
    let address: SocketAddr = name.parse().ok()?;
    match address.ip() {
        std::net::IpAddr::V4(ip) => u32::from(ip).checked_sub(u32::from(SERVICES)),
        std::net::IpAddr::V6(_) => None,
    }
}

/// The number of the change that brought an endpoint, if one did.
pub fn change_of_endpoint(address: &str) -> Option<u32> {
    let address: Ipv4Addr = address.parse().ok()?;
    u32::from(address).checked_sub(u32::from(REPLACEMENTS))
}

fn service_name(service: u32) -> String {
    format!("svc-{service}")
}

fn namespace(service: u32) -> String {
    format!("team-{}", service / NAMESPACE_SIZE)
}

fn pod_name(service: u32, n: usize) -> String {
    format!("svc-{service}-{n}")
}

fn at(base: Ipv4Addr, number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(base) + number)
}

/// Scatters numbers (splitmix64), the same in every run.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World::new(1000, 5000).unwrap()
    }

    #[test]
    fn names_lead_back_to_their_service() {
        assert_eq!(service_of_cluster(&cluster(712)), Some(712));
        assert_eq!(service_of_listener(&listener(712)), Some(712));
        assert_eq!(service_of_cluster("ROOTCA"), None);
    }

    #[test]
    fn a_change_replaces_one_pod_and_can_be_told_from_its_address() {
        let world = world();
        let change = world.change(7, 50);
        let before = world.pods(change.service, None);
        let after = world.pods(change.service, Some(change));
        assert_eq!(before.len(), 5);
        assert_eq!(before[1..], after[1..]);
        assert_eq!(change_of_endpoint(&after[0].1.to_string()), Some(7));
        assert_eq!(change_of_endpoint(&before[0].1.to_string()), None);
        let pod = proxy_pod(change.service);
        assert_eq!(pod.2, after[1].0);
        let yaml = world.objects(change.service, Some(change));
        assert_eq!(yaml.matches("kind: Pod\nmetadata").count(), 5);
    }

    #[test]
    fn half_of_the_changes_alternate() {
        let world = world();
        let shared: Vec<_> = (1..=6)
            .map(|number| world.change(number, 50).service == SHARED)
            .collect();
        assert_eq!(shared, [false, true, false, true, false, true]);
        assert!((1..=100).all(|number| world.change(number, 100).service == SHARED));
        assert!((1..=100).all(|number| world.change(number, 0).service != SHARED));
    }

    #[test]
    fn everyone_follows_the_shared_service_and_some_others() {
        let world = world();
        for proxy in 0..1000 {
            let followed = world.followed(proxy);
            assert_eq!(followed[0], SHARED);
            assert!(followed.len() > 2, "{followed:?}");
            assert!(followed[1..].iter().all(|s| *s != SHARED && *s < 1000));
        }
    }

    #[test]
    fn a_world_without_endpoints_to_spare_is_refused() {
        assert!(World::new(10, 19).is_err());
        assert!(World::new(1, 19).is_err());
    }
}
