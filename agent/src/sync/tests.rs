//! A server whose answers are set, in virtual time.

use std::collections::BTreeMap;
use std::sync::Mutex;

use steeple::bundle::Bundle;
use steeple::clock::{TokioClock, from_unix_seconds};
use steeple::convert::stored_entry_from_proto;
use steeple::entry::{Entry, EntryId};
use steeple::tasks::Tasks;
use steeple_proto::spire::api::types;
use tracing::Span;

use super::*;
use crate::node::testing::Authority;
use crate::server_api::{Denial, KnownEntries, MintRefusal, Minted, MintedJwt, X509Mint};

mod bundles;
mod restarts;

/// What the server says now, and when it was asked for entries.
#[derive(Debug)]
struct Server {
    entries: Mutex<Vec<Arc<Entry>>>,
    own: Mutex<Bundle>,
    foreign: Mutex<BTreeMap<TrustDomain, Result<Option<Bundle>, ServerError>>>,
    fails: Mutex<Option<ServerError>>,
    hangs: Mutex<bool>,
    asked: Mutex<Vec<i64>>,
    /// How many entries were known when it was asked last.
    known: Mutex<usize>,
    at_once: Mutex<(usize, usize)>,
    clock: Arc<TokioClock>,
}

#[tonic::async_trait]
impl ServerApi for Server {
    async fn mint_x509(
        &self,
        _: Vec<X509Mint>,
    ) -> Result<Vec<Result<Minted, MintRefusal>>, ServerError> {
        Err(ServerError::Unsupported("no".into()))
    }

    async fn mint_jwt(&self, _: &EntryId, _: &[String]) -> Result<MintedJwt, ServerError> {
        Err(ServerError::Unsupported("no".into()))
    }

    async fn sync_entries(&self, known: &KnownEntries) -> Result<Vec<Arc<Entry>>, ServerError> {
        *self.known.lock().unwrap() = known.len();
        self.asked.lock().unwrap().push(clock::unix_seconds(self.clock.now()) - 1_000_000);
        if *self.hangs.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        match self.fails.lock().unwrap().clone() {
            Some(error) => Err(error),
            None => Ok(self.entries.lock().unwrap().clone()),
        }
    }

    async fn bundle(&self) -> Result<Bundle, ServerError> {
        Ok(self.own.lock().unwrap().clone())
    }

    async fn federated_bundle(&self, name: &TrustDomain) -> Result<Option<Bundle>, ServerError> {
        {
            let mut at_once = self.at_once.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.at_once.lock().unwrap().0 -= 1;
        self.foreign.lock().unwrap().get(name).cloned().unwrap_or(Ok(None))
    }
}

struct World {
    server: Arc<Server>,
    clock: Arc<TokioClock>,
    authority: Authority,
    directory: tempfile::TempDir,
    node: watch::Sender<NodeStatus>,
}

struct Running {
    snapshot: watch::Receiver<Option<Arc<Snapshot>>>,
    bundle: watch::Receiver<Option<OwnBundle>>,
    status: watch::Receiver<SyncStatus>,
    refresh: Arc<Notify>,
    tasks: Tasks,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(TokioClock::new(from_unix_seconds(1_000_000)));
        let authority = Authority::new(clock.now());
        let server = Arc::new(Server {
            entries: Mutex::default(),
            own: Mutex::new(authority.bundle()),
            foreign: Mutex::default(),
            fails: Mutex::default(),
            hangs: Mutex::default(),
            asked: Mutex::default(),
            known: Mutex::default(),
            at_once: Mutex::default(),
            clock: clock.clone(),
        });
        let node = watch::Sender::new(NodeStatus::default());
        let world =
            Self { server, clock, authority, directory: tempfile::tempdir().unwrap(), node };
        world.is(Standing::Attested);
        world
    }

    fn is(&self, standing: Standing) {
        self.node.send_modify(|node| node.standing = standing);
    }

    fn entries(&self, entries: &[(&str, &[&str])]) {
        *self.server.entries.lock().unwrap() =
            entries.iter().map(|(id, federates)| entry(id, federates)).collect();
    }

    fn fails(&self, error: Option<ServerError>) {
        *self.server.fails.lock().unwrap() = error;
    }

    fn foreign(&self, name: &str, answer: Result<Option<Bundle>, ServerError>) {
        let name = name.parse().unwrap();
        self.server.foreign.lock().unwrap().insert(name, answer);
    }

    fn foreign_bundle(&self, name: &str) -> Bundle {
        Bundle { trust_domain: name.parse().unwrap(), ..self.authority.bundle() }
    }

