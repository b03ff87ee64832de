//! Accepts agents and remote administrators on TCP, by mutual TLS.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use steeple::clock::unix_seconds;
use steeple::tasks::Tasks;
use steeple::tls::{Accepted, Acceptor, Client};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tracing::{debug, info_span, warn};

use super::caller::{Caller, Peer};
use super::connection;
use super::guard::{Guard, Shared};
use super::limits::network_of;

/// How long a client may take to its first call.
pub const HANDSHAKE: Duration = Duration::from_secs(10);

/// How often connections that are closed for want of room are told of. Whoever opens them must not
/// fill the log.
const NOTICE: Duration = Duration::from_secs(10);

/// How long to wait when the operating system has no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// How many connections there may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// In all.
    pub total: usize,
    /// From one address, behind which there may be many agents.
    pub per_address: usize,
    /// Of clients that say nothing of who they are, or nothing good, in all: they must not keep
    /// agents out.
    pub anonymous: usize,
    /// Of such clients from one address: they must not keep new agents out.
    pub anonymous_per_address: usize,
}

/// The bounds where there are descriptors enough.
const BOUNDS: Bounds =
    Bounds { total: 20_000, per_address: 2_000, anonymous: 2_000, anonymous_per_address: 200 };

/// The descriptors that everything else in the process may need: the database, logs, keys, and the
/// connections of administrators.
const OTHER_DESCRIPTORS: usize = 384;

/// What accepts connections.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    door: Door,
}

/// What every connection has to go through. Clones are the same door.
#[derive(Clone, Debug)]
struct Door {
    acceptor: Acceptor,
    routes: Routes,
    shared: Arc<Shared>,
    places: Places,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
enum Full {
    #[error("there are too many of their kind")]
    Total,
    #[error("there are too many of their kind from this address")]
    Address,
}

/// The places for connections.
#[derive(Clone, Debug)]
struct Places {
    all: Room,
    anonymous: Room,
    notices: Arc<Notices>,
}

/// When it was told last that there is no room, and how often it could have been since.
#[derive(Debug, Default)]
struct Notices(Mutex<(Option<Instant>, u64)>);

/// So many places, and so many for one address.
#[derive(Clone, Debug)]
struct Room {
    total: Arc<Semaphore>,
    per_address: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place that a connection has. It is free again when this is dropped.
#[derive(Debug)]
struct Place {
    address: IpAddr,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _total: OwnedSemaphorePermit,
}

impl Bounds {
    /// The bounds of a process that may have so many descriptors.
    #[must_use]
    pub fn within(descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let total = descriptors.saturating_sub(OTHER_DESCRIPTORS).clamp(16, BOUNDS.total);
        Self {
            total,
            per_address: BOUNDS.per_address.min(total / 2),
            anonymous: BOUNDS.anonymous.min(total / 4),
            anonymous_per_address: BOUNDS.anonymous_per_address.min(total / 8),
        }
    }
}

impl Listener {
    /// Listens on `address`.
    pub async fn bind(
        address: SocketAddr,
        acceptor: Acceptor,
        routes: Routes,
        shared: Arc<Shared>,
        bounds: Bounds,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let door = Door { acceptor, routes, shared, places: Places::new(bounds) };
        Ok(Self { listener, door })
    }

    /// Where it listens, which matters if it was told to choose a port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts connections until told to stop. They are served by tasks of their own.
    pub async fn run(self, tasks: Tasks, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => self.accepted(accepted, &tasks).await,
            }
        }
    }

    async fn accepted(&self, accepted: io::Result<(TcpStream, SocketAddr)>, tasks: &Tasks) {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "no connection accepted");
                return tokio::time::sleep(PAUSE).await;
            }
        };
        let place = match self.door.places.all.take(address.ip()) {
            Ok(place) => place,
            Err(full) => return self.door.places.notices.tell(full, address, Instant::now()),
        };
        // Answers are small, and each is complete when it is written.
        if let Err(error) = stream.set_nodelay(true) {
            return debug!(error = &error as &dyn std::error::Error, "connection lost");
        }
        let door = self.door.clone();
        tasks.spawn(info_span!("connection", %address), |stop| async move {
            // Once the handshake is over, nothing of it is held.
            let serving = Box::pin(door.open(stream, address, stop)).await;
            drop(door);
            if let Some(serving) = serving {
                serving.await;
            }
            drop(place);
        });
    }
}

impl Door {
    /// Does the handshake with a client; how its calls are served, if it may make any.
    async fn open(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        stop: CancellationToken,
    ) -> Option<BoxFuture<'static, ()>> {
        let Accepted { stream, client } = match self.acceptor.accept(stream).await {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(error = &error as &dyn std::error::Error, "handshake failed");
                return None;
            }
        };
        let place = match admission(&client, &self.places.anonymous, address.ip()) {
            Ok(place) => place,
            Err(full) => {
                self.places.notices.tell(full, address, Instant::now());
                return None;
            }
        };
        let caller = Arc::new(caller(&client, address));
        if !self.shared.admits(&caller) {
            debug!(?caller, "connection closed: of a foreign trust domain, and not in admin_ids");
            return None;
        }
        let guard = Guard::new(self.routes.clone(), caller, Arc::clone(&self.shared));
        let serving = connection::serve(stream, guard, stop);
        Some(serving.map(move |()| drop(place)).boxed())
    }
}

