//! Makes the Unix socket that workloads find, and takes it away again; nothing else at its path
//! is ever touched.

use std::ffi::OsString;
use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use steeple::socket_directory;
use steeple::watch::{Watched, watch};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::warn;

use super::Audience;

/// What fits the address of a Unix socket beside the zero that ends it.
const MAX_PATH: usize = 107;

/// How long a listener may take to show that it is alive. One whose queue is full is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum BindError {
    /// The path does not name a file, or not everywhere the same one.
    #[error("socket path `{0}` must be absolute and name a file")]
    Path(PathBuf),
    /// The path does not fit a socket address.
    #[error("socket path `{path}` has {length} bytes, and a Unix socket takes {MAX_PATH} at most")]
    PathLength {
        /// The path as configured.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// Somebody listens there, such as another agent.
    #[error("another process listens on `{0}`")]
    InUse(PathBuf),
    /// Something other than a socket is there.
    #[error("`{path}` is {what}; remove it, or choose another socket path")]
    Occupied {
        /// The path as configured.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The system refused.
    #[error("cannot {action} `{path}`")]
    System {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A socket file that was made here. Dropping it removes the file, if it is still the same one.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Tells files apart that follow one another at one path. The number of an inode is soon given to
/// another file, so the time of its last change belongs to it.
#[derive(Debug, PartialEq)]
struct Identity {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

impl SocketFile {
    /// Makes a socket that its audience may connect to, in a directory that is made if need be.
    ///
    /// # Errors
    /// What is in the way. A socket that nobody listens on is not.
    pub async fn bind(path: &Path, audience: Audience) -> Result<(Self, Watched), BindError> {
        let (directory_mode, mode) = match audience {
            Audience::Everybody => (0o755, 0o777),
            Audience::Administrators => (0o750, 0o770),
        };
        check_path(path)?;
        let directory = path.parent().ok_or_else(|| BindError::Path(path.to_owned()))?;
        prepare_directory(directory, directory_mode)?;
        clear(path).await?;
        // Nobody sees the socket before anybody may use it.
        let hidden = hidden(path)?;
        clear(&hidden).await?;
        let failed = |action, source| system(action, path, source);
        let listener = UnixListener::bind(&hidden).map_err(|error| failed("bind", error))?;
        listener.set_nonblocking(true).map_err(|error| failed("set up", error))?;
        let listener = watch(Arc::new(listener.into()), Interest::READABLE)
            .map_err(|error| failed("set up", error))?;
        let permitted = fs::set_permissions(&hidden, Permissions::from_mode(mode));
        permitted.map_err(|error| failed("set the mode of", error))?;
        fs::rename(&hidden, path).map_err(|error| failed("rename a socket to", error))?;
        let metadata = fs::symlink_metadata(path).map_err(|error| failed("inspect", error))?;
        Ok((Self { path: path.to_owned(), identity: Identity::of(&metadata) }, listener))
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Self { device: metadata.dev(), inode: metadata.ino(), changed }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| Identity::of(&found) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            warn!(error = &error as &dyn std::error::Error, path = %self.path.display(), "socket left behind");
        }
    }
}

fn check_path(path: &Path) -> Result<(), BindError> {
    let length = path.as_os_str().len();
    if length > MAX_PATH {
        return Err(BindError::PathLength { path: path.to_owned(), length });
    }
    let file = path.as_os_str().as_bytes().last() != Some(&b'/');
    if !path.is_absolute() || path.file_name().is_none() || !file {
        return Err(BindError::Path(path.to_owned()));
    }
    Ok(())
}

fn prepare_directory(directory: &Path, mode: u32) -> Result<(), BindError> {
    let made = socket_directory::make(directory, mode);
    made.map_err(|error| system("create the directory", directory, error))?;
    let own = rustix::process::geteuid().as_raw();
    let found = socket_directory::others_may_replace(directory, own);
    if found.map_err(|error| system("inspect", directory, error))? {
        warn!(directory = %directory.display(), "others may replace the socket in this directory; \
            give it one that only the agent's user or root may write to");
    }
    Ok(())
}

/// Makes sure that nothing is at the path, except a socket that was left behind, which goes.
async fn clear(path: &Path) -> Result<(), BindError> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system("inspect", path, error)),
    };
    let occupied = |what| Err(BindError::Occupied { path: path.to_owned(), what });
    if kind.is_symlink() {
        return occupied("a symbolic link");
    }
    if kind.is_dir() {
        return occupied("a directory");
    }
    if !kind.is_socket() {
        return occupied("a file that is not a socket");
    }
    match timeout(PATIENCE, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| system("remove the unused socket", path, error))
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // A queue that is full answers WouldBlock: somebody listens, and is busy.
        Ok(Ok(_)) | Err(_) => Err(BindError::InUse(path.to_owned())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(BindError::InUse(path.to_owned()))
        }
        Ok(Err(error)) => Err(system("find out who listens on", path, error)),
    }
}

