//! `weft check`: whether a control plane answers and is ready, and if not, what it said.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::Context;
use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use weft_xds_proto::names::MONITORING_PORT;

use crate::demo::services::Caller;

/// How often a control plane that is not ready is asked again.
const INTERVAL: Duration = Duration::from_millis(500);

/// The flags of `weft check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Host of the control plane, with a port if it is not 15014.
    #[arg(long, default_value = "weft-control-plane.weft-system.svc")]
    control_plane: String,
    /// How long it may take to become ready.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Waits until the control plane is ready, or fails with what it said last.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let authority = with_port(&args.control_plane);
    let caller = Caller::new(&authority, None)?;
    let deadline = Instant::now() + args.timeout;
    let mut attempts = interval(INTERVAL);
    attempts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = anyhow::anyhow!("no answer");
    while timeout_at(deadline, attempts.tick()).await.is_ok() {
        let asked = caller.http(http::Method::GET, "/readyz", Bytes::new());
        match timeout_at(deadline, asked).await {
            Ok(Ok(_)) => {
                writeln!(io::stdout(), "the control plane at {authority} is ready")?;
                return Ok(());
            }
            Ok(Err(error)) => last = error,
            Err(_) => break,
        }
    }
    Err(last).with_context(|| {
        format!(
            "the control plane at {authority} is not ready after {}",
            humantime::format_duration(args.timeout)
        )
    })
}

/// An authority that names its port.
fn with_port(host: &str) -> String {
    let after_address = host.rsplit(']').next().unwrap_or(host);
    if after_address.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:{MONITORING_PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_port_gets_that_of_monitoring() {
        for (host, authority) in [
            ("control-plane.svc", "control-plane.svc:15014"),
            ("control-plane.svc:80", "control-plane.svc:80"),
            ("10.0.0.1", "10.0.0.1:15014"),
            ("[fd00::1]", "[fd00::1]:15014"),
            ("[fd00::1]:80", "[fd00::1]:80"),
        ] {
            assert_eq!(with_port(host), authority);
        }
    }

    #[test]
    fn nobody_there_is_a_failure_that_says_where() {
        let error = run(Args {
            control_plane: "127.0.0.1:1".to_owned(),
            timeout: Duration::from_millis(50),
        })
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the control plane at 127.0.0.1:1 is not ready after 50ms"
        );
    }
}
