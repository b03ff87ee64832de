//! Who is calling: the process at the other end of a Unix socket, held so that it can be mistaken
//! for no other.
//!
//! The kernel notes, when a process calls `connect`, which process it is and who it runs as. That
//! never changes for this connection. [`Peer::of`] asks for it once, at accept, and pins the
//! process with handles that cannot be reused (a pidfd and a directory handle on `/proc/PID`);
//! [`Peer::verify`] says whether it still is what it was then.
//!
//! # What the kernel lets us see
//!
//! | the caller … | seen? | what happens |
//! |---|---|---|
//! | exits | yes, at once: its pidfd becomes readable | [`Peer::verify`] fails, [`Peer::exited`] returns, its streams and instance end |
//! | exits, and another process gets its number | yes: handles belong to the process, not to the number | as above; nothing is ever read of the other process |
//! | exited before it was accepted | yes, with `SO_PEERPIDFD` (Linux 6.5); before that, unless its number was given to another process of the same user and group in the meantime | refused |
//! | runs another executable (`execve`) | yes, from accept on: `/proc/PID/exe` leads to another file | the connection is of no more use; a new one is attested as what it is now |
//! | runs another executable between `connect` and accept | no: the kernel keeps no time of it | attested as what it is at accept. It is the same user and group, see the next line |
//! | changes its user or group, or runs a set-user-ID program | yes: the effective IDs are no longer those noted at `connect` | refused until it connects anew |
//! | runs the same executable again, by this name or another link to the file | no | it is the same process, user and file; by what name it runs now, the next request finds out |
//! | passes its socket on (`SCM_RIGHTS`) or shares it with a child (`fork`) | no: to the kernel the connection remains its own | the connection is served as the one who connected, never as who holds it now, and ends when the one who connected exits |
//! | is in a PID namespace that this agent cannot see into | yes: its number is 0 | refused |
//! | is a thread | threads are one process | served as the process |
//! | lost its main thread, while others go on | yes: the kernel no longer tells its executable | refused until it connects anew, and then without `path` and `sha256` |
//!
//! A process may hand what it is given to any other: it could as well hand on the key. What it
//! cannot do is to obtain what *another* process is entitled to. What runs as the same user can
//! debug, preload into or start whatever that user may start, so an executable tells programs of
//! one user apart only as far as that user does not set out to deceive.

use std::any::Any;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::socket::{getsockopt, sockopt};
use rustix::io::Errno;
use thiserror::Error;

pub mod image;
mod kept;
pub mod nesting;
pub mod proc;
pub mod process;
pub mod stat;

use image::{Executable, Image};
use process::{Process, ProcessId};

/// A process that has connected to a Unix socket of this agent. Clones are the same peer.
#[derive(Clone)]
pub struct Peer(Arc<Inner>);

struct Inner {
    process: Process,
    uid: u32,
    gid: u32,
    image: Image,
    /// See [`Peer::remember`].
    memory: Mutex<Option<Arc<dyn Any + Send + Sync>>>,
}

