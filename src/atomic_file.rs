//! Files that are either the old or the new content, also after a crash.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

pub mod set;

/// Who may read a written file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Mode 0600: keys, and all that is nobody else's business.
    Private,
    /// Mode 0644.
    Public,
}

/// Replaces the content of `path` in one step: written beside it, synced, renamed, and the
/// directory synced.
pub fn write(path: &Path, content: &[u8], access: Access) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    stage(directory, content, access)?.persist(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// A file of this content in the directory, under a name that it is not to keep.
fn stage(directory: &Path, content: &[u8], access: Access) -> io::Result<NamedTempFile> {
    let mode = match access {
        Access::Private => 0o600,
        Access::Public => 0o644,
    };
    let mut file = tempfile::Builder::new()
        .prefix(".new-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    file.write_all(content)?;
    // The mode at creation is cut by the umask.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        write(&path, b"old", Access::Public).unwrap();
        write(&path, b"new", Access::Private).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_an_error_that_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let error = write(&directory.path().join("no/key"), b"", Access::Private).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
