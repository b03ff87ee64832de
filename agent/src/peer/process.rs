//! One process, held by handles that no other process can come to stand behind.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fstat, fstatfs};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use steeple::watch::{self, watch};
use tokio::io::Interest;
use tokio::sync::OnceCell;

use super::kept::Kept;
use super::nesting::Nesting;
use super::proc::{self, Namespace, NamespaceId};
use super::{PeerError, stat};

/// `PID_FS_MAGIC` of `linux/magic.h`: since Linux 6.9 each process has an inode number there that
/// is never used again while the machine runs.
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// Which process of all that this machine has run since it started.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ProcessId {
    pid: u32,
    start_time: u64,
    /// The inode number of the pidfd; 0 where the kernel has none.
    serial: u64,
}

/// A process, pinned: while this is held, whatever is read of it is of this process or fails.
#[derive(Clone)]
pub struct Process(Arc<Pinned>);

struct Pinned {
    id: ProcessId,
    life: Life,
    status: Kept,
    cgroup: Kept,
    directory: OwnedFd,
}

/// Whether a process has exited, and nothing else of it: one descriptor. Clones are of the same
/// process.
#[derive(Clone)]
pub struct Life(Arc<Watched>);

struct Watched {
    /// Before `pidfd`, so that it is taken out of the reactor before the descriptor closes.
    watch: OnceCell<watch::Watched>,
    pidfd: Arc<OwnedFd>,
}

impl ProcessId {
    /// The number that the process has in this agent's PID namespace.
    #[must_use]
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// When it started, in clock ticks since the machine started: field 22 of `/proc/PID/stat`.
    #[must_use]
    pub fn start_time(self) -> u64 {
        self.start_time
    }
}

impl fmt::Display for ProcessId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.pid, self.start_time)
    }
}

impl Process {
    /// Pins the process that has this number now.
    ///
    /// The start time is read before and after the pidfd is opened, through one handle on
    /// `/proc/PID`. If both reads succeed, the process held its number all the while, so the
    /// pidfd is its own.
    pub fn open(pid: u32) -> Result<Self, PeerError> {
        let directory = open_directory(pid)?;
        let before = start_time(directory.as_fd())?;
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or(PeerError::ForeignPidNamespace)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(PeerError::of_proc)?;
        if start_time(directory.as_fd())? != before {
            return Err(PeerError::Exited);
        }
        Self::pin(pid, before, pidfd, directory)
    }

    /// Pins the process that a pidfd from the kernel stands for, and that has this number.
    ///
    /// It has not exited after `/proc/PID` was opened, so it held its number until then, and what
    /// was opened is its own.
    pub(super) fn of_pidfd(pid: u32, pidfd: OwnedFd) -> Result<Self, PeerError> {
        let directory = open_directory(pid)?;
        let start_time = start_time(directory.as_fd())?;
        Self::pin(pid, start_time, pidfd, directory)
    }

    fn pin(
        pid: u32,
        start_time: u64,
        pidfd: OwnedFd,
        directory: OwnedFd,
    ) -> Result<Self, PeerError> {
        if has_exited(pidfd.as_fd()) {
            return Err(PeerError::Exited);
        }
        let id = ProcessId { pid, start_time, serial: serial(pidfd.as_fd()) };
        let watched = Watched { watch: OnceCell::new(), pidfd: Arc::new(pidfd) };
        let life = Life(Arc::new(watched));
        let (status, cgroup) = (Kept::new(c"status"), Kept::new(c"cgroup"));
        Ok(Self(Arc::new(Pinned { id, life, status, cgroup, directory })))
    }

    /// Which process this is.
    #[must_use]
    pub fn id(&self) -> ProcessId {
        self.0.id
    }

    /// Whether it has exited, and when it does.
    #[must_use]
    pub fn life(&self) -> &Life {
        &self.0.life
    }