    fn asked(&self) -> Vec<i64> {
        std::mem::take(&mut *self.server.asked.lock().unwrap())
    }

    fn start(&self) -> Running {
        let (snapshot, bundle, status) =
            (watch::Sender::default(), watch::Sender::default(), watch::Sender::default());
        let refresh = Arc::new(Notify::new());
        let deps = Deps {
            server: self.server.clone(),
            node: self.node.subscribe(),
            refresh: refresh.clone(),
            clock: self.clock.clone(),
        };
        let config = Config {
            trust_domain: "td".parse().unwrap(),
            interval: Duration::from_secs(5),
            file: self.directory.path().join("view"),
        };
        let running = Running {
            snapshot: snapshot.subscribe(),
            bundle: bundle.subscribe(),
            status: status.subscribe(),
            refresh,
            tasks: Tasks::new(),
        };
        let sync = Sync::new(deps, config, Channels { snapshot, bundle, status });
        running.tasks.spawn(Span::none(), |stop| sync.run(stop));
        running
    }
}

impl Running {
    fn own_bundle(&self) -> OwnBundle {
        self.bundle.borrow().clone().unwrap()
    }

    /// The next view: names of entries, names of bundles.
    async fn next(&mut self) -> (Vec<String>, Vec<String>) {
        self.snapshot.changed().await.unwrap();
        self.seen()
    }

    fn seen(&mut self) -> (Vec<String>, Vec<String>) {
        let snapshot = self.snapshot.borrow_and_update().clone().unwrap();
        let names = ["td", "a", "b", "c"]
            .into_iter()
            .filter(|name| snapshot.bundle(&name.parse::<TrustDomain>().unwrap()).is_some());
        let entries = snapshot.entries().iter().map(|entry| entry.id.to_string());
        (entries.collect(), names.map(ToOwned::to_owned).collect())
    }

    fn is_quiet(&self) -> bool {
        !self.snapshot.has_changed().unwrap()
    }

    async fn stop(self) {
        self.tasks.shutdown(Duration::from_secs(5)).await.unwrap();
    }
}

