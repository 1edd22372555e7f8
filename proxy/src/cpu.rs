//! How many data workers a machine, or the limit on a container, deserves.

use std::{fs, num::NonZeroUsize, path::Path, thread};

/// CPU time that a control group may use in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Quota {
    quota: u64,
    period: u64,
}

/// One worker per CPU of the cgroup's limit, rounded up; per core where there is no limit.
pub(crate) fn workers() -> NonZeroUsize {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    within(quota(Path::new("/sys/fs/cgroup")), cores)
}

fn within(quota: Option<Quota>, cores: NonZeroUsize) -> NonZeroUsize {
    quota
        .and_then(|Quota { quota, period }| {
            quota.checked_div(period).map(|_| quota.div_ceil(period))
        })
        .and_then(|cpus| NonZeroUsize::new(usize::try_from(cpus).ok()?))
        .map_or(cores, |cpus| cpus.min(cores))
}

/// The limit of our own control group, as a container sees it at the root of its mount: `cpu.max` in
/// version 2, `cpu.cfs_*_us` in version 1.
fn quota(root: &Path) -> Option<Quota> {
    let read = |file: &str| fs::read_to_string(root.join(file)).ok();
    if let Some(max) = read("cpu.max") {
        return parse_v2(&max);
    }
    parse_v1(
        &read("cpu/cpu.cfs_quota_us")?,
        &read("cpu/cpu.cfs_period_us")?,
    )
}

/// `200000 100000`, or `max 100000` for no limit (Linux `admin-guide/cgroup-v2.rst`).
fn parse_v2(max: &str) -> Option<Quota> {
    let (quota, period) = max.trim().split_once(' ')?;
    Some(Quota {
        quota: quota.parse().ok()?,
        period: period.parse().ok()?,
    })
}

/// A quota of -1 is no limit (Linux `scheduler/sched-bwc.rst`).
fn parse_v1(quota: &str, period: &str) -> Option<Quota> {
    Some(Quota {
        quota: quota.trim().parse().ok()?,
        period: period.trim().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EIGHT: NonZeroUsize = NonZeroUsize::new(8).unwrap();

    #[test]
    fn a_limit_is_rounded_up_and_never_more_than_the_cores() {
        for (max, workers) in [
            ("max 100000", 8),
            ("200000 100000", 2),
            ("150000 100000", 2),
            ("10000 100000", 1),
            ("6400000 100000", 8),
            ("0 100000", 8),
            ("100000 0", 8),
            ("nonsense", 8),
        ] {
            assert_eq!(within(parse_v2(max), EIGHT).get(), workers, "{max}");
        }
        assert_eq!(within(parse_v1("-1\n", "100000\n"), EIGHT).get(), 8);
        assert_eq!(within(parse_v1("250000\n", "100000\n"), EIGHT).get(), 3);
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(quota(root.path()), None);
        fs::create_dir(root.path().join("cpu")).unwrap();
        fs::write(root.path().join("cpu/cpu.cfs_quota_us"), "50000\n").unwrap();
        fs::write(root.path().join("cpu/cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(
            quota(root.path()),
            Some(Quota {
                quota: 50_000,
                period: 100_000
            })
        );
        fs::write(root.path().join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota(root.path()), None);
    }
}
