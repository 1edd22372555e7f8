//! Whether this process may make namespaces, and how it comes to.

use std::{
    ffi::CString,
    fs,
    io::{self, PipeWriter, Read, Write},
    os::{fd::AsRawFd, unix::ffi::OsStrExt},
    path::PathBuf,
};

use rustix::{
    process::{getegid, geteuid},
    thread::{CapabilitySet, UnshareFlags, capabilities, unshare_unsafe},
};

use super::Network;

/// The highest id that pods use: the proxy's, 1337.
const HIGHEST_ID: u32 = 1337;

/// Why there can be no sandbox here, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}; {fix}")]
pub struct Unavailable {
    /// What is missing.
    pub reason: String,
    /// What to do about it.
    pub fix: String,
}

impl Unavailable {
    fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            fix: fix.into(),
        }
    }
}

/// Whether pods can be made, by making one. Nothing is left of it.
pub fn available() -> Result<(), Unavailable> {
    if !is_privileged() {
        return Err(Unavailable::new(
            "this process may not make network namespaces",
            "run it as root, or enter a user namespace first (unshare --user --map-root-user --map-auto)",
        ));
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if !maps_id(&map, HIGHEST_ID) {
        return Err(Unavailable::new(
            format!("the user namespace has no user id {HIGHEST_ID}, which a sidecar runs as"),
            "give your user a range in /etc/subuid and /etc/subgid, or run as root",
        ));
    }
    Network::new()
        .and_then(|network| network.pod("trial").map(drop))
        .map_err(|error| {
            Unavailable::new(
                error.to_string(),
                "the kernel must allow network namespaces, bridges and veth links to this user (in a container: \
                 --cap-add NET_ADMIN --cap-add SYS_ADMIN; on Ubuntu: sysctl \
                 kernel.apparmor_restrict_unprivileged_userns=0)",
            )
        })
}

/// Becomes root of a user namespace of its own, unless the process is privileged already: what
/// `unshare --user --map-root-user --map-auto` does.
///
/// Call it first thing in `main`: it works only while the process has one thread. When it fails, the process goes on
/// as it was, or as the only user of a namespace, which can do the same.
pub fn acquire() -> Result<(), Unavailable> {
    if is_privileged() {
        return Ok(());
    }
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let user = fs::read_to_string("/etc/passwd")
        .ok()
        .and_then(|passwd| user_name(&passwd, uid))
        .unwrap_or_default();
    let uids = subordinate_range("/etc/subuid", &user, uid)?;
    let gids = subordinate_range("/etc/subgid", &user, uid)?;
    let map = |id: u32, range: Range| {
        [0, id, 1, 1, range.first, range.count].map(|number| number.to_string())
    };
    let in_namespace = |error: io::Error| {
        Unavailable::new(
            format!("a user namespace cannot be made: {error}"),
            "allow unprivileged user namespaces (sysctl user.max_user_namespaces, \
             kernel.apparmor_restrict_unprivileged_userns), or run as root",
        )
    };
    let uid_mapper = Mapper::waiting("newuidmap", &map(uid, uids))?;
    let gid_mapper = Mapper::waiting("newgidmap", &map(gid, gids))?;
    // SAFETY: NEWUSER separates no memory and no descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }.map_err(|error| in_namespace(error.into()))?;
    let mapped = uid_mapper.map().and_then(|()| gid_mapper.map());
    if mapped.is_err() {
        // An unmapped process could not even read its own files; this much needs no helper (user_namespaces(7)).
        let alone = |file: &str, text: String| fs::write(file, text).map_err(in_namespace);
        alone("/proc/self/setgroups", "deny".to_owned())?;
        alone("/proc/self/gid_map", format!("0 {gid} 1"))?;
        alone("/proc/self/uid_map", format!("0 {uid} 1"))?;
    }
    mapped
}

fn is_privileged() -> bool {
    let wanted = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::SETUID;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted))
}

/// Whether a map, as in `/proc/self/uid_map`, has an id of its inside.
fn maps_id(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return false;
        };
        (first..first + count).contains(&u64::from(id))
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    count: u32,
}

