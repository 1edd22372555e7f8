//! What every run stands on: addresses, applications, certificates and Weft's control plane.

use crate::{
    application::Applications,
    certificates::Certificates,
    peer::{Peer, weft::ControlPlane},
    programs::Programs,
};
use anyhow::{Context, bail};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use weft_cli::sandbox::Child;

/// How long a process may take to do what it was started for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a condition is looked at: often, as the time until a sidecar is ready is measured by it.
const INTERVAL: Duration = Duration::from_micros(250);

/// Started once, used by every run.
pub(crate) struct Ground {
    pub(crate) programs: Programs,
    pub(crate) loopback: Loopback,
    pub(crate) certificates: Certificates,
    control_planes: Vec<ControlPlane>,
    pub(crate) directory: TempDir,
    _applications: Applications,
}

/// The addresses of one benchmark. Those of another that runs at the same time differ, as a rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loopback {
    octet: u8,
}

impl Ground {
    /// Starts what the peers need.
    pub(crate) fn prepare(programs: Programs, peers: &[Peer]) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let loopback = Loopback::of_process(std::process::id());
        let control_planes = peers
            .iter()
            .filter(|peer| peer.is_weft())
            .map(|&peer| ControlPlane::start(peer, &programs, loopback, directory.path()))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            certificates: Certificates::issue(directory.path())?,
            _applications: Applications::start(&programs, loopback, directory.path())?,
            control_planes,
            programs,
            loopback,
            directory,
        })
    }

    /// The control plane that configures the sidecars of a peer, which is a Weft.
    pub(crate) fn control_plane(&self, peer: Peer) -> anyhow::Result<&ControlPlane> {
        let mut all = self.control_planes.iter();
        let found = all.find(|control_plane| control_plane.peer == peer);
        found.with_context(|| format!("the control plane of {} was not started", peer.name()))
    }
}

impl Loopback {
    fn of_process(pid: u32) -> Self {
        let octet = u8::try_from(pid % 100).expect("a remainder of 100 is less than 256");
        Self { octet: 100 + octet }
    }

    /// The pod of the caller.
    pub(crate) fn client(self) -> IpAddr {
        self.host(1)
    }

    /// The pod of the server.
    pub(crate) fn server(self) -> IpAddr {
        self.host(2)
    }

    /// Where applications listen. A sidecar of the server is beside them.
    pub(crate) fn application(self) -> IpAddr {
        self.host(3)
    }

    /// The control plane of a peer.
    pub(crate) fn control_plane(self, peer: Peer) -> IpAddr {
        self.host(if peer == Peer::WeftPolicy { 5 } else { 4 })
    }

    fn host(self, host: u8) -> IpAddr {
        Ipv4Addr::new(127, self.octet, 0, host).into()
    }
}

/// Waits until a process has done something; if it ends or takes too long, the error has its log.
pub(crate) fn until_running(
    child: &Child,
    what: &str,
    mut holds: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        if holds() {
            return Ok(());
        }
        let ended = child.try_wait()?;
        if ended.is_some() || start.elapsed() > PATIENCE {
            let how = ended.map_or_else(
                || format!("{PATIENCE:?} passed"),
                |status| status.to_string(),
            );
            bail!(
                "waited in vain until {} {what}: {how}; its log:\n{}",
                child.name(),
                child.log_tail(40)
            );
        }
        thread::park_timeout(INTERVAL);
    }
}

/// Whether somebody accepts connections at an address.
pub(crate) fn is_listening(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// Sends GET and tells whether the answer is 200.
pub(crate) fn answers(address: SocketAddr, path: &str) -> bool {
    weft_tests::wait::request(address, "GET", path, "").is_ok_and(|(status, _)| status == 200)
}
