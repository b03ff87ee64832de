//! The Unix socket for administrators: who may open it is decided by the file system.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use steeple::socket_directory;
use steeple::tasks::Tasks;
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{info_span, warn};

use super::caller::{Caller, Process};
use super::connection;
use super::guard::{Guard, Shared};

/// The mode of the directory that the socket is in, if it is made here.
const DIRECTORY_MODE: u32 = 0o750;

/// The mode of the socket.
const SOCKET_MODE: u32 = 0o770;

/// How many connections there may be.
const MAX_CONNECTIONS: usize = 256;

/// How long to wait when the operating system has no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// What accepts administrators.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    routes: Routes,
    shared: Arc<Shared>,
}

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody listens there.
    #[error("{} is in use by a running process; stop it, or choose another socket_path", .0.display())]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{} is there and is not a socket; remove it, or choose another socket_path", .0.display())]
    NotASocket(PathBuf),
    /// The socket cannot be made.
    #[error("cannot make the socket {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl AdminSocket {
    /// Listens on `path`, in place of a socket that nobody listens on any more.
    pub fn bind(path: &Path, routes: Routes, shared: Arc<Shared>) -> Result<Self, SocketError> {
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            prepare(directory).map_err(failed)?;
        }
        make_room(path)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), routes, shared })
    }

    /// Accepts connections until told to stop. They are served by tasks of their own.
    pub async fn run(self, tasks: Tasks, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.accepted(stream, &places, &tasks),
                    Err(error) => {
                        warn!(error = &error as &dyn std::error::Error, "no connection accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
            }
        }
        if let Err(error) = fs::remove_file(&self.path) {
            warn!(error = &error as &dyn std::error::Error, "admin socket not removed");
        }
    }

    fn accepted(&self, stream: UnixStream, places: &Arc<Semaphore>, tasks: &Tasks) {
        let Ok(place) = Arc::clone(places).try_acquire_owned() else {
            return warn!("connection to the admin socket closed: there are too many");
        };
        let caller = match stream.peer_cred() {
            Ok(credentials) => Caller::Local(Process {
                uid: credentials.uid(),
                gid: credentials.gid(),
                pid: credentials.pid().filter(|pid| *pid > 0),
            }),
            Err(error) => {
                return warn!(error = &error as &dyn std::error::Error, "caller not identified");
            }
        };
        let guard = Guard::new(self.routes.clone(), Arc::new(caller), Arc::clone(&self.shared));
        tasks.spawn(info_span!("admin"), |stop| async move {
            connection::serve(stream, guard, stop).await;
            drop(place);
        });
    }
}

/// Makes the directory, or warns of one in which the socket would not be safe.
fn prepare(directory: &Path) -> io::Result<()> {
    socket_directory::make(directory, DIRECTORY_MODE)?;
    let own = rustix::process::geteuid().as_raw();
    if socket_directory::others_may_replace(directory, own)? {
        warn!(directory = %directory.display(), "others may replace the admin socket in this directory; \
            give it one that only the server's user or root may write to");
    }
    Ok(())
}

/// Removes a socket that a process left when it ended.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener as StdUnixListener;

    use super::*;

    #[test]
    fn a_dead_socket_makes_room_and_nothing_else_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        assert!(make_room(&path).is_ok());

        let listener = StdUnixListener::bind(&path).unwrap();
        assert!(matches!(make_room(&path), Err(SocketError::InUse(_))));
        drop(listener);
        assert!(path.exists());
        assert!(make_room(&path).is_ok());
        assert!(!path.exists());

        fs::write(&path, "precious").unwrap();
        assert!(matches!(make_room(&path), Err(SocketError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
