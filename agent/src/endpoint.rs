//! An endpoint: a Unix socket that speaks gRPC to any client, to no more of them than there is room
//! for, and knows who each of them is before it hears a word. There is one for workloads, which
//! everybody may connect to, and perhaps one for administrators.
//!
//! What is served there is not its business.

pub mod authority;
pub mod budget;
mod door;
mod gate;
mod head;
pub mod hpack;
pub mod limits;
mod request;
mod seats;
pub mod socket;
pub mod stream;
mod wire;

use std::error::Error;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use rustix::net::{SocketFlags, accept_with};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use steeple::watch::Watched;
use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::service::Routes;
use tracing::{debug, warn};

use self::authority::{MAX_FRAME, MAX_HEADER_LIST};
use self::budget::{Budget, Origin, Seat};
use self::door::{Door, Regret};
use self::gate::Gate;
use self::limits::{Exhausted, Limits};
use self::seats::Seats;
use self::socket::{BindError, SocketFile};
use self::stream::PeerStream;
use self::wire::Wire;

/// How much of a connection's requests may be on its way and not yet read. No message is longer.
const WINDOW: u32 = 65_535;

/// How much of an answer may wait for a client that does not read.
const SEND_BUFFER: usize = 64 * 1024;

/// How long to leave a system alone that has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Whom an endpoint is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Audience {
    /// Every user. The socket has mode 0777, in a directory of 0755, and calls need the security
    /// header of the Workload API.
    Everybody,
    /// The agent's own user and group. The socket has mode 0770, in a directory of 0750.
    Administrators,
}

/// What an endpoint is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the socket is.
    pub path: PathBuf,
    /// Whom it is for.
    pub audience: Audience,
    /// How much it takes on.
    pub limits: Limits,
    /// How long a client may take over the preface, and over each header block.
    pub patience: Duration,
    /// How long connections may go on after a stop, or after their place was given to others.
    pub grace: Duration,
}

impl Config {
    /// A socket at this path, and what suits production.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let (patience, grace) = (Duration::from_secs(5), Duration::from_secs(3));
        let audience = Audience::Everybody;
        Self { path, audience, limits: Limits::default(), patience, grace }
    }

    /// The same for administrators, of whom there are few.
    #[must_use]
    pub fn for_administrators(path: PathBuf) -> Self {
        let (audience, limits) = (Audience::Administrators, Limits::of_administrators());
        Self { audience, limits, ..Self::new(path) }
    }

    /// The same, with no more clients than the process can have descriptors for.
    #[must_use]
    pub fn fit(self) -> Self {
        let wanted = self.limits.descriptors();
        let limits = self.limits.within(raise_descriptors(wanted));
        if limits != self.limits {
            warn!(wanted, connections = limits.connections.all, "limit of open files is low");
        }
        Self { limits, ..self }
    }
}

/// A socket that is bound: clients can connect, and wait to be served.
#[derive(Debug)]
pub struct Endpoint {
    config: Config,
    listener: Watched,
    file: SocketFile,
}

/// What all connections share.
struct Server {
    config: Config,
    http2: http2::Builder<Spawner>,
    streams: TaskTracker,
    routes: Routes,
    stop: CancellationToken,
}

/// A client that is let in, or has to be told that there is no room.
enum Admitted<C> {
    In(Wire, C, Arc<Seat>),
    Away(Wire, Exhausted),
}

/// Starts the tasks that answer requests, so that a stop can wait for them.
#[derive(Clone, Debug)]
struct Spawner(TaskTracker);

impl Endpoint {
    /// Makes the socket.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn bind(config: Config) -> Result<Self, BindError> {
        let (file, listener) = SocketFile::bind(&config.path, config.audience).await?;
        Ok(Self { config, listener, file })
    }

    /// Where the socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// Serves until `stop`. Each connection belongs to the peer that `pin` makes of it at accept,
    /// before anything is read, and where that says that it comes from; handlers find it in the
    /// extensions of their requests. On a stop
    /// the socket goes, clients are told to go elsewhere, and what has not ended by the end of
    /// the grace period is cut off.
    pub async fn serve<C, E>(
        self,
        routes: Routes,
        pin: impl Fn(&OwnedFd) -> Result<(C, Origin), E> + Send + Sync,
        stop: CancellationToken,
    ) where
        C: Clone + Send + Sync + 'static,
        E: Error + 'static,
    {
        let Self { config, listener, file } = self;
        let mut seats = Seats::new(Budget::new(config.limits, geteuid().as_raw()));
        let mut door = Door::default();
        let server = Arc::new(Server::new(config, routes, stop.clone()));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                socket = accept(&listener) => match admit(socket, &mut seats, &pin) {
                    Ok(Admitted::In(wire, peer, seat)) => {
                        connections.spawn(Arc::clone(&server).connection(wire, peer, seat));
                    }
                    Ok(Admitted::Away(wire, limit)) => {
                        let told = Arc::clone(&server).turn_away(wire, limit);
                        door.stand_at(connections.spawn(told));
                    }
                    Err(error) => debug!(error = &*error, "connection refused"),
                },
            }
        }
        drop((listener, file));
        door.close();
        seats.dismiss_all();
        server.drain(connections).await;
    }
}

