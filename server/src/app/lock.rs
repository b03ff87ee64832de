//! A file that one process at a time holds a lock on, and that says which.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use steeple::locked::LockedFile;

/// A lock that is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: LockedFile,
}

/// Why a lock is not ours.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process has it, of which this is known.
    Held(String),
    /// It cannot be made or taken.
    Io(io::Error),
}

impl Lock {
    /// Makes the file if it is not there, locks it, and signs it.
    pub(super) fn take(path: &Path) -> Result<Self, LockError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o640);
        let mut file = options.open(path).map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(file))),
            Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        let sign = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        sign(&mut file).map_err(LockError::Io)?;
        Ok(Self { _file: LockedFile::new(file) })
    }
}

/// Who signed the lock.
fn holder(lock: File) -> String {
    let mut pid = String::new();
    let read = lock.take(16).read_to_string(&mut pid).is_ok();
    match pid.trim().parse::<u32>() {
        Ok(pid) if read => match fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(name) => format!("process {pid}, {}", name.trim()),
            Err(_) => format!("process {pid}"),
        },
        Ok(_) | Err(_) => "an unknown process".into(),
    }
}
