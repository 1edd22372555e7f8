//! The load: orders at a bounded rate, each checked for its response.

use std::{
    fmt,
    io::{self, Write},
    num::{NonZeroU32, NonZeroUsize},
    process::ExitCode,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinSet, LocalSet},
    time::Instant,
};

use super::services::Caller;

/// How many different failures are told.
const FAILURES_TOLD: usize = 5;

/// Durations are told apart up to a minute.
const LONGEST_MICROS: u64 = 60_000_000;

/// How often the load by itself says what it saw.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// The flags of the hidden `weft demo-load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where orders are sent, as host:port.
    order: String,
    /// Orders per second.
    #[arg(long, default_value = "20")]
    rate: NonZeroU32,
    /// Orders on their way at once, each on its own connection.
    #[arg(long, default_value = "4")]
    connections: NonZeroUsize,
    /// For how long. Until SIGTERM when not given.
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

/// Drives load and says every few seconds what came of it. Fails when an order failed.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let end = args.duration.map(|duration| Instant::now() + duration);
    let order = Caller::new(&args.order, None)?;
    let mut total = Report::new();
    loop {
        let left = end.map_or(REPORT_INTERVAL, |end| end - Instant::now());
        let plan = Plan {
            rate: args.rate,
            connections: args.connections,
            duration: left.min(REPORT_INTERVAL),
        };
        if plan.duration.is_zero() {
            break;
        }
        let work = LocalSet::new();
        let report = tokio::select! {
            report = work.run_until(drive(plan, order.clone())) => report,
            _ = terminate.recv() => break,
        };
        writeln!(io::stdout(), "{report}")?;
        total.add(report);
    }
    writeln!(io::stdout(), "in all: {total}")?;
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How much load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Orders per second.
    pub(super) rate: NonZeroU32,
    /// Orders that may be on their way at once, each on its own connection.
    pub(super) connections: NonZeroUsize,
    /// For how long orders are sent.
    pub(super) duration: Duration,
}

/// What the caller saw, which no sidecar can embellish.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) requests: u64,
    pub(super) failed: u64,
    /// The first failures, each once.
    pub(super) failures: Vec<String>,
    durations: Histogram<u64>,
}

impl Report {
    fn new() -> Self {
        Self {
            requests: 0,
            failed: 0,
            failures: Vec::new(),
            durations: Histogram::new_with_bounds(1, LONGEST_MICROS, 3)
                .expect("the bounds are in order, and three digits are allowed"),
        }
    }

    /// A quantile of the time from sending an order to the end of its response.
    pub(super) fn quantile(&self, q: f64) -> Option<Duration> {
        (self.requests > 0).then(|| Duration::from_micros(self.durations.value_at_quantile(q)))
    }

    fn record(&mut self, duration: Duration, outcome: Result<(), String>) {
        self.requests += 1;
        self.durations
            .saturating_record(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        if let Err(failure) = outcome {
            self.failed += 1;
            self.tell(failure);
        }
    }

    fn tell(&mut self, failure: String) {
        if self.failures.len() < FAILURES_TOLD && !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.failed += other.failed;
        self.durations += other.durations;
        for failure in other.failures {
            self.tell(failure);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} orders, {} failed", self.requests, self.failed)?;
        for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
            if let Some(duration) = self.quantile(q) {
                write!(f, ", {name} {:.1} ms", duration.as_secs_f64() * 1e3)?;
            }
        }
        for failure in &self.failures {
            write!(f, "\n  {failure}")?;
        }
        Ok(())
    }
}

/// Sends orders until the time is over, and waits for the last response.
///
/// Runs on a `LocalSet`.
pub(super) async fn drive(plan: Plan, order: Caller) -> Report {
    let order = Rc::new(order);
    let start = Instant::now();
    let senders = plan.connections.get() as u32;
    let interval = Duration::from_secs(1) * senders / plan.rate.get();
    let mut tasks = JoinSet::new();
    for sender in 0..senders {
        // Spread over the interval: not all at the same moment.
        let first = start + interval * sender / senders;
        tasks.spawn_local(send(order.clone(), first, interval, start + plan.duration));
    }
    let mut report = Report::new();
    while let Some(sent) = tasks.join_next().await {
        report.add(sent.expect("a sender neither panics nor is cancelled"));
    }
    report
}

async fn send(order: Rc<Caller>, first: Instant, interval: Duration, end: Instant) -> Report {
    let mut report = Report::new();
    let mut due = tokio::time::interval_at(first, interval);
    // Late is late: catching up would be a burst that nobody asked for.
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while due.tick().await < end {
        let id = report.requests % 1000;
        let body = Bytes::from(format!(r#"{{"user":{id},"product":{id}}}"#));
        let sent = Instant::now();
        let outcome = order.http(http::Method::POST, "/orders", body).await;
        report.record(
            sent.elapsed(),
            outcome.map(drop).map_err(|error| format!("{error:#}")),
        );
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_order_is_counted_and_a_failure_told_once() {
        let nobody = Caller::new("127.0.0.1:1", None).unwrap();
        let plan = Plan {
            rate: NonZeroU32::new(400).unwrap(),
            connections: NonZeroUsize::new(4).unwrap(),
            duration: Duration::from_millis(100),
        };
        let report = tokio::task::LocalSet::new()
            .run_until(drive(plan, nobody))
            .await;
        assert!((1..=44).contains(&report.requests), "{}", report.requests);
        assert_eq!(report.failed, report.requests);
        assert_eq!(report.failures.len(), 1, "{:?}", report.failures);
        let said = report.to_string();
        let counts = format!("{0} orders, {0} failed, p50 ", report.requests);
        assert!(said.starts_with(&counts), "{said}");
        assert!(said.ends_with(&report.failures[0]), "{said}");
    }

    #[test]
    fn a_quantile_is_what_was_recorded_up_to_a_thousandth() {
        let mut report = Report::new();
        assert_eq!(report.quantile(0.5), None);
        report.record(Duration::from_millis(40), Ok(()));
        let median = report.quantile(0.5).unwrap().as_secs_f64();
        assert!((median - 0.040).abs() < 0.000_040, "{median}");
    }
}
