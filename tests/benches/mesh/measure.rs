//! One run: a pair of sidecars started, warmed up, loaded and ended.

mod transport;

use crate::{
    application::Answer,
    ground::Ground,
    load::{Target, h2load, oha, wrk},
    peer::{Pair, Peer, Sidecars},
    scenario::{Scenario, Work},
};
use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};
use transport::Setting;
use weft_tests::{
    bench::{Throughput, cpu::CpuTime, figure::Figure, oha::Latency, report::Run},
    memory, wait,
};

/// How long load goes on before anything is measured: connections are open, pools filled, memory touched.
const WARM_UP: Duration = Duration::from_secs(1);

/// Measures a scenario through a peer.
pub(crate) fn run(
    scenario: &Scenario,
    peer: Peer,
    round: u32,
    duration: Duration,
    ground: &Ground,
) -> anyhow::Result<Run> {
    let pair = peer.start(scenario.service, ground)?;
    let mut record = Record::default();
    record.idle(&pair)?;
    let (programs, directory) = (&ground.programs, ground.directory.path());
    let target = |answer: Answer| Target {
        address: pair.entry,
        service: scenario.service,
        answer,
    };
    let setting = Setting {
        scenario,
        peer,
        pair: &pair,
        ground,
        duration,
    };
    match scenario.work {
        Work::Wrk {
            connections,
            keep_alive,
            answer,
        } => {
            let target = target(answer);
            check(&target)?;
            let load = |duration| {
                wrk::run(
                    programs,
                    &target,
                    connections,
                    keep_alive,
                    duration,
                    directory,
                )
            };
            load(WARM_UP)?;
            let throughput = record.loaded(&pair, || load(duration), |done| done.requests)?;
            record.throughput(&throughput);
        }
        Work::Burst {
            connections,
            duration,
        } => {
            let target = target(Answer::OneKib);
            check(&target)?;
            let load = |connections, duration| {
                wrk::run(programs, &target, connections, true, duration, directory)
            };
            load(32, WARM_UP)?;
            record.idle(&pair)?;
            let throughput =
                record.loaded(&pair, || load(connections, duration), |done| done.requests)?;
            record.throughput(&throughput);
            record.after_burst(&pair)?;
        }
        Work::Streams { streams } => record.streams(setting, streams)?,
        Work::Handshakes {
            key_exchange,
            resume,
        } => record.handshakes(setting, key_exchange, resume)?,
        Work::Rest {
            connections,
            resting,
        } => record.resting(setting, connections, resting)?,
        Work::H2load {
            connections,
            streams,
            answer,
        } => {
            let target = target(answer);
            let load = |duration| {
                h2load::run(programs, &target, connections, streams, duration, directory)
            };
            load(WARM_UP)?;
            let throughput = record.loaded(&pair, || load(duration), |done| done.requests)?;
            record.throughput(&throughput);
        }
        Work::Oha {
            connections,
            rate,
            answer,
        } => {
            let target = target(answer);
            check(&target)?;
            let load = |duration| oha::run(programs, &target, connections, rate, duration);
            load(WARM_UP)?;
            // At a fixed rate there are few requests, and the slowest thousandth of them is to mean something.
            let latency = record.loaded(&pair, || load(2 * duration), |done| done.requests)?;
            record.latency(&latency);
        }
        Work::Ready => record.ready(&pair)?,
    }
    Ok(Run {
        scenario: scenario.name,
        peer: peer.name(),
        round,
        figures: record.figures,
        detail: record.detail.into(),
    })
}

/// Sends one request of HTTP/1.1 and looks at the whole answer, which load generators do not.
fn check(target: &Target) -> anyhow::Result<()> {
    let method = if target.answer.request_body().is_some() {
        "POST"
    } else {
        "GET"
    };
    let body = String::from_utf8(target.answer.request_body().unwrap_or_default())?;
    let (status, answer) = wait::request_for(
        target.address,
        &target.service.host(),
        method,
        target.answer.path(),
        &body,
    )?;
    ensure!(
        status == 200 && answer.len() == target.answer.bytes(),
        "{} answers {status} with {} bytes",
        target.answer.path(),
        answer.len()
    );
    Ok(())
}

