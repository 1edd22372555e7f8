//! Where the processes of one pod run: in a namespace of their own, or on loopback with an address of their own.

use std::{
    ffi::OsStr,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use anyhow::Context;
use serde::Serialize;

use crate::sandbox::{Command, Namespace, Network, Pod, Task};

/// How pods are told apart, and how connections come to their sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Every pod is a network namespace; its sidecar intercepts what the application dials.
    Namespaces,
    /// Every pod is an address of 127.0.0.0/8; applications dial their sidecar.
    Explicit,
}

impl Mode {
    /// Its name on the command line.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Explicit => "explicit",
        }
    }
}

/// Gives out places.
#[derive(Debug)]
pub(super) enum Ground {
    /// Pods on a node.
    Network(Network),
    /// Addresses below 127.x.y.0, the last of which is given.
    Loopback { subnet: [u8; 3], last: u8 },
}

impl Ground {
    /// A new ground that shares nothing with that of any other demo.
    pub(super) fn new(mode: Mode) -> anyhow::Result<Self> {
        match mode {
            Mode::Namespaces => Ok(Self::Network(Network::new()?)),
            Mode::Explicit => Ok(Self::Loopback {
                subnet: free_subnet()?,
                last: 0,
            }),
        }
    }

    /// Which kind of ground it is.
    pub(super) fn mode(&self) -> Mode {
        match self {
            Self::Network(_) => Mode::Namespaces,
            Self::Loopback { .. } => Mode::Explicit,
        }
    }

    /// From where every place can be reached, if not from everywhere.
    pub(super) fn node(&self) -> Option<Namespace> {
        match self {
            Self::Network(network) => Some(network.node().clone()),
            Self::Loopback { .. } => None,
        }
    }

    /// The next place.
    pub(super) fn place(&mut self, name: &str) -> anyhow::Result<Place> {
        match self {
            Self::Network(network) => Ok(Place::Pod(network.pod(name)?)),
            Self::Loopback { subnet, last } => {
                *last = last
                    .checked_add(1)
                    .context("the loopback network is out of addresses")?;
                let [a, b, c] = *subnet;
                Ok(Place::Loopback(Ipv4Addr::new(a, b, c, *last)))
            }
        }
    }
}

/// A subnet of loopback whose first address has the control plane's port free, which stands for the rest.
fn free_subnet() -> anyhow::Result<[u8; 3]> {
    let [low, high, ..] = std::process::id().to_le_bytes();
    (0..=u8::MAX)
        .map(|attempt| [127, high.wrapping_add(attempt).max(1), low])
        .find(|&[a, b, c]| {
            let address = Ipv4Addr::new(a, b, c, 1);
            TcpListener::bind((address, weft_xds_proto::names::XDS_TLS_PORT)).is_ok()
        })
        .context("no address of 127.0.0.0/8 has port 15012 free")
}

/// A place for the processes of one pod.
#[derive(Debug)]
pub(super) enum Place {
    /// A namespace.
    Pod(Pod),
    /// An address.
    Loopback(Ipv4Addr),
}

impl Place {
    /// Its addresses, the one to be called first.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Pod(pod) => vec![IpAddr::V4(pod.ipv4()), IpAddr::V6(pod.ipv6())],
            Self::Loopback(address) => vec![IpAddr::V4(*address)],
        }
    }

    /// The address to call it by.
    pub(super) fn address(&self) -> IpAddr {
        match self {
            Self::Pod(pod) => IpAddr::V4(pod.ipv4()),
            Self::Loopback(address) => IpAddr::V4(*address),
        }
    }

    /// A process in this place, as a user of the pod's where there can be several.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, uid: u32) -> Command {
        let command = match self {
            Self::Pod(pod) => pod.command(program).uid(uid),
            Self::Loopback(_) => Command::new(program),
        };
        // What has to end in order is ended before it is dropped; the rest is dropped because the demo is over, and a
        // grace for one process after the other would take long.
        command.grace(Duration::ZERO)
    }

    /// Runs a future where the pod's own processes run.
    pub(super) fn run<F, T>(&self, body: impl FnOnce() -> F + Send + 'static) -> Task<T>
    where
        F: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        match self {
            Self::Pod(pod) => pod.run(body),
            Self::Loopback(_) => Task::outside(body),
        }
    }

    /// Whether something listens on a port of the pod, as seen from inside.
    pub(super) fn listens(&self, port: u16) -> bool {
        let patience = Duration::from_secs(1);
        let dial = |address: Ipv4Addr| {
            TcpStream::connect_timeout(&(address, port).into(), patience).is_ok()
        };
        match self {
            // Loopback is never intercepted.
            Self::Pod(pod) => pod.enter(|| dial(Ipv4Addr::LOCALHOST)),
            Self::Loopback(address) => dial(*address),
        }
    }
}