/// Why a caller is not, or no longer, known.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum PeerError {
    /// The process is gone.
    #[error("the process has exited")]
    Exited,
    /// The kernel has no number for it here.
    #[error("the process is in a PID namespace that this agent cannot see into")]
    ForeignPidNamespace,
    /// It no longer runs as who it was when it connected.
    #[error("the process has changed its user or group since it connected")]
    CredentialsChanged,
    /// It runs another executable than when it was accepted.
    #[error("the process runs another executable than when it connected")]
    ExecutableChanged,
    /// It has left the container, or the container has ended.
    #[error("the process is no longer in the container it was found in")]
    ContainerChanged,
    /// The kernel does not say who has connected.
    #[error("the kernel does not tell who has connected")]
    Credentials(#[source] Errno),
    /// `/proc` could not be read.
    #[error("reading /proc")]
    Proc(#[source] Errno),
    /// A file of `/proc` has a form that this agent does not know.
    #[error("the kernel's /proc/PID/{0} is not of the known form")]
    Malformed(&'static str),
    /// `/proc` shows other numbers than this agent's.
    #[error("/proc is not mounted, or belongs to another PID namespace than this agent")]
    ProcOfAnother,
}

impl PeerError {
    /// What an error of a call on a handle in `/proc` means.
    fn of_proc(error: Errno) -> Self {
        match error {
            Errno::SRCH | Errno::NOENT => Self::Exited,
            other => Self::Proc(other),
        }
    }
}

impl Peer {
    /// The process that has connected `socket`, an accepted connection.
    pub fn of(socket: &impl AsFd) -> Result<Self, PeerError> {
        let credentials =
            getsockopt(socket, sockopt::PeerCredentials).map_err(credentials_error)?;
        let pid = match u32::try_from(credentials.pid()) {
            Ok(0) | Err(_) => return Err(PeerError::ForeignPidNamespace),
            Ok(pid) => pid,
        };
        let process = match getsockopt(socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Process::of_pidfd(pid, pidfd)?,
            // Before Linux 6.5 the kernel has no handle to give.
            Err(nix::errno::Errno::ENOPROTOOPT) => Process::open(pid)?,
            Err(nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL) => {
                return Err(PeerError::Exited);
            }
            Err(error) => return Err(credentials_error(error)),
        };
        Self::new(process, credentials.uid(), credentials.gid())
    }

    /// The process that has this number now, as whoever it runs as now.
    pub fn of_pid(pid: u32) -> Result<Self, PeerError> {
        let process = Process::open(pid)?;
        let (uid, gid) = process.owner()?;
        Self::new(process, uid, gid)
    }

    /// `process`, which must run as these.
    fn new(process: Process, uid: u32, gid: u32) -> Result<Self, PeerError> {
        let (image, owner) = (Image::of(process.directory())?, process.owner()?);
        // Last, as what is read of a process that is gone means nothing.
        if !process.is_alive() {
            return Err(PeerError::Exited);
        }
        if owner != (uid, gid) {
            return Err(PeerError::CredentialsChanged);
        }
        Ok(Self(Arc::new(Inner { process, uid, gid, image, memory: Mutex::default() })))
    }

    /// Its number in this agent's PID namespace.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.process.id().pid()
    }

    /// Its effective user when it connected, and now if [`Self::verify`] says so.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.0.uid
    }

    /// Its effective group when it connected, and now if [`Self::verify`] says so.
    #[must_use]
    pub fn gid(&self) -> u32 {
        self.0.gid
    }

    /// The process, pinned.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.0.process
    }

    /// Which process of all that ever ran.
    #[must_use]
    pub fn process_id(&self) -> ProcessId {
        self.0.process.id()
    }

    /// Whether the process has not exited.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.process.is_alive()
    }

    /// Returns when the process has exited. Any number of tasks may wait.
    pub async fn exited(&self) {
        self.0.process.exited().await;
    }

    /// Checks that the process lives and is what it was at accept: the same effective user and
    /// group, the same executable. That it is the same process goes without saying, as both handles
    /// are its own and nobody else's.
    ///
    /// What was read of the process before is true of it if this succeeds afterwards.
    pub fn verify(&self) -> Result<(), PeerError> {
        let unchanged = self.unchanged();
        // Last, as what is read of a process that is gone means nothing.
        if self.is_alive() { unchanged } else { Err(PeerError::Exited) }
    }

    fn unchanged(&self) -> Result<(), PeerError> {
        let process = &self.0.process;
        if process.owner()? != (self.0.uid, self.0.gid) {
            return Err(PeerError::CredentialsChanged);
        }
        if Image::of(process.directory())? != self.0.image {
            return Err(PeerError::ExecutableChanged);
        }
        Ok(())
    }

    /// The executable that the process ran at accept and runs still; `None` if this agent may not
    /// know it.
    pub fn executable(&self) -> Result<Option<Executable>, PeerError> {
        let Some(executable) = Executable::open(self.0.process.directory())? else {
            return Ok(None);
        };
        if Image::File(executable.stamp().file) == self.0.image {
            Ok(Some(executable))
        } else {
            Err(PeerError::ExecutableChanged)
        }
    }

    /// Whether nothing has changed about `executable`, which was that of this peer, and the process
    /// runs it by `path`, if any is given. That it runs it at all, [`Self::verify`] says afterwards.
    #[must_use]
    pub fn still_runs(&self, executable: &Executable, path: Option<&OsStr>) -> bool {
        let by =
            |path: &OsStr| executable.path_of(self.0.process.directory()).as_deref() == Ok(path);
        executable.is_unchanged() && path.is_none_or(by)
    }

    /// Keeps something with the peer, for as long as any of its clones is there, in the place of
    /// what was kept before. It must not hold the peer, or neither would ever go.
    pub fn remember<T: Any + Send + Sync>(&self, what: Arc<T>) {
        *self.memory() = Some(what);
    }

    /// What was kept with the peer, if it is of this type.
    #[must_use]
    pub fn recall<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        Arc::downcast(self.memory().clone()?).ok()
    }

    fn memory(&self) -> MutexGuard<'_, Option<Arc<dyn Any + Send + Sync>>> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer that this very process would be, for tests of what is attested.
    #[cfg(test)]
    pub(crate) fn this_process() -> Self {
        Self::of_pid(std::process::id()).unwrap()
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("process", &self.process_id())
            .field("uid", &self.uid())
            .field("gid", &self.gid())
            .finish_non_exhaustive()
    }
}

fn credentials_error(error: nix::errno::Errno) -> PeerError {
    PeerError::Credentials(Errno::from_raw_os_error(error as i32))
}