/// What a run has shown so far.
#[derive(Default)]
struct Record {
    figures: BTreeMap<Figure, f64>,
    detail: Map<String, Value>,
}

impl Record {
    /// Memory before the first connection.
    fn idle(&mut self, pair: &Pair) -> anyhow::Result<()> {
        match &pair.sidecars {
            Some(sidecars) => self.memory(sidecars, Figure::RssIdle, memory::resident),
            None => Ok(()),
        }
    }

    /// Puts load on a pair, and counts time on the CPU and memory meanwhile.
    fn loaded<T>(
        &mut self,
        pair: &Pair,
        load: impl FnOnce() -> anyhow::Result<T>,
        requests: impl FnOnce(&T) -> u64,
    ) -> anyhow::Result<T> {
        let (done, spent) = self.spent(pair, load)?;
        let requests = requests(&done);
        self.detail("requests", json!(requests));
        if let Some([client, server]) = spent {
            let of_pair = (client + server).as_secs_f64();
            self.figure(Figure::CpuPerRequest, of_pair * 1e6 / requests as f64);
        }
        Ok(done)
    }

    /// Puts load on a pair: what that cost the client's and the server's sidecar.
    fn spent<T>(
        &mut self,
        pair: &Pair,
        load: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, Option<[Duration; 2]>)> {
        let Some(sidecars) = &pair.sidecars else {
            return Ok((load()?, None));
        };
        sidecars.each(|sidecar| memory::forget_most(sidecar.id()))?;
        let before = sidecars.each(|sidecar| CpuTime::of(sidecar.id()))?;
        let done = load()?;
        let after = sidecars.each(|sidecar| CpuTime::of(sidecar.id()))?;
        self.memory(sidecars, Figure::RssPeak, memory::most_resident)?;

        let spent = [after[0] - before[0], after[1] - before[1]];
        self.sides(
            "CPU seconds",
            spent.map(|spent| json!({ "user": spent.user.as_secs_f64(), "system": spent.system.as_secs_f64() })),
        );
        Ok((done, Some(spent.map(CpuTime::total))))
    }

    fn throughput(&mut self, throughput: &Throughput) {
        self.figure(Figure::RequestsPerSecond, throughput.per_second);
    }

    fn latency(&mut self, latency: &Latency) {
        let latencies = [
            (Figure::P50, latency.p50),
            (Figure::P90, latency.p90),
            (Figure::P99, latency.p99),
            (Figure::P999, latency.p999),
        ];
        for (figure, latency) in latencies {
            self.figure(figure, latency.as_secs_f64() * 1e3);
        }
    }

    fn ready(&mut self, pair: &Pair) -> anyhow::Result<()> {
        let sidecars = pair.sidecars.as_ref();
        let sidecars = sidecars.context("only sidecars become ready")?;
        let millis = sidecars.each(|sidecar| Ok(sidecar.ready_after.as_secs_f64() * 1e3))?;
        self.figure(Figure::Ready, millis[0].max(millis[1]));
        self.sides(Figure::Ready.name(), millis.map(Value::from));
        Ok(())
    }

    /// Records the larger of two sidecars.
    fn memory(
        &mut self,
        sidecars: &Sidecars,
        figure: Figure,
        of: impl Fn(u32) -> anyhow::Result<u64>,
    ) -> anyhow::Result<()> {
        let megabytes = sidecars.each(|sidecar| Ok(of(sidecar.id())? as f64 / 1e6))?;
        self.figure(figure, megabytes[0].max(megabytes[1]));
        self.sides(figure.name(), megabytes.map(Value::from));
        Ok(())
    }

    fn figure(&mut self, figure: Figure, value: f64) {
        self.figures.insert(figure, value);
    }

    fn sides(&mut self, name: &str, [client, server]: [Value; 2]) {
        self.detail(name, json!({ "client": client, "server": server }));
    }

    fn detail(&mut self, name: &str, value: Value) {
        self.detail.insert(name.to_owned(), value);
    }
}
