//! What the kernel says of this process, under the names that Prometheus client libraries share.

use std::{fs, time::Duration};

/// CPU time, memory and descriptors of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// User and system time.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Virtual memory in bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
}

impl Process {
    /// Reads `/proc/self`; what cannot be read is zero.
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let open_fds = fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
        Self {
            open_fds,
            ..Self::parse(&stat).unwrap_or_default()
        }
    }

    /// proc(5): fields are counted from behind the command's name, which may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let ticks = number(11)? + number(12)?;
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        Some(Self {
            cpu: Duration::from_millis(ticks * 1000 / ticks_per_second.max(1)),
            virtual_bytes: number(20)?,
            resident_bytes: number(21)? * rustix::param::page_size() as u64,
            open_fds: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = Process::read();
        assert!(process.resident_bytes > 100_000 && process.open_fds > 2);
    }

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 250 50 0 0 20 0 1 0 99 4096 3 0";
        let process = Process::parse(stat).unwrap();
        assert_eq!(process.cpu, Duration::from_secs(3));
        assert_eq!(process.virtual_bytes, 4096);
    }
}
