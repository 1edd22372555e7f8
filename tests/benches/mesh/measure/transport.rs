//! What lies below requests: opaque streams, handshakes, connections that rest.

use super::{Record, WARM_UP};
use crate::{
    ground::Ground,
    load::{
        handshakes::{self, Client, KeyExchange},
        idle::{Idle, Kind, allow_files},
        tcp::{self, Sink},
    },
    peer::{Pair, Peer},
    scenario::{Resting, Scenario},
};
use anyhow::Context;
use serde_json::json;
use std::{net::SocketAddr, thread, time::Duration};
use weft_tests::{bench::figure::Figure, memory};

/// Open files of the harness and of each sidecar: two for a connection.
const FILES: u64 = 20_000;
/// Handshakes in flight.
const IN_FLIGHT: usize = 4;
/// How long connections rest before memory is looked at: buffers of the last bytes are given back by then.
const REST: Duration = Duration::from_secs(2);
/// How long after a burst memory must be back.
const AFTER_BURST: Duration = Duration::from_secs(60);

/// Where and for how long a run works.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) peer: Peer,
    pub(super) pair: &'a Pair,
    pub(super) ground: &'a Ground,
    pub(super) duration: Duration,
}

impl Record {
    /// Opaque bytes to a sink.
    pub(super) fn streams(&mut self, setting: Setting<'_>, streams: usize) -> anyhow::Result<()> {
        let Setting {
            scenario,
            peer,
            pair,
            ground,
            duration,
        } = setting;
        let address = SocketAddr::new(ground.loopback.application(), scenario.service.port());
        let sink = Sink::listen(address)?;
        let authority = format!("{}:80", scenario.service.host());
        let plan = |duration| tcp::Plan {
            entrance: pair.entry,
            connect: peer.takes_connect().then_some(authority.as_str()),
            streams,
            duration,
        };
        sink.take(plan(WARM_UP))?;
        let (transfer, spent) = self.spent(pair, || sink.take(plan(duration)))?;
        let gigabytes = transfer.bytes as f64 / 1e9;
        self.detail("bytes", json!(transfer.bytes));
        self.figure(
            Figure::GbPerSecond,
            gigabytes / transfer.elapsed.as_secs_f64(),
        );
        if let Some([client, server]) = spent {
            self.figure(
                Figure::CpuPerGb,
                (client + server).as_secs_f64() / gigabytes,
            );
        }
        Ok(())
    }

    /// Connections to the server's sidecar that end after their handshake.
    pub(super) fn handshakes(
        &mut self,
        setting: Setting<'_>,
        key_exchange: KeyExchange,
        resume: bool,
    ) -> anyhow::Result<()> {
        let Setting {
            scenario,
            peer,
            pair,
            ground,
            duration,
        } = setting;
        let client = client(peer, key_exchange, ground)?;
        let plan = |duration| handshakes::Plan {
            entrance: scenario.service.endpoint(ground.loopback),
            resume,
            in_flight: IN_FLIGHT,
            duration,
        };
        let host = scenario.service.host();
        client.run(plan(WARM_UP), &host)?;
        let (handshakes, spent) = self.spent(pair, || client.run(plan(duration), &host))?;
        let done = handshakes.done as f64;
        self.detail("handshakes", json!(handshakes.done));
        self.figure(
            Figure::HandshakesPerSecond,
            done / handshakes.elapsed.as_secs_f64(),
        );
        let [_, server] = spent.context("only sidecars make handshakes")?;
        self.figure(Figure::CpuPerHandshake, server.as_secs_f64() * 1e6 / done);
        Ok(())
    }

    /// Connections that carried something once.
    pub(super) fn resting(
        &mut self,
        setting: Setting<'_>,
        connections: usize,
        resting: Resting,
    ) -> anyhow::Result<()> {
        let Setting {
            scenario,
            peer,
            pair,
            ground,
            ..
        } = setting;
        allow_files(FILES)?;
        let sidecars = pair.sidecars.as_ref();
        let sidecars = sidecars.context("only the memory of sidecars is measured")?;
        let host = scenario.service.host();
        let application = SocketAddr::new(ground.loopback.application(), scenario.service.port());
        let (entrance, kind, _sink) = match resting {
            Resting::AtClient => (pair.entry, Kind::Http, None),
            Resting::AtServer => {
                let client = client(peer, KeyExchange::X25519, ground)?;
                let entrance = scenario.service.endpoint(ground.loopback);
                (entrance, Kind::Https(client.config()), None)
            }
            Resting::Through => {
                let kind = if peer.takes_connect() {
                    Kind::Tunnel
                } else {
                    Kind::Opaque
                };
                (pair.entry, kind, Some(Sink::listen(application)?))
            }
        };
        let authority = match resting {
            Resting::Through => format!("{host}:80"),
            Resting::AtClient | Resting::AtServer => host,
        };
        // What the first of them all costs is not what another one costs.
        drop(Idle::open(entrance, &authority, &kind, 1)?);
        let before = sidecars.each(|sidecar| memory::resident(sidecar.id()))?;
        let open = Idle::open(entrance, &authority, &kind, connections)?;
        thread::sleep(REST);
        let after = sidecars.each(|sidecar| memory::resident(sidecar.id()))?;
        drop(open);
        let added = [0, 1].map(|side| after[side].saturating_sub(before[side]));
        let each = |bytes: u64| bytes as f64 / 1024.0 / connections as f64;
        self.figure(Figure::RssPerConnection, each(added[0] + added[1]));
        self.sides(
            Figure::RssPerConnection.name(),
            added.map(|bytes| json!(each(bytes))),
        );
        Ok(())
    }

    /// What is left of a burst that is over for a minute.
    pub(super) fn after_burst(&mut self, pair: &Pair) -> anyhow::Result<()> {
        thread::sleep(AFTER_BURST);
        match &pair.sidecars {
            Some(sidecars) => self.memory(sidecars, Figure::RssAfter, memory::resident),
            None => Ok(()),
        }
    }
}

/// A client with a certificate that the server's sidecar of a peer accepts.
fn client(peer: Peer, key_exchange: KeyExchange, ground: &Ground) -> anyhow::Result<Client> {
    let leaf = match peer {
        Peer::Weft | Peer::WeftPolicy => &ground.control_plane(peer)?.caller,
        _ => &ground.certificates.client,
    };
    Client::new(leaf, key_exchange)
}
