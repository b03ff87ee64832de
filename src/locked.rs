//! A lock on a file that ends with its holder.

use std::fs::File;
use std::ops::Deref;

/// A file that is locked (`flock(2)`) until this is dropped or the process ends, however it ends.
///
/// To close it would not be enough: a child that is being started has a copy of the descriptor, and
/// with that of the lock, until it runs another program.
#[derive(Debug)]
pub struct LockedFile(File);

impl LockedFile {
    /// Takes charge of a file that was locked.
    #[must_use]
    pub const fn new(locked: File) -> Self {
        Self(locked)
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // What cannot be unlocked is unlocked when it is closed.
        let _closed_anyway = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_the_descriptor_does_not_keep_the_lock() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || File::options().write(true).open(file.path()).unwrap();
        let locked = open();
        locked.try_lock().unwrap();
        let _copy = locked.try_clone().unwrap();
        let locked = LockedFile::new(locked);
        assert!(open().try_lock().is_err());
        drop(locked);
        open().try_lock().unwrap();
    }
}
