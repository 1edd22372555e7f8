//! A node and its pods.

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU16, Ordering},
};

use super::{
    Command, Namespace, SandboxError, Task,
    link::{self, Prefixed},
};

const GATEWAY: u16 = 1;
const IPV4_PREFIX: u8 = 16;
const IPV6_PREFIX: u8 = 64;

/// A node: a namespace of its own with a bridge, apart from the machine's network and from every other `Network`.
#[derive(Debug)]
pub struct Network {
    node: Namespace,
    last_host: AtomicU16,
}

impl Network {
    /// Makes a node without pods, whose gateway has 10.244.0.1 and fd00:10:244::1.
    pub fn new() -> Result<Self, SandboxError> {
        let node = Namespace::new("node")?;
        link::set_up_node(&node, addresses(GATEWAY))?;
        Ok(Self {
            node,
            last_host: AtomicU16::new(GATEWAY),
        })
    }

    /// The node's own namespace, from which every pod can be reached.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// Makes a pod with the next free addresses; an address is never given out twice.
    ///
    /// All destinations outside the pod, the addresses of services among them, are routed to the node: `connect`
    /// needs a route before a rule can redirect it.
    pub fn pod(&self, name: &str) -> Result<Pod, SandboxError> {
        let host = self
            .last_host
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |host| {
                host.checked_add(1).filter(|host| *host < u16::MAX)
            })
            .map_err(|_| SandboxError::new("make a pod", "the node is out of addresses"))?
            + 1;
        let namespace = Namespace::new(name)?;
        link::set_up_pod(
            &self.node,
            &namespace,
            &node_link(host),
            addresses(host),
            addresses(GATEWAY),
        )?;
        Ok(Pod {
            name: name.to_owned(),
            namespace,
            node: self.node.clone(),
            host,
        })
    }
}

/// A pod: a namespace with one link, `eth0`, to its node. Dropping it and its processes takes it away.
#[derive(Debug)]
pub struct Pod {
    name: String,
    namespace: Namespace,
    node: Namespace,
    host: u16,
}

impl Pod {
    /// The name it was made with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> Ipv4Addr {
        ipv4(self.host)
    }

    /// Its IPv6 address.
    pub fn ipv6(&self) -> Ipv6Addr {
        ipv6(self.host)
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A process to be started inside the pod.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(program).within(&self.namespace)
    }

    /// Runs a closure inside the pod and waits for it: [`Namespace::enter`].
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        self.namespace.enter(body)
    }

    /// Starts a future inside the pod: [`Namespace::run`].
    pub fn run<F, T>(&self, body: impl FnOnce() -> F + Send + 'static) -> Task<T>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        self.namespace.run(body)
    }

    /// Pulls the pod's cable: packets are lost in both directions, connections see nothing.
    pub fn link_down(&self) -> Result<(), SandboxError> {
        link::switch(&self.node, &node_link(self.host), false)
    }

    /// Plugs the cable in again.
    pub fn link_up(&self) -> Result<(), SandboxError> {
        link::switch(&self.node, &node_link(self.host), true)
    }
}

fn node_link(host: u16) -> String {
    format!("pod{host}")
}

fn addresses(host: u16) -> [Prefixed; 2] {
    [
        Prefixed(IpAddr::V4(ipv4(host)), IPV4_PREFIX),
        Prefixed(IpAddr::V6(ipv6(host)), IPV6_PREFIX),
    ]
}

fn ipv4(host: u16) -> Ipv4Addr {
    let [high, low] = host.to_be_bytes();
    Ipv4Addr::new(10, 244, high, low)
}

fn ipv6(host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, host)
}
