//! The server's memory: every question is answered from it, and every write goes through it.
//!
//! A write is decided on the present state, committed to the datastore, applied to memory and only
//! then acknowledged. Reads take a lock for as long as it takes to copy some pointers.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use steeple::bundle::{Bundle, Bundles};
use steeple::entry::{Entry, EntryId};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::tasks::Tasks;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tracing::info_span;

use self::authorized_cache::AuthorizedCache;
use self::draft::Draft;
use self::list::{Page, PageError, PageRequest};
use self::state::State;
use self::writer::{Job, Request, WriteError, Writer};
use crate::datastore::{Datastore, DatastoreError, Fact, Facts, Node, Revision};
use crate::entries::authorized::Authorized;
use crate::entries::filter::EntryFilter;

mod authorized_cache;
pub mod bundles;
mod draft;
pub mod entries;
pub mod housekeeping;
pub mod list;
pub mod nodes;
pub mod relationships;
mod state;
pub mod tokens;
pub mod writer;

/// The memory of the server. Clones share it.
#[derive(Clone)]
pub struct Registry {
    trust_domain: TrustDomain,
    state: Arc<RwLock<State>>,
    authorized: Arc<AuthorizedCache>,
    jobs: mpsc::Sender<Box<dyn Job>>,
    revision: watch::Receiver<Revision>,
    writes: watch::Receiver<Option<String>>,
}

/// Why the server cannot start on what is stored.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The datastore cannot be read.
    #[error("what is stored cannot be read")]
    Datastore(#[from] DatastoreError),
    /// What is stored belongs to another trust domain.
    #[error(
        "the database is one of another trust domain than {configured}, as it holds {found}; correct \
         `trust_domain`, or give the server another `data_dir`"
    )]
    TrustDomain {
        /// The server's.
        configured: TrustDomain,
        /// An identity that is stored.
        found: SpiffeId,
    },
}

impl Registry {
    /// Loads everything, and starts the one writer.
    pub async fn open(
        trust_domain: TrustDomain,
        datastore: Arc<dyn Datastore>,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let stored = datastore.load().await?;
        let identities = stored.entries.iter().map(|entry| &entry.content.spiffe_id);
        let mut identities = identities.chain(stored.nodes.iter().map(|node| &node.id));
        if let Some(found) = identities.find(|id| *id.trust_domain() != trust_domain) {
            let found = found.clone();
            return Err(OpenError::TrustDomain { configured: trust_domain, found });
        }
        let (revision, seen) = watch::channel(stored.revision);
        let (jobs, queue) = mpsc::channel(writer::QUEUE);
        let state = Arc::new(RwLock::new(State::new(stored)));
        let (writing, writes) = watch::channel(None);
        let writer = Writer { datastore, state: Arc::clone(&state), revision, writes: writing };
        tasks.spawn(info_span!("writer"), |stop| writer.run(queue, stop));
        Ok(Self { trust_domain, state, authorized: Arc::default(), jobs, revision: seen, writes })
    }

