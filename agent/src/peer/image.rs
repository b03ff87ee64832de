//! Which executable file a process runs: identified by the file, never by its name.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, OFlags, Statx, StatxFlags, fstatfs, readlinkat, statx};
use rustix::io::Errno;
use rustix::path::DecInt;

use super::{PeerError, proc};

/// `FUSE_SUPER_MAGIC` of `linux/magic.h`.
const FUSE_MAGIC: u64 = 0x6573_5546;

/// What `/proc/PID/exe` leads to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Image {
    /// This file.
    File(FileId),
    /// This agent may not know, or there is none.
    Hidden,
}

/// One file, told from another that later gets its inode number by when it was made.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileId {
    device: (u32, u32),
    inode: u64,
    born: (i64, u32),
}

/// One content of a file: another content has another stamp, as far as the file system's clock
/// can tell them apart.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileStamp {
    /// The file.
    pub file: FileId,
    /// How many bytes it has.
    pub size: u64,
    /// When its content changed, in seconds and nanoseconds since 1970; the owner may set this.
    pub modified: (i64, u32),
    /// When anything about it changed; nobody may set this.
    pub changed: (i64, u32),
}

/// A handle on the executable of a process, that goes on leading to that file when the process
/// runs another. It holds no right to read. Clones share it.
#[derive(Clone, Debug)]
pub struct Executable {
    handle: Arc<OwnedFd>,
    stamp: FileStamp,
    unlinked: bool,
}

impl Image {
    /// The file behind the `exe` of a handle on `/proc/PID`.
    ///
    /// Attributes are taken as the kernel has them: to ask the server of a network or FUSE file
    /// system could take for ever, and a workload may run its own.
    pub(super) fn of(directory: BorrowedFd<'_>) -> Result<Self, PeerError> {
        let mask = StatxFlags::INO | StatxFlags::BTIME;
        match statx(directory, c"exe", AtFlags::STATX_DONT_SYNC, mask) {
            Ok(stat) => Ok(Self::File(FileId::of(&stat))),
            Err(Errno::SRCH) => Err(PeerError::Exited),
            Err(_) => Ok(Self::Hidden),
        }
    }
}

impl FileId {
    fn of(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        }
    }
}

impl FileStamp {
    fn of(stat: &Statx) -> Self {
        Self {
            file: FileId::of(stat),
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }

    /// The stamp of an open file.
    pub fn of_file(file: BorrowedFd<'_>) -> Result<Self, Errno> {
        Ok(Self::of(&stat_file(file)?))
    }
}

impl Executable {
    /// Opens the `exe` of a handle on `/proc/PID`; `None` if this agent may not.
    pub(super) fn open(directory: BorrowedFd<'_>) -> Result<Option<Self>, PeerError> {
        let handle = match proc::open(directory, c"exe", OFlags::PATH) {
            Ok(handle) => handle,
            Err(Errno::SRCH) => return Err(PeerError::Exited),
            Err(_) => return Ok(None),
        };
        Ok(Self::of_handle(Arc::new(handle)).ok())
    }

    fn of_handle(handle: Arc<OwnedFd>) -> Result<Self, Errno> {
        let stat = stat_file(handle.as_fd())?;
        Ok(Self { handle, stamp: FileStamp::of(&stat), unlinked: stat.stx_nlink == 0 })
    }

    /// Whether nothing about the file has changed since this was opened.
    pub(super) fn is_unchanged(&self) -> bool {
        stat_file(self.handle.as_fd()).is_ok_and(|stat| FileStamp::of(&stat) == self.stamp)
    }

    /// A file as if a process ran it, for tests of what is made of executables.
    #[cfg(test)]
    pub(crate) fn of_path(path: &std::path::Path) -> Self {
        use rustix::fs::{CWD, Mode, openat};
        let handle = openat(CWD, path, OFlags::PATH, Mode::empty()).unwrap();
        Self::of_handle(Arc::new(handle)).unwrap()
    }

    /// The file and its content.
    #[must_use]
    pub fn stamp(&self) -> FileStamp {
        self.stamp
    }

    /// Where the file is in the process's own view of the file system; the last name it had there
    /// if it has been removed since.
    pub fn path(&self) -> Result<OsString, PeerError> {
        let path = readlinkat(proc::own_files()?, self.link().as_c_str(), Vec::new());
        Ok(self.shown(path.map_err(PeerError::Proc)?.into_bytes()))
    }

    /// The path by which the process behind a handle on `/proc/PID` runs its executable, if that is
    /// this one.
    pub(super) fn path_of(&self, directory: BorrowedFd<'_>) -> Result<OsString, PeerError> {
        let path = readlinkat(directory, c"exe", Vec::new()).map_err(PeerError::of_proc)?;
        Ok(self.shown(path.into_bytes()))
    }

    fn shown(&self, mut path: Vec<u8>) -> OsString {
        if self.unlinked && path.ends_with(b" (deleted)") {
            path.truncate(path.len() - b" (deleted)".len());
        }
        OsString::from_vec(path)
    }

    /// Opens the file for reading; `None` if a server in user space answers for its content, which
    /// may give each reader another one. Blocks as long as the file system does.
    pub fn open_content(&self) -> Result<Option<OwnedFd>, PeerError> {
        let kind = fstatfs(&self.handle).map_err(PeerError::Proc)?.f_type;
        if u64::try_from(kind) == Ok(FUSE_MAGIC) {
            return Ok(None);
        }
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = rustix::fs::Mode::empty();
        rustix::fs::openat(proc::own_files()?, self.link().as_c_str(), flags, mode)
            .map(Some)
            .map_err(PeerError::Proc)
    }

    /// What it is called in this process's table of files.
    fn link(&self) -> DecInt {
        DecInt::from_fd(&*self.handle)
    }
}

fn stat_file(file: BorrowedFd<'_>) -> Result<Statx, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(file, c"", flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}
