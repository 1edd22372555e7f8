//! The command line.

use crate::{
    peer::Peer,
    scenario::{self, Scenario},
};
use anyhow::ensure;
use clap::Parser;
use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

/// Measures the data plane side by side with Envoy and HAProxy.
#[derive(Debug, Parser)]
#[command(name = "mesh")]
pub(crate) struct Options {
    /// How often each scenario goes through each peer.
    #[arg(long, default_value = "5")]
    pub(crate) rounds: NonZeroU32,
    /// Seconds that one run is measured. The latency scenario takes twice as long.
    #[arg(long, default_value = "4")]
    duration: NonZeroU64,
    /// Scenarios whose name begins like this; every scenario when not given.
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// Peers; every peer when not given.
    #[arg(long = "peer", value_name = "NAME", value_enum)]
    peers: Vec<Peer>,
    /// Writes every number into this file.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Measures the release binaries of Weft that are there, such as those of another commit.
    #[arg(long)]
    pub(crate) no_build: bool,
    /// Lists the scenarios and ends.
    #[arg(long)]
    pub(crate) list: bool,
    /// Serves gRPC: the application of the gRPC scenario, which the harness starts as a process of its own.
    #[arg(long, hide = true)]
    pub(crate) serve_grpc: Option<SocketAddr>,
    /// What cargo says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// How long one run is measured.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs(self.duration.get())
    }

    /// The scenarios to run, in the order of their definition.
    pub(crate) fn scenarios(&self) -> anyhow::Result<Vec<Scenario>> {
        for wanted in &self.scenarios {
            let is_known = scenario::ALL
                .iter()
                .any(|scenario| scenario.name.starts_with(wanted.as_str()));
            ensure!(
                is_known,
                "no scenario begins with {wanted}; --list names them"
            );
        }
        let is_wanted = |scenario: &&Scenario| {
            let mut wanted = self.scenarios.iter();
            self.scenarios.is_empty() || wanted.any(|name| scenario.name.starts_with(name.as_str()))
        };
        Ok(scenario::ALL.iter().filter(is_wanted).copied().collect())
    }

    /// The peers to compare, in the order of the tables.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let is_wanted = |peer: &Peer| self.peers.is_empty() || self.peers.contains(peer);
        Peer::ALL.into_iter().filter(is_wanted).collect()
    }
}