    /// The trust domain of this server.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The revision of the memory.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.read(|state| state.revision)
    }

    /// Tells of every new revision.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.revision.clone()
    }

    /// Why the datastore did not write when something was to be written last, if it did not. It is
    /// tried again every few seconds.
    #[must_use]
    pub fn write_trouble(&self) -> Option<String> {
        self.writes.borrow().clone()
    }

    /// The entry of this ID.
    #[must_use]
    pub fn entry(&self, id: &EntryId) -> Option<Arc<Entry>> {
        self.read(|state| state.entries.get(id).cloned())
    }

    /// How many entries the filter admits.
    #[must_use]
    pub fn count_entries(&self, filter: &EntryFilter) -> usize {
        self.read(|state| list::count_entries(&state.entries, filter))
    }

    /// A page of the entries that the filter admits, in the order of their IDs.
    pub fn list_entries(
        &self,
        filter: &EntryFilter,
        page: &PageRequest,
    ) -> Result<Page<Arc<Entry>>, PageError> {
        self.read(|state| list::entries(&state.entries, filter, page))
    }

    /// Whether some entry that has not expired at `now`, in seconds since 1970, makes the holder of
    /// this identity an administrator.
    #[must_use]
    pub fn is_admin(&self, id: &SpiffeId, now: i64) -> bool {
        self.read(|state| {
            let mut entries = state.entries.with_spiffe_id(id).iter();
            entries.any(|entry| entry.content.admin && is_in_force(entry, now))
        })
    }

    /// Whether some entry that has not expired at `now` makes the holder of this identity a
    /// downstream server.
    #[must_use]
    pub fn is_downstream(&self, id: &SpiffeId, now: i64) -> bool {
        self.downstream_entry(id, now).is_some()
    }

    /// The first entry that has not expired at `now` and makes the holder of this identity a downstream server.
    #[must_use]
    pub fn downstream_entry(&self, id: &SpiffeId, now: i64) -> Option<Arc<Entry>> {
        self.read(|state| {
            let mut entries = state.entries.with_spiffe_id(id).iter();
            entries.find(|e| e.content.downstream && is_in_force(e, now)).cloned()
        })
    }

    /// The entries that an agent is authorised for. As long as they are the same, so is the `Arc`.
    #[must_use]
    pub fn authorized(&self, agent: &SpiffeId) -> Arc<Authorized> {
        self.read(|state| self.authorized.of(state, agent))
    }

    /// The record of an agent.
    #[must_use]
    pub fn node(&self, id: &SpiffeId) -> Option<Arc<Node>> {
        self.read(|state| state.nodes.get(id).cloned())
    }

    /// How many agents the filter admits.
    #[must_use]
    pub fn count_nodes(&self, filter: &nodes::NodeFilter) -> usize {
        self.read(|state| state.nodes.values().filter(|node| filter.admits(node)).count())
    }

    /// A page of the agents that the filter admits, in the order of their IDs.
    pub fn list_nodes(
        &self,
        filter: &nodes::NodeFilter,
        page: &PageRequest,
    ) -> Result<Page<Arc<Node>>, PageError> {
        self.read(|state| list::nodes(&state.nodes, filter, page))
    }

    /// The server's own bundle; one without any authority before there is one.
    #[must_use]
    pub fn own_bundle(&self) -> Arc<Bundle> {
        self.read(|state| state.bundle_or_empty(&self.trust_domain))
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        self.read(|state| state.bundles.get(trust_domain).cloned())
    }

    /// All bundles, the server's own included.
    #[must_use]
    pub fn bundles(&self) -> Bundles {
        self.read(|state| state.bundles.clone())
    }

    /// A page of the bundles of other trust domains, in the order of their names.
    pub fn list_federated_bundles(
        &self,
        page: &PageRequest,
    ) -> Result<Page<Arc<Bundle>>, PageError> {
        self.read(|state| list::federated_bundles(&state.bundles, &self.trust_domain, page))
    }

    /// The journal of the authorities, as it was saved last.
    #[must_use]
    pub fn journal(&self) -> Option<Arc<[u8]>> {
        self.read(|state| state.journal.clone())
    }

    /// What the server knows of itself.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.read(|state| state.facts.clone())
    }

    /// Remembers what the server learned of itself.
    pub async fn put_fact(&self, fact: Fact) -> Result<(), WriteError> {
        self.write(move |draft| draft.put_fact(fact.clone())).await
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides and writes. What `decide` returned is returned once its changes are durable.
    ///
    /// `decide` may be called several times, as the state may change before the commit.
    async fn write<T, F>(&self, decide: F) -> Result<T, WriteError>
    where
        T: Send + 'static,
        F: FnMut(&mut Draft<'_>) -> T + Send + 'static,
    {
        let (request, answer) = Request::new(decide);
        if self.jobs.send(Box::new(request)).await.is_err() {
            return Err(WriteError::Stopped);
        }
        answer.await.unwrap_or(Err(WriteError::Stopped))
    }
}

/// Whether an entry counts still. It may be there for a while after its time.
fn is_in_force(entry: &Entry, now: i64) -> bool {
    entry.content.expires_at.is_none_or(|expires_at| now < expires_at)
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
