//! What the registry promises, over datastores in memory that can be made to fail.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use steeple::clock::from_unix_seconds;
use steeple::entry::EntryContent;
use tokio::sync::Semaphore;

use super::entries::EntryWriteError;
use super::*;
use crate::datastore::memory::MemoryDatastore;
use crate::datastore::{Change, Commit, Stored};

mod authorized;
mod bundles;
mod entries;
mod lists;
mod nodes;
mod writer;

const NOW: i64 = 1_800_000_000;

fn now() -> SystemTime {
    from_unix_seconds(NOW)
}

fn td() -> TrustDomain {
    name("td")
}

fn name(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn id(path: &str) -> SpiffeId {
    SpiffeId::new(&td(), path).unwrap()
}

fn entry_id(text: &str) -> EntryId {
    EntryId::new(text).unwrap()
}

fn content(spiffe_id: &str, parent_id: &str, selectors: &[&str]) -> EntryContent {
    EntryContent {
        spiffe_id: id(spiffe_id),
        parent_id: id(parent_id),
        selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: Default::default(),
        admin: false,
        downstream: false,
        expires_at: None,
        dns_names: Vec::new(),
        store_svid: false,
        hint: None,
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
    }
}

fn node(path: &str, selectors: &[&str]) -> Node {
    Node {
        id: id(path),
        attestation_type: "x509pop".into(),
        serial: Some("1".into()),
        not_after: NOW + 3_600,
        new_serial: None,
        selectors: selectors.iter().map(|text| text.parse().unwrap()).collect(),
        can_reattest: true,
        agent_version: String::new(),
    }
}

async fn open(datastore: &Arc<Flaky>) -> Registry {
    open_with(datastore, &Tasks::new()).await
}

async fn open_with(datastore: &Arc<Flaky>, tasks: &Tasks) -> Registry {
    let datastore: Arc<dyn Datastore> = Arc::clone(datastore) as _;
    Registry::open(td(), datastore, tasks).await.unwrap()
}

async fn empty() -> Registry {
    open(&Flaky::new()).await
}

async fn create(
    registry: &Registry,
    id: &str,
    content: EntryContent,
) -> Result<Arc<Entry>, EntryWriteError> {
    let mut results = registry.create_entries(vec![(Some(entry_id(id)), content)], now()).await;
    assert_eq!(results.len(), 1);
    results.remove(0)
}

/// A datastore in memory that fails as told.
#[derive(Debug)]
struct Flaky {
    inner: MemoryDatastore,
    failures: Mutex<VecDeque<Fault>>,
    /// One permit is needed for each commit.
    gate: Semaphore,
    /// How long a commit may be, as it is shown for debugging.
    room: AtomicUsize,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Nothing is written.
    Refuse,
    /// All is written, but who wrote is told otherwise.
    WriteAndDeny,
}

impl Flaky {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryDatastore::new(),
            failures: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            room: AtomicUsize::new(usize::MAX),
        })
    }

    fn fail(&self, how: Fault) {
        self.failures.lock().unwrap().push_back(how);
    }
}

impl Datastore for Flaky {
    fn load(&self) -> BoxFuture<'_, Result<Stored, DatastoreError>> {
        self.inner.load()
    }

    fn commit<'a>(
        &'a self,
        base: Revision,
        changes: &'a [Change],
    ) -> BoxFuture<'a, Result<Revision, DatastoreError>> {
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            let fault = self.failures.lock().unwrap().pop_front();
            let full = DatastoreError::Full("disk".into());
            if format!("{changes:?}").len() > self.room.load(Ordering::SeqCst) {
                return Err(full);
            }
            match fault {
                None => self.inner.commit(base, changes).await,
                Some(Fault::Refuse) => Err(full),
                Some(Fault::WriteAndDeny) => {
                    self.inner.commit(base, changes).await?;
                    Err(full)
                }
            }
        })
    }

    fn changes_since(
        &self,
        revision: Revision,
    ) -> BoxFuture<'_, Result<Vec<Commit>, DatastoreError>> {
        self.inner.changes_since(revision)
    }

    fn find_room(&self, bytes: u32) -> BoxFuture<'_, Result<(), DatastoreError>> {
        Box::pin(async move {
            let fault = self.failures.lock().unwrap().pop_front();
            let is_room = usize::try_from(bytes).unwrap() <= self.room.load(Ordering::SeqCst);
            if is_room && fault.is_none() {
                Ok(())
            } else {
                Err(DatastoreError::Full("disk".into()))
            }
        })
    }
}
