//! Reads `/proc` through handles, so that every read is of the process that was opened.
//!
//! A handle on `/proc/PID` belongs to the process, not to the number: once the process is gone,
//! reads through it fail, even if the number has been given to another process by then.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, fstat, fstatfs, openat, readlinkat, readlinkat_raw};
use rustix::io::Errno;

use super::PeerError;

/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROC_MAGIC: u64 = 0x9fa0;

/// The most that is read of any file: a process with 65,536 supplementary groups has a `status`
/// of 700 KB.
const MAX_FILE: usize = 1 << 20;

/// Which of a process's namespaces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Namespace {
    /// Where its user and group numbers have meaning.
    User,
    /// What it sees mounted where.
    Mount,
    /// Which cgroup it takes for the root of all.
    Cgroup,
    /// Which processes it sees, and by what numbers.
    Pid,
}

/// One namespace of the running kernel: its inode number, as all are in one file system.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NamespaceId(u64);

impl NamespaceId {
    /// `PROC_CGROUP_INIT_INO`: the kernel gives the first cgroup namespace this number.
    const INITIAL_CGROUP: u64 = 0xEFFF_FFFB;

    /// The number.
    #[must_use]
    pub fn inode(self) -> u64 {
        self.0
    }

    /// The namespace that a descriptor stands for.
    pub(super) fn of(descriptor: BorrowedFd<'_>) -> Result<Self, Errno> {
        Ok(Self(fstat(descriptor)?.st_ino))
    }

    /// Whether this is the cgroup namespace that the machine started with, whose root is the true
    /// root.
    #[must_use]
    pub fn is_initial_cgroup(self) -> bool {
        self.0 == Self::INITIAL_CGROUP
    }
}

impl Namespace {
    fn link(self) -> &'static CStr {
        match self {
            Self::User => c"ns/user",
            Self::Mount => c"ns/mnt",
            Self::Cgroup => c"ns/cgroup",
            Self::Pid => c"ns/pid",
        }
    }

    /// The namespace that this agent itself is in; `None` if the kernel does not say.
    #[must_use]
    pub fn own(self) -> Option<NamespaceId> {
        static OWN: [OnceLock<Option<NamespaceId>>; 4] = [const { OnceLock::new() }; 4];
        let [user, mount, cgroup, pid] = &OWN;
        let known = match self {
            Self::User => user,
            Self::Mount => mount,
            Self::Cgroup => cgroup,
            Self::Pid => pid,
        };
        *known.get_or_init(|| {
            let own = open(root().ok()?, c"self", OFlags::PATH | OFlags::DIRECTORY).ok()?;
            namespace(own.as_fd(), self)
        })
    }
}

/// The namespace that the process behind a `/proc/PID` handle is in; `None` if this agent may not
/// know. To read the link costs the kernel less than to follow it.
pub(super) fn namespace(directory: BorrowedFd<'_>, kind: Namespace) -> Option<NamespaceId> {
    let mut room = [0; 64];
    let length = readlinkat_raw(directory, kind.link(), &mut room[..]).ok()?;
    namespace_of(room.get(..length)?)
}

/// `user:[4026531837]`
fn namespace_of(link: &[u8]) -> Option<NamespaceId> {
    let (_kind, inode) = std::str::from_utf8(link).ok()?.split_once(":[")?;
    inode.strip_suffix(']')?.parse().ok().map(NamespaceId)
}

/// `/proc`, which must be a proc file system of the PID namespace this agent is in: the numbers
/// the kernel gives for peers mean nothing in another.
pub(super) fn root() -> Result<BorrowedFd<'static>, PeerError> {
    static ROOT: OnceLock<Result<OwnedFd, PeerError>> = OnceLock::new();
    match ROOT.get_or_init(open_root) {
        Ok(root) => Ok(root.as_fd()),
        Err(error) => Err(*error),
    }
}

/// The files that this process has open, which all its threads share, each by its number.
pub(super) fn own_files() -> Result<BorrowedFd<'static>, PeerError> {
    static FILES: OnceLock<Result<OwnedFd, PeerError>> = OnceLock::new();
    let open_files =
        || open(root()?, c"self/fd", OFlags::RDONLY | OFlags::DIRECTORY).map_err(PeerError::Proc);
    match FILES.get_or_init(open_files) {
        Ok(files) => Ok(files.as_fd()),
        Err(error) => Err(*error),
    }
}

fn open_root() -> Result<OwnedFd, PeerError> {
    let root = open(rustix::fs::CWD, c"/proc", OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(PeerError::Proc)?;
    let kind = fstatfs(&root).map_err(PeerError::Proc)?.f_type;
    let own = readlinkat(&root, c"self", Vec::new()).map_err(|_error| PeerError::ProcOfAnother)?;
    let ours = own.to_str().ok().and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    if u64::try_from(kind) == Ok(PROC_MAGIC) && ours {
        Ok(root)
    } else {
        Err(PeerError::ProcOfAnother)
    }
}

pub(super) fn open(
    directory: BorrowedFd<'_>,
    name: &CStr,
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())
}

/// The whole of a file of `/proc/PID`. A process that is gone is [`PeerError::Exited`].
pub(super) fn read(directory: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, PeerError> {
    let file = open(directory, name, OFlags::RDONLY).map_err(PeerError::of_proc)?;
    let mut content = Vec::with_capacity(4096);
    loop {
        if content.len() == content.capacity() {
            if content.len() >= MAX_FILE {
                return Err(PeerError::Proc(Errno::FBIG));
            }
            content.reserve(content.len());
        }
        match rustix::io::read(&file, spare_capacity(&mut content)) {
            Ok(0) => return Ok(content),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(PeerError::of_proc(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_namespace_is_told_by_the_inode_that_its_link_leads_to() {
        let own = |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).unwrap().ino();
        assert_eq!(Namespace::User.own(), Some(NamespaceId(own("user"))));
        assert_eq!(Namespace::Mount.own(), Some(NamespaceId(own("mnt"))));
        assert_eq!(Namespace::Cgroup.own(), Some(NamespaceId(own("cgroup"))));
        for link in ["", "user", "user:[", "user:[]", "user:[x]", "user:[1", "/proc/1/ns/user"] {
            assert_eq!(namespace_of(link.as_bytes()), None, "{link}");
        }
    }
}
