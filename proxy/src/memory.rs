//! Memory that a burst leaves behind goes back to the system.
//!
//! The allocator keeps what is freed for the next allocation, of which a proxy at rest has none for hours. It
//! gives pages back only from the end of its heaps, where some connection that stayed sits on them.

mod code;

pub(crate) use code::let_go as let_go_of_code;

use std::{fs, time::Duration};

/// How often somebody looks.
const INTERVAL: Duration = Duration::from_secs(10);

/// What may lie idle: less is not worth the walk through the heap, in which the workers can't allocate.
const SPARE: u64 = 2 << 20;

/// How much memory there is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    /// Given to us by the system, without the pages of files.
    resident: u64,
    /// Allocated and not freed.
    in_use: u64,
}

/// Decides when to give memory back.
#[derive(Debug, Default)]
struct Trimmer {
    /// What was in use at the last time.
    trimmed_at: Option<u64>,
}

/// Looks after the memory of the process, for ever.
pub(crate) async fn give_back() {
    let mut trimmer = Trimmer::default();
    let mut looks = tokio::time::interval(INTERVAL);
    loop {
        looks.tick().await;
        let Some(usage) = usage() else { return };
        if trimmer.should_trim(usage) {
            trim();
        }
    }
}

impl Trimmer {
    /// Whether much more is resident than in use. What is left after a trim lies between what is in use, and
    /// stays until that has changed.
    fn should_trim(&mut self, Usage { resident, in_use }: Usage) -> bool {
        let idle = resident > in_use + in_use / 8 + SPARE;
        let tried = self
            .trimmed_at
            .is_some_and(|before| before.abs_diff(in_use) <= before / 8);
        let trim = idle && !tried;
        if trim {
            self.trimmed_at = Some(in_use);
        }
        trim
    }
}

#[cfg(target_env = "gnu")]
fn usage() -> Option<Usage> {
    // SAFETY: takes nothing and returns numbers; the allocator locks its heaps while it counts.
    let counted = unsafe { libc::mallinfo2() };
    Some(Usage {
        resident: resident(&fs::read_to_string("/proc/self/status").ok()?)?,
        in_use: (counted.uordblks + counted.hblkhd) as u64,
    })
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: gives back pages that hold no allocation; the allocator locks its heaps meanwhile.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators have other ways.
#[cfg(not(target_env = "gnu"))]
fn usage() -> Option<Usage> {
    None
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// `RssAnon` of proc_pid_status(5).
fn resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn usage(resident: u64, in_use: u64) -> Usage {
        Usage {
            resident: resident * MIB,
            in_use: in_use * MIB,
        }
    }

    #[test]
    fn what_a_burst_leaves_is_given_back_once() {
        let mut trimmer = Trimmer::default();
        assert!(!trimmer.should_trim(usage(5, 4)), "nothing to gain");
        assert!(!trimmer.should_trim(usage(100, 95)), "the burst needs it");
        assert!(trimmer.should_trim(usage(100, 10)));
        assert!(!trimmer.should_trim(usage(20, 10)), "what is left is stuck");
        assert!(!trimmer.should_trim(usage(20, 11)), "little has changed");
        assert!(trimmer.should_trim(usage(20, 5)), "some of it came loose");
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "VmRSS:\t   10184 kB\nRssAnon:\t    1128 kB\n";
        assert_eq!(resident(status), Some(1128 * 1024));
        assert_eq!(resident("VmRSS:\t1 kB\n"), None);
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn freed_memory_goes_back_to_the_system() {
        // Small blocks, as large ones go back by themselves; the last one holds the end of the heap.
        let mut blocks: Vec<_> = (0..64 * 1024).map(|_| vec![1_u8; 1024]).collect();
        let last = blocks.pop();
        drop(blocks);
        let before = super::usage().unwrap();
        trim();
        let after = super::usage().unwrap();
        assert!(after.resident + 32 * MIB < before.resident);
        drop(last);
    }
}