fn entry(id: &str, federates: &[&str]) -> Arc<Entry> {
    let path = |path: &str| Some(types::Spiffeid { trust_domain: "td".into(), path: path.into() });
    let wire = types::Entry {
        id: id.into(),
        spiffe_id: path("/web"),
        parent_id: path("/spire/agent/x"),
        selectors: vec![types::Selector { r#type: "unix".into(), value: "uid:1".into() }],
        federates_with: federates.iter().map(|&name| name.to_owned()).collect(),
        ..types::Entry::default()
    };
    Arc::new(stored_entry_from_proto(&wire).unwrap())
}

fn view(entries: &[&str], bundles: &[&str]) -> (Vec<String>, Vec<String>) {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    (owned(entries), owned(bundles))
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn away() -> ServerError {
    ServerError::Unavailable("away".into())
}

#[tokio::test(start_paused = true)]
async fn a_view_is_there_at_once_and_again_whenever_it_differs() {
    let world = World::new();
    world.entries(&[("e1", &[])]);
    let mut sync = world.start();
    assert_eq!(sync.next().await, view(&["e1"], &["td"]));
    assert_eq!(world.asked(), [0]);
    assert_eq!(*sync.own_bundle().bundle, world.authority.bundle());

    seconds(60).await;
    assert!(sync.is_quiet());
    assert!((10..=13).contains(&world.asked().len()));

    world.entries(&[("e1", &[]), ("e2", &[])]);
    assert_eq!(sync.next().await, view(&["e1", "e2"], &["td"]));
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_known_stays_while_the_server_is_away_for_days() {
    let world = World::new();
    world.entries(&[("e1", &[])]);
    let mut sync = world.start();
    sync.next().await;
    world.fails(Some(away()));
    world.asked();
    seconds(3 * 24 * 3_600).await;
    assert!(sync.is_quiet());
    assert_eq!(sync.seen(), view(&["e1"], &["td"]));
    let tries = world.asked().len();
    assert!((1_000..1_400).contains(&tries), "{tries}"); // Every four minutes.
    let trouble = sync.status.borrow().trouble.clone().unwrap();
    assert_eq!(trouble, "the server is unavailable: away");

    world.entries(&[("e2", &[])]);
    world.fails(None);
    assert_eq!(sync.next().await, view(&["e2"], &["td"]));
    assert_eq!(sync.status.borrow_and_update().trouble, None);
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_does_not_put_off_the_next_sync() {
    let world = World::new();
    let mut sync = world.start();
    sync.next().await;
    seconds(2).await;
    world.clock.set(world.clock.now() - Duration::from_secs(36_000));
    world.entries(&[("e1", &[])]);
    seconds(6).await;
    assert_eq!(sync.seen(), view(&["e1"], &["td"]));
    seconds(1).await;
    world.clock.set(world.clock.now() - Duration::from_secs(36_000));
    // What wakes the task is no reason to begin a wait of hours.
    world.node.send_modify(|node| node.trouble = Some("no renewal yet".into()));
    world.entries(&[]);
    seconds(6).await;
    assert_eq!(sync.seen(), view(&[], &["td"]));
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_no_agent_yet_asks_nothing() {
    let world = World::new();
    world.is(Standing::Unattested);
    let mut sync = world.start();
    seconds(60).await;
    assert_eq!(world.asked(), [0; 0]);
    world.is(Standing::Attested);
    assert_eq!(sync.next().await, view(&[], &["td"]));
    assert_eq!(world.asked(), [60]);
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_else_a_node_says_of_itself_hastens_nothing() {
    let world = World::new();
    let mut sync = world.start();
    sync.next().await;
    for _ in 0..3 {
        seconds(1).await;
        world.node.send_modify(|node| node.trouble = Some("no renewal yet".into()));
    }
    assert_eq!(world.asked(), [0]);
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_wish_is_granted_before_the_next_sync_is_due() {
    let world = World::new();
    let mut sync = world.start();
    sync.next().await;
    seconds(2).await;
    sync.refresh.notify_one();
    seconds(1).await;
    assert_eq!(world.asked(), [0, 2]);
    sync.stop().await;
}

#[tokio::test(start_paused = true)]
async fn on_a_banned_node_nobody_has_an_identity() {
    let world = World::new();
    world.entries(&[("e1", &[])]);
    let mut sync = world.start();
    sync.next().await;
    *world.server.hangs.lock().unwrap() = true;
    seconds(10).await;
    world.is(Standing::Banned);
    assert_eq!(sync.next().await, view(&[], &["td"]));
    assert!(!world.directory.path().join("view").exists());
    assert!(sync.snapshot.borrow().as_ref().unwrap().is_of_banned_node());
    *world.server.hangs.lock().unwrap() = false;
    world.asked();
    seconds(600).await;
    assert_eq!(world.asked(), [0; 0]);
    world.is(Standing::Attested);
    assert_eq!(sync.next().await, view(&["e1"], &["td"]));
    // It is shown that this is over, though there may be nothing else to show.
    world.entries(&[]);
    assert_eq!(sync.next().await, view(&[], &["td"]));
    world.is(Standing::Banned);
    assert_eq!(sync.next().await, view(&[], &["td"]));
    world.is(Standing::Attested);
    assert_eq!(sync.next().await, view(&[], &["td"]));
    assert!(!sync.snapshot.borrow().as_ref().unwrap().is_of_banned_node());
    sync.stop().await;
}

/// It has other entries, perhaps by the same names.
#[tokio::test(start_paused = true)]
async fn another_server_is_asked_at_once_and_for_all_that_it_has() {
    let world = World::new();
    world.entries(&[("e1", &[])]);
    let mut sync = world.start();
    sync.next().await;
    let before = sync.own_bundle().bootstraps;
    world.fails(Some(ServerError::Untrusted("no path".into())));
    seconds(3_600).await;
    assert_eq!(*world.server.known.lock().unwrap(), 1);
    world.asked();
    world.node.send_modify(|node| node.bootstraps += 1);
    seconds(1).await;
    assert_eq!((world.asked(), *world.server.known.lock().unwrap()), (vec![3_600], 0));
    // What is known is served until it has answered.
    assert!(sync.is_quiet());
    // A server that is left is not heard to the end.
    *world.server.hangs.lock().unwrap() = true;
    seconds(600).await;
    *world.server.hangs.lock().unwrap() = false;
    world.asked();
    world.node.send_modify(|node| node.bootstraps += 1);
    seconds(1).await;
    assert_eq!(world.asked(), [4_201]);
    world.fails(None);
    world.entries(&[("e2", &[])]);
    assert_eq!(sync.next().await, view(&["e2"], &["td"]));
    // It says its bundle for itself, also where that is the one of before.
    assert_eq!((*sync.own_bundle().bundle).clone(), world.authority.bundle());
    assert_eq!((before, sync.own_bundle().bootstraps), (0, 2));
    sync.stop().await;
}
