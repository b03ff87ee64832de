//! A file system of its own, small enough to be full. Only root can have one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system, mounted until this is dropped. Declare it after what uses the directory around
/// it, which can then be removed.
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// Mounts one of this size at `path`, a new directory.
    pub(crate) fn mount(path: &Path, size: &str) -> Self {
        fs::create_dir(path).unwrap();
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(path);
        assert!(mount.status().unwrap().success());
        Self(path.to_owned())
    }

    /// Leaves no byte free.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let refused = loop {
            if let Err(error) = ballast.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(refused.kind(), ErrorKind::StorageFull);
    }

    /// Frees so many bytes of what [`Disk::fill`] took.
    pub(crate) fn spare(&self, bytes: u64) {
        let ballast = File::options().write(true).open(self.ballast()).unwrap();
        let taken = ballast.metadata().unwrap().len();
        ballast.set_len(taken - bytes).unwrap();
    }

    /// Frees what [`Disk::fill`] took.
    pub(crate) fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has files there may keep them.
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{:?} is mounted", self.0);
    }
}
