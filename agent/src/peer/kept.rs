//! A file of `/proc/PID` that is read for each request of a connection.
//!
//! Opening such a file, and finding where it ends, takes as long as the kernel takes to write it.
//! Most connections make one request, which is to cost no descriptor: from the second on it stays
//! open. Whatever is read is what the kernel writes at that moment, and of the process that the
//! directory is of, or nothing once that is gone.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::{Errno, pread};

use super::{PeerError, proc};

/// Room for what such a file usually says.
const ROOM: usize = 4096;

/// One that the kernel writes in one piece: a read that leaves room has all of it.
#[derive(Debug)]
pub(super) struct Kept {
    name: &'static CStr,
    was_read: AtomicBool,
    file: OnceLock<OwnedFd>,
}

impl Kept {
    pub(super) const fn new(name: &'static CStr) -> Self {
        Self { name, was_read: AtomicBool::new(false), file: OnceLock::new() }
    }

    /// Shows `to` what the file says now. `directory` is always the same `/proc/PID`.
    pub(super) fn read<T>(
        &self,
        directory: BorrowedFd<'_>,
        to: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, PeerError> {
        let mut room = [0; ROOM];
        let length = match self.file.get() {
            Some(file) => fill(file, &mut room),
            None => {
                let file = proc::open(directory, self.name, OFlags::RDONLY);
                let file = file.map_err(PeerError::of_proc)?;
                let length = fill(&file, &mut room);
                if self.was_read.swap(true, Ordering::Relaxed) {
                    // If another was faster, that one is kept.
                    drop(self.file.set(file));
                }
                length
            }
        };
        match room.get(..length?) {
            Some(content) if content.len() < ROOM => Ok(to(content)),
            Some(_) | None => proc::read(directory, self.name).map(|content| to(&content)),
        }
    }
}

/// Reads a file from its beginning, as much of it as there is room for.
fn fill(file: &OwnedFd, room: &mut [u8; ROOM]) -> Result<usize, PeerError> {
    loop {
        match pread(file, &mut room[..], 0) {
            Err(Errno::INTR) => {}
            result => return result.map_err(PeerError::of_proc),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_file_is_kept_open_from_the_second_time_and_says_what_is_true_now() {
        let name = "/proc/thread-self";
        let directory = std::fs::File::open(name).unwrap();
        let kept = Kept::new(c"comm");
        let now = || kept.read(directory.as_fd(), <[u8]>::to_vec).unwrap();
        for (turn, comm) in ["one", "two", "three", "four"].into_iter().enumerate() {
            std::fs::write(format!("{name}/comm"), comm).unwrap();
            assert_eq!(now(), format!("{comm}\n").as_bytes());
            assert_eq!(kept.file.get().is_some(), turn > 0);
        }
    }

    #[test]
    fn a_file_that_is_longer_than_usual_is_read_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let handle = std::fs::File::open(directory.path()).unwrap();
        for length in [0, 1, ROOM - 1, ROOM, ROOM + 1, 5 * ROOM] {
            let kept = Kept::new(c"file");
            std::fs::write(directory.path().join("file"), vec![7; length]).unwrap();
            for _ in 0..3 {
                let read = kept.read(handle.as_fd(), <[u8]>::to_vec).unwrap();
                assert_eq!(read, vec![7; length]);
            }
        }
    }
}
