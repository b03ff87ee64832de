//! The data directory, which one server at a time has.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::lock::{Lock, LockError};

/// The mode of the directory, if it is made here.
const MODE: u32 = 0o750;

/// The file that whoever has the directory holds a lock on.
const LOCK: &str = "server.lock";

/// A data directory that is ours until this is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DataDir {
    _lock: Lock,
}

/// Why a data directory is not ours.
#[derive(Debug, Error)]
pub(super) enum DataDirError {
    /// Another server has it.
    #[error(
        "the data directory {} is in use by another server ({holder}); stop that one, or set \
         another data_dir",
        path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// It cannot be made or used.
    #[error(
        "the data directory {} cannot be used; make it the server user's own, or set another \
         data_dir",
        path.display()
    )]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Makes the directory if it is not there.
pub(super) fn make(path: &Path) -> Result<(), DataDirError> {
    let made = DirBuilder::new().recursive(true).mode(MODE).create(path);
    made.map_err(|source| DataDirError::Io { path: path.to_owned(), source })
}

impl DataDir {
    /// Makes the directory if it is not there, and takes it.
    pub(super) fn take(path: &Path) -> Result<Self, DataDirError> {
        let failed = |source| DataDirError::Io { path: path.to_owned(), source };
        make(path)?;
        match Lock::take(&path.join(LOCK)) {
            Ok(lock) => Ok(Self { _lock: lock }),
            Err(LockError::Held(holder)) => {
                Err(DataDirError::InUse { path: path.to_owned(), holder })
            }
            Err(LockError::Io(error)) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_belongs_to_one_server_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDir::take(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o750);
        let error = DataDir::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(DataDir::take(&path).is_ok());
    }

    #[test]
    fn what_is_not_a_directory_is_an_error_that_names_it() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("file");
        fs::write(&path, "").unwrap();
        let error = DataDir::take(&path).unwrap_err();
        assert!(matches!(error, DataDirError::Io { .. }));
        assert!(error.to_string().contains("file cannot be used"), "{error}");
    }
}
