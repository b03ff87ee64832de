//! Files of one directory that are replaced together, or not at all.
//!
//! Each of them is the old or the new one at any moment. Whoever locks the directory (`flock(2)`)
//! sees files that belong together; whoever does not may see the first of a new set beside the last
//! of the old one for a moment. What happens halfway is undone, save for a loss of power, where the
//! file system can swap two files; where it cannot, as over a network, nothing is undone.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempPath;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{Access, stage};

/// How long readers may keep the directory locked, and how often to look.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// A file of a set.
pub struct Member {
    /// Its name in the directory.
    pub name: String,
    /// What is in it.
    pub content: Zeroizing<String>,
    /// Who may read it.
    pub access: Access,
}

/// Why there is no new set.
#[derive(Debug, Error)]
#[error("cannot write {}", path.display())]
pub struct ReplaceError {
    path: PathBuf,
    source: io::Error,
}

/// What was done to one name, and can be undone.
enum Step<'a> {
    /// The old file, if there was one, has the other name.
    Swapped(&'a Path, &'a Path),
    /// There was none before.
    Made(&'a Path),
    /// The file has the other name, and there is none of its own.
    Moved(&'a Path, &'a Path),
    /// The old one is gone, on a file system that cannot swap two files.
    Replaced,
}

/// Puts `members` into the directory, in their order, in the place of all files whose names are
/// `of_set`.
///
/// # Errors
/// A file cannot be written, or the directory is locked: all is as it was.
pub fn replace(
    directory: &Path,
    members: &[Member],
    of_set: impl Fn(&str) -> bool,
) -> Result<(), ReplaceError> {
    replace_within(PATIENCE, directory, members, of_set)
}

fn replace_within(
    patience: Duration,
    directory: &Path,
    members: &[Member],
    of_set: impl Fn(&str) -> bool,
) -> Result<(), ReplaceError> {
    let failed = |path: &Path, source| ReplaceError { path: path.to_owned(), source };
    let of_directory = |source| failed(directory, source);
    let handle = File::open(directory).map_err(of_directory)?;
    lock(&handle, patience).map_err(of_directory)?;
    let new = |member: &Member| {
        let path = directory.join(&member.name);
        match stage(directory, member.content.as_bytes(), member.access) {
            Ok(_) if is_directory(&path) => Err(failed(&path, io::ErrorKind::IsADirectory.into())),
            Ok(staged) => Ok((staged.into_temp_path(), path)),
            Err(error) => Err(failed(&path, error)),
        }
    };
    let new = members.iter().map(new).collect::<Result<Vec<_>, _>>()?;
    let gone = gone(directory, members, of_set).map_err(of_directory)?;
    let gone = gone.into_iter().map(|path| {
        let aside = stage(directory, b"", Access::Private).map_err(of_directory)?;
        Ok((aside.into_temp_path(), path))
    });
    let gone = gone.collect::<Result<Vec<_>, _>>()?;
    let puts = new.iter().map(|(aside, path)| (put(aside, path), path));
    let takes = gone.iter().map(|(aside, path)| (take(path, aside), path));
    let mut done = Vec::new();
    // Lazily: nothing is done after what failed.
    for (step, path) in puts.chain(takes) {
        match step {
            Ok(step) => done.push(step),
            Err(error) => {
                done.into_iter().rev().for_each(Step::undo);
                return Err(failed(path, error));
            }
        }
    }
    for (aside, path) in new.into_iter().chain(gone) {
        remove(aside).map_err(|error| failed(&path, error))?;
    }
    handle.sync_all().map_err(of_directory)
}

/// Waits for whoever reads the directory, and not for somebody who keeps it locked.
fn lock(directory: &File, patience: Duration) -> io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(PAUSE),
            Err(TryLockError::WouldBlock) => {
                let held = "another process keeps it locked (flock); nothing was written";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, held));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// The files of the set of before that are not in the new one.
fn gone(
    directory: &Path,
    members: &[Member],
    of_set: impl Fn(&str) -> bool,
) -> io::Result<Vec<PathBuf>> {
    let mut gone = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let is_gone = |name: &str| of_set(name) && members.iter().all(|m| m.name != name);
        if name.to_str().is_some_and(is_gone) {
            gone.push(directory.join(name));
        }
    }
    Ok(gone)
}