impl Server {
    fn new(config: Config, routes: Routes, stop: CancellationToken) -> Self {
        let streams = TaskTracker::new();
        let mut http2 = http2::Builder::new(Spawner(streams.clone()));
        let list = u32::try_from(MAX_HEADER_LIST).unwrap_or(u32::MAX);
        http2
            // The filter replaces an authority by one that may be longer.
            .max_header_list_size(list.saturating_add(1024))
            .max_frame_size(u32::try_from(MAX_FRAME).ok())
            .max_concurrent_streams(config.limits.requests_per_connection)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .auto_date_header(false);
        Self { config, http2, streams, routes: routes.prepare(), stop }
    }

    /// Serves one connection to its end. Small: there are as many of these as workloads.
    fn connection<C>(
        self: Arc<Self>,
        wire: Wire,
        peer: C,
        seat: Arc<Seat>,
    ) -> impl Future<Output = ()> + Send
    where
        C: Clone + Send + Sync + 'static,
    {
        let (routes, audience) = (self.routes.clone(), self.config.audience);
        let gate = Gate { routes, audience, peer, seat: Arc::clone(&seat) };
        let io = TokioIo::new(PeerStream::new(wire, self.config.patience));
        let mut connection = Box::pin(self.http2.serve_connection(io, gate));
        async move {
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = seat.dismissed() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        ended = connection => ended,
                        () = self.last_call(&seat) => Ok(()),
                    }
                }
            };
            if let Err(error) = ended {
                debug!(error = &error as &dyn Error, "connection failed");
            }
        }
    }

    /// Returns when a connection that was told to end has to be cut off, unless all are.
    async fn last_call(&self, seat: &Seat) {
        if self.stop.is_cancelled() {
            return std::future::pending().await;
        }
        tokio::select! {
            () = sleep(self.config.grace) => {}
            () = seat.dismissed() => {}
        }
    }

    /// Answers what a client asks first, and nothing more.
    async fn turn_away(self: Arc<Self>, wire: Wire, limit: Exhausted) {
        let asked = Notify::new();
        let regret = Regret { status: Status::unavailable(limit.to_string()), asked: &asked };
        let io = TokioIo::new(PeerStream::new(wire, self.config.patience));
        let mut connection = Box::pin(self.http2.serve_connection(io, regret));
        let told = async {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = asked.notified() => connection.as_mut().graceful_shutdown(),
            }
            connection.await
        };
        // It makes no difference whether the client has waited for the answer.
        drop(timeout(self.config.patience, told).await);
    }

    /// Waits for what is still going on, and then no longer.
    async fn drain(&self, mut connections: JoinSet<()>) {
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(self.config.grace, ended).await.is_err() {
            warn!(connections = connections.len(), "connections cut off");
            connections.shutdown().await;
        }
        // A request whose connection is gone ends by itself as soon as it is looked at.
        self.streams.close();
        if timeout(self.config.grace, self.streams.wait()).await.is_err() {
            warn!(requests = self.streams.len(), "requests left behind");
        }
    }
}

impl<F> Executor<F> for Spawner
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        self.0.spawn(request);
    }
}

/// Lets the process have as many descriptors, if it may; what it can have then.
fn raise_descriptors(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // No limit is as good as any that is wanted.
    let (current, maximum) = (current.unwrap_or(u64::MAX), maximum.unwrap_or(u64::MAX));
    let raised = wanted.min(maximum);
    if raised <= current {
        return current;
    }
    let limit = Rlimit { current: Some(raised), maximum: Some(maximum) };
    if setrlimit(Resource::Nofile, limit).is_ok() { raised } else { current }
}

/// The next client. Only a client's own failure is passed over at once.
async fn accept(listener: &Watched) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    loop {
        let accepted = listener
            .async_io(Interest::READABLE, |listener| Ok(accept_with(listener, flags)?))
            .await;
        match accepted {
            Ok(socket) => return socket,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(error = &error as &dyn Error, "cannot accept connections");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Finds out who the peer is, and makes room for it if there can be any.
fn admit<C, E: Error + 'static>(
    socket: OwnedFd,
    seats: &mut Seats,
    pin: impl Fn(&OwnedFd) -> Result<(C, Origin), E>,
) -> Result<Admitted<C>, Box<dyn Error>> {
    let (peer, origin) = pin(&socket)?;
    let seat = seats.take(origin);
    let wire = Wire::new(socket)?;
    Ok(match seat {
        Ok(seat) => Admitted::In(wire, peer, seat),
        Err(limit) => Admitted::Away(wire, limit),
    })
}

#[cfg(test)]
mod tests;
