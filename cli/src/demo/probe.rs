//! Waiting for a process to be ready, never for longer than it may take.

use std::{net::SocketAddr, time::Duration};

use anyhow::bail;
use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::services::Caller;
use crate::sandbox::Child;

/// How long a process may take to become ready.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is asked.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);
/// How much of a log an error quotes.
const LOG_LINES: usize = 20;

/// Waits until a process answers 200 to a readiness request.
pub(super) async fn ready(child: &Child, address: SocketAddr) -> anyhow::Result<()> {
    until(child, "ready", async || {
        get(address, "/readyz").await.map(drop)
    })
    .await
}

/// Waits until a condition holds, or says why not: the process ended or took too long, and the end of its log.
pub(super) async fn until(
    child: &Child,
    what: &str,
    mut condition: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut attempts = interval(INTERVAL);
    attempts.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        attempts.tick().await;
        let Err(missing) = condition().await else {
            return Ok(());
        };
        if let Some(status) = child.try_wait()? {
            bail!(
                "{} ended ({status}) before it was {what}{}",
                child.name(),
                quote(child)
            );
        }
        if Instant::now() > deadline {
            bail!(
                "{} is not {what} after {PATIENCE:?}: {missing:#}{}",
                child.name(),
                quote(child)
            );
        }
    }
}

/// Waits for a process to end with success.
pub(super) async fn success(child: &Child) -> anyhow::Result<()> {
    let Ok(status) = timeout(PATIENCE, child.wait()).await else {
        bail!(
            "{} has not ended after {PATIENCE:?}{}",
            child.name(),
            quote(child)
        );
    };
    let status = status?;
    if !status.success() {
        bail!("{} failed ({status}){}", child.name(), quote(child));
    }
    Ok(())
}

/// Fails when a process has ended, which nobody asked it to.
pub(super) fn check(child: &Child) -> anyhow::Result<()> {
    if let Some(status) = child.try_wait()? {
        bail!("{} ended ({status}){}", child.name(), quote(child));
    }
    Ok(())
}

/// The end of a process's log, to stand in an error.
pub(super) fn quote(child: &Child) -> String {
    let tail = child.log_tail(LOG_LINES);
    if tail.is_empty() {
        return "; it logged nothing".to_owned();
    }
    format!("; the end of its log:\n  {}", tail.replace('\n', "\n  "))
}

/// Fetches a page, over a connection of its own.
pub(super) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let caller = Caller::new(&address.to_string(), None)?;
    let body = timeout(ANSWER, caller.http(http::Method::GET, path, Bytes::new())).await??;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Command;

    #[tokio::test]
    async fn a_process_that_ends_too_early_is_quoted() {
        let child = Command::new("sh")
            .args(["-c", "echo the port is taken; exit 3"])
            .name("control plane")
            .spawn()
            .unwrap();
        let error = until(&child, "ready", async || bail!("no answer"))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "control plane ended (exit status: 3) before it was ready; the end of its log:\n  the port is taken"
        );
    }

    #[tokio::test]
    async fn a_process_that_fails_is_quoted() {
        let child = Command::new("sh").args(["-c", "exit 1"]).spawn().unwrap();
        let error = success(&child).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "sh failed (exit status: 1); it logged nothing"
        );
    }
}
