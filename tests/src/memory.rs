//! The memory of a process over time.

use anyhow::Context;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// The resident memory of a process in bytes.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    status_field(pid, "VmRSS:")
}

/// The most resident memory in bytes that a process has had since its start or the last [`forget_most`].
pub fn most_resident(pid: u32) -> anyhow::Result<u64> {
    status_field(pid, "VmHWM:")
}

/// Makes the kernel remember the most resident memory from now on (proc(5), `clear_refs`).
pub fn forget_most(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    Ok(())
}

/// A field of `/proc/<pid>/status` that counts kibibytes, in bytes.
fn status_field(pid: u32, field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    let kibibytes: u64 = kibibytes
        .context("a running process has resident memory")?
        .parse()?;
    Ok(kibibytes * 1024)
}

/// Watches a process for the most memory that it ever has.
pub struct Peak {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Peak {
    /// Starts to watch.
    pub fn of(pid: u32) -> Self {
        let (peak, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (seen, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                seen.fetch_max(resident(pid).unwrap_or(0), Ordering::Relaxed);
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        Self { peak, stop, thread }
    }

    /// Ends the watch: the most bytes seen.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().expect("a watch does not panic");
        self.peak.load(Ordering::Relaxed)
    }
}
