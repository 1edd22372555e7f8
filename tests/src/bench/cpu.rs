//! The time that the kernel says a process has spent on a CPU.

use anyhow::Context;
use std::{fs, ops::Sub, time::Duration};

/// Time spent by all threads of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTime {
    /// In the process's own code.
    pub user: Duration,
    /// In the kernel on its behalf: for a proxy, mostly TCP.
    pub system: Duration,
}

impl CpuTime {
    /// What a process has spent since it started.
    pub fn of(pid: u32) -> anyhow::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} is gone"))?;
        let ticks = u32::try_from(rustix::param::clock_ticks_per_second())?;
        parse(&stat, ticks).with_context(|| format!("/proc/{pid}/stat holds {stat:?}"))
    }

    /// Both together.
    pub fn total(self) -> Duration {
        self.user + self.system
    }
}

impl Sub for CpuTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user.saturating_sub(earlier.user),
            system: self.system.saturating_sub(earlier.system),
        }
    }
}

/// `utime` and `stime` of `/proc/<pid>/stat` (proc(5)), fields 14 and 15.
fn parse(stat: &str, ticks_per_second: u32) -> Option<CpuTime> {
    // The second field is a name in parentheses, in which anything may stand, also parentheses.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let mut next = || {
        let ticks: u32 = fields.next()?.parse().ok()?;
        Some(Duration::from_secs(ticks.into()) / ticks_per_second)
    };
    Some(CpuTime {
        user: next()?,
        system: next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_parentheses_and_spaces() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 150 75 0 0 20 0 1 0 100 200 300";
        let expected = CpuTime {
            user: Duration::from_millis(1500),
            system: Duration::from_millis(750),
        };
        assert_eq!(parse(stat, 100), Some(expected));
    }

    #[test]
    fn a_cut_line_has_no_times() {
        assert_eq!(parse("42 (name) S 1 42 42 0", 100), None);
        assert_eq!(parse("", 100), None);
    }

    #[test]
    fn a_process_spends_what_it_spent_later_minus_what_it_spent_before() {
        let [earlier, later] = [1, 3].map(|seconds| CpuTime {
            user: Duration::from_secs(seconds),
            system: Duration::from_secs(2 * seconds),
        });
        assert_eq!((later - earlier).total(), Duration::from_secs(6));
    }

    #[test]
    fn the_running_process_has_times() {
        CpuTime::of(std::process::id()).unwrap();
    }
}