fn put<'a>(aside: &'a Path, path: &'a Path) -> io::Result<Step<'a>> {
    match renameat_with(CWD, aside, CWD, path, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(Step::Swapped(aside, path)),
        Err(rustix::io::Errno::NOENT) => fs::rename(aside, path).map(|()| Step::Made(path)),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            fs::rename(aside, path).map(|()| Step::Replaced)
        }
        Err(error) => Err(error.into()),
    }
}

fn take<'a>(path: &'a Path, aside: &'a Path) -> io::Result<Step<'a>> {
    fs::rename(path, aside).map(|()| Step::Moved(path, aside))
}

fn remove(aside: TempPath) -> io::Result<()> {
    match aside.close() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

impl Step<'_> {
    /// As far as it can be: there is nothing else to do about it.
    fn undo(self) {
        let _undone = match self {
            Self::Swapped(aside, path) => {
                renameat_with(CWD, aside, CWD, path, RenameFlags::EXCHANGE).map_err(io::Error::from)
            }
            Self::Made(path) => fs::remove_file(path),
            Self::Moved(path, aside) => fs::rename(aside, path),
            Self::Replaced => Ok(()),
        };
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NAMES: [&str; 3] = ["key", "bundle", "svid"];

    fn members(names: &[&str], content: &str) -> Vec<Member> {
        let member = |name: &&str| Member {
            name: (*name).to_owned(),
            content: content.to_owned().into(),
            access: Access::Private,
        };
        names.iter().map(member).collect()
    }

    fn of_set(name: &str) -> bool {
        NAMES.contains(&name) || name.starts_with("more")
    }

    /// What is in each file of a directory.
    fn contents(directory: &Path) -> BTreeMap<String, String> {
        let read = |entry: io::Result<fs::DirEntry>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap_or_else(|_| "a directory".into()))
        };
        fs::read_dir(directory).unwrap().map(read).collect()
    }

    #[track_caller]
    fn check(directory: &Path, expected: &[(&str, &str)]) {
        let expected = expected.iter().map(|(name, it)| ((*name).to_owned(), (*it).to_owned()));
        assert_eq!(contents(directory), expected.collect());
    }

    #[test]
    fn a_set_takes_the_place_of_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("other"), "other").unwrap();
        replace(path, &members(&["key", "more"], "1"), of_set).unwrap();
        check(path, &[("key", "1"), ("more", "1"), ("other", "other")]);
        replace(path, &members(&["key", "svid"], "2"), of_set).unwrap();
        check(path, &[("key", "2"), ("other", "other"), ("svid", "2")]);
    }

    #[test]
    fn whoever_keeps_the_directory_locked_is_named_as_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let reader = File::open(path).unwrap();
        reader.lock_shared().unwrap();
        let members = members(&["key"], "1");
        let error = replace_within(PAUSE, path, &members, of_set).unwrap_err();
        assert!(error.source.to_string().contains("keeps it locked"), "{error:?}");
        check(path, &[]);
        reader.unlock().unwrap();
        replace_within(PAUSE, path, &members, of_set).unwrap();
        check(path, &[("key", "1")]);
    }

    #[test]
    fn a_set_that_cannot_be_written_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        replace(path, &members(&["key", "more"], "1"), of_set).unwrap();
        fs::create_dir(path.join("svid")).unwrap();
        let refused = |name: &str| {
            let error = replace(path, &members(&NAMES, "2"), of_set).unwrap_err();
            assert_eq!(error.to_string(), format!("cannot write {}", path.join(name).display()));
        };
        refused("svid");
        check(path, &[("key", "1"), ("more", "1"), ("svid", "a directory")]);
        // What is noticed when all others are in their places.
        fs::remove_dir(path.join("svid")).unwrap();
        fs::create_dir(path.join("more2")).unwrap();
        refused("more2");
        check(path, &[("key", "1"), ("more", "1"), ("more2", "a directory")]);
    }

    #[test]
    fn who_locks_the_directory_sees_files_that_belong_together() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        replace(path, &members(&NAMES, "0"), of_set).unwrap();
        std::thread::scope(|scope| {
            for writer in ["1", "2", "3"] {
                let write = move |_| replace(path, &members(&NAMES, writer), of_set).unwrap();
                scope.spawn(move || (0..30).for_each(write));
            }
            for _ in 0..200 {
                let handle = File::open(path).unwrap();
                handle.lock_shared().unwrap();
                let found = contents(path);
                assert_eq!(found.len(), 3, "{found:?}");
                assert!(found.values().all(|content| *content == found["key"]), "{found:?}");
            }
        });
    }
}