    /// Whether any thread of the process is still there.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.life.is_alive()
    }

    /// Returns when the process has exited. Any number of tasks may wait.
    pub async fn exited(&self) {
        self.0.life.exited().await;
    }

    /// Shows `to` what `/proc/PID/status` says now.
    pub fn status<T>(&self, to: impl FnOnce(&[u8]) -> T) -> Result<T, PeerError> {
        self.0.status.read(self.directory(), to)
    }

    /// Shows `to` what `/proc/PID/cgroup` says now.
    pub fn cgroup<T>(&self, to: impl FnOnce(&[u8]) -> T) -> Result<T, PeerError> {
        self.0.cgroup.read(self.directory(), to)
    }

    /// The whole of a file of `/proc/PID`, such as `mountinfo`.
    pub fn read(&self, name: &CStr) -> Result<Vec<u8>, PeerError> {
        proc::read(self.directory(), name)
    }

    /// The namespace that the process is in; `None` if this agent may not know.
    #[must_use]
    pub fn namespace(&self, kind: Namespace) -> Option<NamespaceId> {
        proc::namespace(self.directory(), kind)
    }

    /// The namespace right below this agent's in which the process is, if that is so. There is no
    /// way out of one.
    #[must_use]
    pub fn nesting(&self) -> Nesting {
        Nesting::of(self.directory())
    }

    /// The effective user and group: who owns `/proc/PID`, whether the process is dumpable or not.
    /// Of a process that is gone this is `(0, 0)`, so [`Self::is_alive`] must be asked afterwards.
    pub(super) fn owner(&self) -> Result<(u32, u32), PeerError> {
        let stat = fstat(&self.0.directory).map_err(PeerError::of_proc)?;
        Ok((stat.st_uid, stat.st_gid))
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        self.0.directory.as_fd()
    }
}

impl Life {
    /// Whether any thread of the process is still there. A process that has exited and was not
    /// waited for yet is not alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !has_exited(self.0.pidfd.as_fd())
    }

    /// Returns when the process has exited. Any number of tasks may wait.
    pub async fn exited(&self) {
        let watch = self
            .0
            .watch
            .get_or_try_init(|| async { watch(self.0.pidfd.clone(), Interest::READABLE) });
        let Ok(watch) = watch.await else {
            return self.exited_by_polling().await;
        };
        loop {
            match watch.readable().await {
                // For whoever waits as well this stays so.
                Ok(_) if !self.is_alive() => return,
                Ok(mut ready) => ready.clear_ready(),
                Err(_) => return self.exited_by_polling().await,
            }
        }
    }

    /// The reactor takes no more descriptors; the exit must be noticed all the same.
    async fn exited_by_polling(&self) {
        while self.is_alive() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("is_alive", &self.is_alive()).finish()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Process({})", self.0.id)
    }
}

fn open_directory(pid: u32) -> Result<OwnedFd, PeerError> {
    let mut name = [0; 16];
    let name = decimal(pid, &mut name);
    proc::open(proc::root()?, name, OFlags::RDONLY | OFlags::DIRECTORY).map_err(PeerError::of_proc)
}

/// `number` in decimal digits, at the end of `buffer`, without an allocation.
fn decimal(mut number: u32, buffer: &mut [u8; 16]) -> &CStr {
    let mut start = buffer.len() - 1;
    loop {
        start -= 1;
        if let (Some(slot), Ok(digit)) = (buffer.get_mut(start), u8::try_from(number % 10)) {
            *slot = b'0' + digit;
        }
        number /= 10;
        if number == 0 {
            break;
        }
    }
    let digits = buffer.get(start..).unwrap_or_default();
    CStr::from_bytes_with_nul(digits).unwrap_or_default()
}

fn start_time(directory: BorrowedFd<'_>) -> Result<u64, PeerError> {
    let content = proc::read(directory, c"stat")?;
    stat::start_time(&content).ok_or(PeerError::Malformed("stat"))
}

fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    // Not to know whether it lives is to take it for gone.
    poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0)
}

fn serial(pidfd: BorrowedFd<'_>) -> u64 {
    static HAS_PIDFS: OnceLock<bool> = OnceLock::new();
    let has_pidfs = *HAS_PIDFS.get_or_init(|| {
        fstatfs(pidfd).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(PIDFS_MAGIC))
    });
    if !has_pidfs {
        return 0;
    }
    fstat(pidfd).map_or(0, |stat| stat.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_in_decimal() {
        for (number, text) in [(0, c"0"), (7, c"7"), (4_294_967_295, c"4294967295")] {
            assert_eq!(decimal(number, &mut [0; 16]), text);
        }
    }

    #[test]
    fn a_process_that_has_exited_cannot_be_pinned_and_a_pinned_one_is_seen_to_exit() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let process = Process::open(child.id()).unwrap();
        assert!(process.is_alive());
        assert!(process.read(c"stat").is_ok());
        // Kept open, which makes no difference.
        (0..3).for_each(|_| assert!(process.cgroup(<[u8]>::len).is_ok()));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!process.is_alive());
        assert_eq!(process.read(c"stat"), Err(PeerError::Exited));
        assert_eq!(process.cgroup(<[u8]>::len), Err(PeerError::Exited));
        assert_eq!(Process::open(child.id()).unwrap_err(), PeerError::Exited);
    }

    #[test]
    fn number_zero_is_nobody() {
        assert_eq!(Process::open(0).unwrap_err(), PeerError::Exited);
    }
}
