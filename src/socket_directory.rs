//! The directory that a socket is in. Whoever may write to it may put another socket in its place.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

/// Makes the directory with this mode if it is not there. One that is there already keeps its mode: it
/// may be shared, and its mode deliberate.
///
/// # Errors
/// It cannot be made.
pub fn make(directory: &Path, mode: u32) -> io::Result<()> {
    match directory.is_dir() {
        true => Ok(()),
        false => DirBuilder::new().recursive(true).mode(mode).create(directory),
    }
}

/// Whether users other than root and `own` may put something else in the place of a socket there.
///
/// # Errors
/// The directory cannot be looked at.
pub fn others_may_replace(directory: &Path, own: u32) -> io::Result<bool> {
    let metadata = fs::metadata(directory)?;
    Ok(may_replace((metadata.mode(), metadata.uid()), own))
}

/// Whether they may in a directory of this mode and owner. The owner always may.
fn may_replace((mode, owner): (u32, u32), own: u32) -> bool {
    let is_shared = mode & 0o022 != 0 && mode & 0o1000 == 0;
    is_shared || (owner != own && owner != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_the_own_user_and_root_may_replace_a_socket_unnoticed() {
        for (mode, owner, expected) in [
            (0o755, 1_000, false),
            (0o755, 0, false),
            (0o1777, 0, false),   // /tmp
            (0o755, 1_001, true), // made by another user before the program came
            (0o1777, 1_001, true),
            (0o775, 1_000, true),
            (0o757, 0, true),
        ] {
            assert_eq!(may_replace((mode, owner), 1_000), expected, "{mode:o} {owner}");
        }
    }

    #[test]
    fn a_directory_is_made_with_its_mode_and_otherwise_left_with_its_own() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let own = fs::metadata(parent.path()).unwrap().uid();
        make(&path, 0o700).unwrap();
        let mode = || fs::metadata(&path).unwrap().mode() & 0o7777;
        assert_eq!(mode(), 0o700);
        assert!(!others_may_replace(&path, own).unwrap());
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        make(&path, 0o700).unwrap();
        assert_eq!(mode(), 0o777);
        assert!(others_may_replace(&path, own).unwrap());
        assert!(others_may_replace(&parent.path().join("none"), own).is_err());
    }
}