fn subordinate_range(file: &str, user: &str, uid: u32) -> Result<Range, Unavailable> {
    let text = fs::read_to_string(file).unwrap_or_default();
    find_range(&text, user, uid).ok_or_else(|| {
        Unavailable::new(
            format!("{file} gives user id {uid} no range of {HIGHEST_ID} ids or more"),
            format!("add a line like `{uid}:100000:65536` to it, or run as root"),
        )
    })
}

/// The first range of a user that is large enough (subuid(5)).
fn find_range(text: &str, user: &str, uid: u32) -> Option<Range> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let range = Range {
            first: fields.next()?.parse().ok()?,
            count: fields.next()?.parse().ok()?,
        };
        let owned = (!user.is_empty() && owner == user) || owner == uid.to_string();
        (owned && range.count >= HIGHEST_ID).then_some(range)
    })
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// A forked `newuidmap` or `newgidmap` that waits until this process has its new namespace: only a process outside
/// may write a map of several ids.
struct Mapper {
    program: &'static str,
    pid: libc::pid_t,
    start: PipeWriter,
}

impl Mapper {
    fn waiting(program: &'static str, map: &[String]) -> Result<Self, Unavailable> {
        let failed = |error: io::Error| {
            Unavailable::new(
                format!("{program} cannot be started: {error}"),
                "install it (package uidmap or shadow-utils), or run as root",
            )
        };
        let path = find_in_path(program)
            .ok_or_else(|| failed(io::Error::from(io::ErrorKind::NotFound)))?;
        let c_string = |bytes: &[u8]| CString::new(bytes).map_err(|error| failed(error.into()));
        let path = c_string(path.as_os_str().as_bytes())?;
        let mut arguments = vec![
            path.clone(),
            c_string(std::process::id().to_string().as_bytes())?,
        ];
        for number in map {
            arguments.push(c_string(number.as_bytes())?);
        }
        let mut pointers: Vec<*const libc::c_char> =
            arguments.iter().map(|argument| argument.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (mut go, start) = io::pipe().map_err(failed)?;
        // SAFETY: the process has one thread (the contract of `acquire`), so that the child may go on like any
        // program; it only closes, reads and executes.
        match unsafe { libc::fork() } {
            -1 => Err(failed(io::Error::last_os_error())),
            0 => {
                // SAFETY: the child's copy of the writing end; while it is open, the read below would not end.
                unsafe { libc::close(start.as_raw_fd()) };
                let told = go.read(&mut [0]).unwrap_or(0);
                if told == 1 {
                    // SAFETY: the path and the arguments are strings that end in NUL, and the list ends in null.
                    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
                }
                // SAFETY: ends the child without running what the parent had planned for its own exit.
                unsafe { libc::_exit(127) }
            }
            pid => Ok(Self {
                program,
                pid,
                start,
            }),
        }
    }

    fn map(mut self) -> Result<(), Unavailable> {
        let mut status = 0;
        let told = self.start.write_all(&[1]);
        // SAFETY: `status` outlives the call, and the child is ours and not yet reaped.
        let reaped = unsafe { libc::waitpid(self.pid, &mut status, 0) };
        if told.is_ok() && reaped == self.pid && status == 0 {
            return Ok(());
        }
        Err(Unavailable::new(
            format!("{} refused the map of ids", self.program),
            "check the ranges in /etc/subuid and /etc/subgid, or run as root",
        ))
    }
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_tells_which_ids_exist() {
        assert!(maps_id("         0          0 4294967295\n", 1337));
        assert!(maps_id("0 1000 1\n1 100000 65536\n", 1337));
        assert!(!maps_id("0 1000 1\n", 1337));
        assert!(!maps_id("", 1337));
    }

    #[test]
    fn a_range_belongs_to_a_user_by_name_or_number() {
        let text = "root:100:10\nann:200:10\nann:100000:65536\n1001:165536:65536\n";
        let range = |first| {
            Some(Range {
                first,
                count: 65536,
            })
        };
        assert_eq!(find_range(text, "ann", 1000), range(100_000));
        assert_eq!(find_range(text, "", 1001), range(165_536));
        assert_eq!(find_range(text, "root", 0), None, "too small");
        assert_eq!(find_range(text, "bob", 1002), None);
    }

    #[test]
    fn the_name_of_a_user_is_in_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 1), None);
    }
}