impl Places {
    fn new(bounds: Bounds) -> Self {
        Self {
            all: Room::new(bounds.total, bounds.per_address),
            anonymous: Room::new(bounds.anonymous, bounds.anonymous_per_address),
            notices: Arc::default(),
        }
    }
}

impl Notices {
    fn tell(&self, full: Full, address: SocketAddr, now: Instant) {
        if let Some(closed) = self.due(now) {
            warn!(%address, %full, closed, "connections closed");
        }
    }

    /// How many connections were closed since it was told last, if it is to be told now.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut notices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (told, closed) = &mut *notices;
        *closed = closed.saturating_add(1);
        if told.is_some_and(|told| now.saturating_duration_since(told) < NOTICE) {
            return None;
        }
        *told = Some(now);
        Some(std::mem::take(closed))
    }
}

impl Room {
    fn new(total: usize, per_address: usize) -> Self {
        Self { total: Arc::new(Semaphore::new(total)), per_address, taken: Arc::default() }
    }

    fn take(&self, address: IpAddr) -> Result<Place, Full> {
        let total = Arc::clone(&self.total).try_acquire_owned().or(Err(Full::Total))?;
        let address = network_of(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= self.per_address {
            return Err(Full::Address);
        }
        *count += 1;
        Ok(Place { address, taken: Arc::clone(&self.taken), _total: total })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// A place among those who are not known, for a client that needs one.
fn admission(client: &Client, anonymous: &Room, address: IpAddr) -> Result<Option<Place>, Full> {
    match client {
        Client::Peer(_) => Ok(None),
        Client::Anonymous | Client::Unnamed(_) => anonymous.take(address).map(Some),
    }
}

fn caller(client: &Client, address: SocketAddr) -> Caller {
    match client {
        Client::Anonymous => Caller::Anonymous(address),
        Client::Unnamed(certificate) => {
            Caller::Unnamed { address, certificate: certificate.clone() }
        }
        Client::Peer(peer) => Caller::Peer(Peer {
            id: peer.spiffe_id().clone(),
            serial: peer.serial().to_string(),
            not_after: unix_seconds(peer.not_after()),
            address,
        }),
    }
}

#[cfg(test)]
mod tests {
    use steeple::tls::Unnamed;
    use steeple::x509::verify::PeerError;

    use super::*;

    #[test]
    fn places_are_bounded_for_each_address_and_in_all() {
        let room = Room::new(3, 2);
        let take = |address: &str| room.take(address.parse().unwrap());
        let first = take("192.0.2.1").unwrap();
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").unwrap_err(), Full::Address);
        let third = take("192.0.2.2").unwrap();
        assert_eq!(take("192.0.2.3").unwrap_err(), Full::Total);
        drop(first);
        let fourth = take("192.0.2.1").unwrap();
        drop((third, fourth));
        assert_eq!(room.taken.lock().unwrap().len(), 1);
    }

    #[test]
    fn one_address_without_a_certificate_leaves_room_for_others() {
        let places = Places::new(BOUNDS);
        let admit = |address: &str| {
            admission(&Client::Anonymous, &places.anonymous, address.parse().unwrap())
        };
        let crowd: Vec<_> = (0..200).map(|_| admit("192.0.2.1").unwrap()).collect();
        assert_eq!(admit("192.0.2.1").unwrap_err(), Full::Address);
        let why = PeerError::NotOneUri;
        let serial = "1".to_owned();
        let unnamed = Client::Unnamed(Unnamed { why, serial, authority_key_id: None });
        let other = "192.0.2.2".parse().unwrap();
        assert!(admission(&unnamed, &places.anonymous, other).unwrap().is_some());
        drop(crowd);
        assert!(admit("192.0.2.1").is_ok());
    }

    #[test]
    fn a_crowd_does_not_fill_the_log() {
        let (notices, now) = (Notices::default(), Instant::now());
        assert_eq!(notices.due(now), Some(1));
        for millis in 0..100 {
            assert_eq!(notices.due(now + Duration::from_millis(millis)), None);
        }
        assert_eq!(notices.due(now + NOTICE), Some(101));
    }

    #[test]
    fn bounds_fit_the_descriptors_that_there_are() {
        assert_eq!(Bounds::within(1 << 20), BOUNDS);
        assert_eq!(Bounds::within(u64::MAX), BOUNDS);
        let few = Bounds::within(1_024);
        assert_eq!((few.total, few.per_address, few.anonymous), (640, 320, 160));
        assert_eq!(few.anonymous_per_address, 80);
        assert_eq!(Bounds::within(0).anonymous_per_address, 2);
    }
}
