//! Processes that die with this one, inside a namespace and as another user.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, MetadataExt},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::{Errno, FdFlags, fcntl_setfd},
    process::{
        Gid, Pid, PidfdFlags, Signal, Uid, getpid, getppid, kill_process_group, pidfd_open,
        pidfd_send_signal, set_parent_process_death_signal,
    },
    thread::{
        LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid,
        set_thread_res_uid,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{Namespace, SandboxError};

/// How long a dropped child may take to end by itself, unless its command says otherwise.
const GRACE_ON_DROP: Duration = Duration::from_secs(2);

/// A process to be started: arguments and environment as in [`std::process::Command`], and the rest of its sandbox.
///
/// Its standard output and error go to an unnamed file, which [`Child::log`] reads.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    name: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, Option<OsString>)>,
    directory: Option<PathBuf>,
    namespace: Option<Namespace>,
    user: Option<u32>,
    grace: Duration,
}

impl Command {
    /// A program of the machine, found in `PATH` when it has no slash.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        let name = Path::new(&program)
            .file_name()
            .unwrap_or(&program)
            .to_string_lossy()
            .into_owned();
        Self {
            program,
            name,
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: None,
            namespace: None,
            user: None,
            grace: GRACE_ON_DROP,
        }
    }

    /// The name by which errors speak of the process; else the file name of its program.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments
            .extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment, which is otherwise inherited.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let value = value.as_ref().to_owned();
        self.environment
            .push((key.as_ref().to_owned(), Some(value)));
        self
    }

    /// Removes a variable from the inherited environment.
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), None));
        self
    }

    /// Starts in this directory.
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Starts inside a namespace.
    pub fn within(mut self, namespace: &Namespace) -> Self {
        self.namespace = Some(namespace.clone());
        self
    }

    /// Runs as this user and group id, without privileges.
    pub fn uid(mut self, uid: u32) -> Self {
        self.user = Some(uid);
        self
    }

    /// How long the process may take to end by itself when its [`Child`] is dropped; two seconds unless given.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Starts the process.
    pub fn spawn(self) -> Result<Child, SandboxError> {
        let failed = |error: io::Error| SandboxError::new(format!("start {}", self.name), error);
        let log = tempfile::tempfile().map_err(failed)?;
        let mut command = self.build(&log).map_err(failed)?;
        let child = on_spawner_thread(move || command.spawn()).map_err(failed)?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
        Ok(Child {
            name: self.name,
            pid,
            pidfd,
            process: Mutex::new(Process { child, ended: None }),
            grace: self.grace,
            log,
        })
    }

    fn build(&self, log: &File) -> io::Result<std::process::Command> {
        let descriptor = self.unreachable_program()?;
        let mut command = match &descriptor {
            None => std::process::Command::new(&self.program),
            Some(descriptor) => {
                let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
                let mut command = std::process::Command::new(path);
                command.arg0(&self.program);
                command
            }
        };
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .process_group(0);
        for (key, value) in &self.environment {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let (namespace, user, parent) = (self.namespace.clone(), self.user, getpid());
        let prepare = move || {
            if let Some(namespace) = &namespace {
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            }
            if let Some(program) = &descriptor {
                fcntl_setfd(program, FdFlags::empty())?;
            }
            if let Some(id) = user {
                become_user(id)?;
            }
            // After the change of user, which would clear it (prctl(2)).
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() != Some(parent) {
                return Err(Errno::SRCH.into());
            }
            Ok(())
        };
        // SAFETY: the closure only makes system calls: it allocates nothing and takes no lock.
        unsafe { command.pre_exec(prepare) };
        Ok(command)
    }

    /// The program as a descriptor, when its path leads through a directory that the user may not enter, such as
    /// the checkout in somebody's home.
    fn unreachable_program(&self) -> io::Result<Option<OwnedFd>> {
        if self.user.is_none_or(|uid| uid == 0) || !self.program.as_bytes().contains(&b'/') {
            return Ok(None);
        }
        let path = fs::canonicalize(&self.program)?;
        let is_open_to_all = |part: &Path| Ok::<_, io::Error>(fs::metadata(part)?.mode() & 1 == 1);
        for part in path.ancestors().skip(1) {
            if !is_open_to_all(part)? {
                let descriptor =
                    rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
                return Ok(Some(descriptor));
            }
        }
        Ok(None)
    }
}