/// Another name in the same directory, just as long, and the same after a crash.
fn hidden(path: &Path) -> Result<PathBuf, BindError> {
    let name = path.file_name().ok_or_else(|| BindError::Path(path.to_owned()))?;
    let mut name = name.as_bytes().to_vec();
    for first in name.iter_mut().take(1) {
        *first = if *first == b'~' { b'.' } else { b'~' };
    }
    Ok(path.with_file_name(OsString::from_vec(name)))
}

fn system(action: &'static str, path: &Path, source: io::Error) -> BindError {
    BindError::System { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net;

    use super::*;

    /// Binds at `agent.sock` in a directory that `prepare` got ready.
    async fn bind(
        prepare: impl FnOnce(&Path),
    ) -> (tempfile::TempDir, Result<(SocketFile, Watched), BindError>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        prepare(&path);
        let bound = SocketFile::bind(&path, Audience::Everybody).await;
        (directory, bound)
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[tokio::test]
    async fn every_user_may_connect_and_the_file_goes_with_the_endpoint() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b/agent.sock");
        let (file, listener) = SocketFile::bind(&path, Audience::Everybody).await.unwrap();
        assert_eq!(mode(&path), 0o777);
        assert_eq!(mode(&root.path().join("a")), 0o755);
        assert_eq!(mode(&root.path().join("a/b")), 0o755);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let _client = net::UnixStream::connect(&path).unwrap();
        rustix::net::accept(listener.get_ref()).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_socket_for_administrators_is_for_the_agents_user_and_group() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/admin.sock");
        let _bound = SocketFile::bind(&path, Audience::Administrators).await.unwrap();
        assert_eq!(mode(&path), 0o770);
        assert_eq!(mode(&root.path().join("a")), 0o750);
    }

    #[tokio::test]
    async fn a_directory_that_exists_keeps_its_mode() {
        let (directory, bound) = bind(|path| {
            fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o711)).unwrap();
        })
        .await;
        bound.unwrap();
        assert_eq!(mode(directory.path()), 0o711);
    }

    #[tokio::test]
    async fn a_socket_nobody_listens_on_is_replaced() {
        let (_directory, bound) = bind(|path| drop(UnixListener::bind(path).unwrap())).await;
        bound.unwrap();
        let hidden = |path: &Path| path.with_file_name("~gent.sock");
        let crashed = |path: &Path| drop(UnixListener::bind(hidden(path)).unwrap());
        let (directory, bound) = bind(crashed).await;
        let _kept = bound.unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_socket_somebody_listens_on_is_left_alone() {
        let mut listener = None;
        let (directory, bound) =
            bind(|path| listener = Some(UnixListener::bind(path).unwrap())).await;
        assert!(matches!(bound, Err(BindError::InUse(_))), "{bound:?}");
        net::UnixStream::connect(directory.path().join("agent.sock")).unwrap();
    }

    /// H202
    #[tokio::test]
    async fn anything_but_a_socket_is_left_alone_and_named() {
        type Prepare = fn(&Path);
        let cases: [(Prepare, &str); 4] = [
            (|path| fs::create_dir(path).unwrap(), "a directory"),
            (|path| fs::write(path, "precious").unwrap(), "a file that is not a socket"),
            (|path| symlink("/nowhere", path).unwrap(), "a symbolic link"),
            (
                |path| {
                    drop(UnixListener::bind(path.with_file_name("other")).unwrap());
                    symlink(path.with_file_name("other"), path).unwrap();
                },
                "a symbolic link",
            ),
        ];
        for (prepare, expected) in cases {
            let (directory, bound) = bind(prepare).await;
            assert!(
                matches!(&bound, Err(BindError::Occupied { what, .. }) if *what == expected),
                "{bound:?}"
            );
            assert!(fs::symlink_metadata(directory.path().join("agent.sock")).is_ok());
        }
    }

    #[tokio::test]
    async fn a_path_is_absolute_and_fits_an_address() {
        let directory = tempfile::tempdir().unwrap();
        let of_length = |length: usize| {
            let rest = length - directory.path().as_os_str().len() - 1;
            directory.path().join("s".repeat(rest))
        };
        SocketFile::bind(&of_length(MAX_PATH), Audience::Everybody).await.unwrap();
        let long = SocketFile::bind(&of_length(MAX_PATH + 1), Audience::Everybody).await;
        assert!(matches!(long, Err(BindError::PathLength { length: 108, .. })), "{long:?}");
        for path in ["agent.sock", "./agent.sock", "/", "", "/run/..", "/run/x/"] {
            let bound = SocketFile::bind(Path::new(path), Audience::Everybody).await;
            assert!(matches!(bound, Err(BindError::Path(_))), "{path}: {bound:?}");
        }
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_not_removed() {
        let (directory, bound) = bind(|_| {}).await;
        let (file, listener) = bound.unwrap();
        drop(listener);
        let successor = SocketFile::bind(file.path(), Audience::Everybody).await.unwrap();
        drop(file);
        net::UnixStream::connect(directory.path().join("agent.sock")).unwrap();
        drop(successor);
    }
}