/// A running process. Dropping it ends the process and everything in its process group.
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: Pid,
    pidfd: OwnedFd,
    process: Mutex<Process>,
    grace: Duration,
    log: File,
}

/// A process until it is reaped, and what was learned by that.
#[derive(Debug)]
struct Process {
    child: std::process::Child,
    ended: Option<ExitStatus>,
}

impl Child {
    /// The name given to the command.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_pid().cast_unsigned()
    }

    /// How it ended, if it has.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        if self.ends_within(Duration::ZERO) {
            return self.reap().map(Some);
        }
        Ok(None)
    }

    /// Waits for the process to end by itself.
    pub async fn wait(&self) -> io::Result<ExitStatus> {
        let pidfd = self.pidfd.try_clone()?;
        // SAFETY: `AsyncFd` owns the descriptor, which stays the same and open for as long as it is registered.
        let exit = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
        let _ready = exit.readable().await?;
        self.reap()
    }

    /// Sends a signal. A process that has ended is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the process to end, waits as long as `grace`, and kills what is left.
    ///
    /// A process that had to be killed has a status that tells the signal.
    pub async fn terminate(&self, grace: Duration) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        if let Ok(status) = tokio::time::timeout(grace, self.wait()).await {
            return status;
        }
        self.signal(Signal::KILL)?;
        self.wait().await
    }

    /// What the process has written to its standard output and error.
    pub fn log(&self) -> String {
        let mut bytes = Vec::new();
        let mut chunk = [0; 8192];
        // The offset of the file belongs to the process, so that it is read by position. A failure to read is no
        // reason to lose what was read.
        while let Ok(read @ 1..) = self.log.read_at(&mut chunk, bytes.len() as u64) {
            bytes.extend_from_slice(&chunk[..read]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let skip = log.lines().count().saturating_sub(lines);
        log.lines().skip(skip).collect::<Vec<_>>().join("\n")
    }

    /// Ends what an ended process left in its group, then takes its status.
    fn reap(&self) -> io::Result<ExitStatus> {
        let mut process = self.process();
        if let Some(status) = process.ended {
            return Ok(status);
        }
        // Only until the leader is reaped is it sure that nothing else has its number. An empty group is no failure.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let status = process.child.wait()?;
        process.ended = Some(status);
        Ok(status)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        // Every change is one assignment: a panic leaves nothing half done.
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ends_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            match poll(
                &mut [PollFd::new(&self.pidfd, PollFlags::IN)],
                timeout.as_ref(),
            ) {
                Err(Errno::INTR) => {}
                Ok(0) | Err(_) => return false,
                Ok(_) => return true,
            }
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.process().ended.is_some() {
            return;
        }
        // Failures to signal mean that the process is gone, which is what is wanted.
        let _ = self.signal(Signal::TERM);
        let _ = self.ends_within(self.grace);
        let _ = self.reap();
    }
}

fn become_user(id: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

type Job = Box<dyn FnOnce() + Send>;

/// Forks on a thread that never ends: the death signal of a child is sent when the *thread* that forked it ends
/// (prctl(2)), and callers may be on a thread of a pool.
fn on_spawner_thread<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("spawner".to_owned())
            .spawn(move || queue.into_iter().for_each(|job| job()))
            .expect("the system has room for a thread");
        jobs
    });
    let (done, result) = mpsc::sync_channel(1);
    let job = move || drop(done.send(job()));
    SPAWNER.send(Box::new(job)).expect("the spawner never ends");
    result.recv().expect("a job always answers")
}
