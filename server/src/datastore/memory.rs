//! A datastore in memory: for tests, and for a server that may forget everything.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use steeple::bundle::Bundle;
use steeple::entry::{Entry, EntryId};
use steeple::id::{SpiffeId, TrustDomain};

use super::{
    Change, Commit, Datastore, DatastoreError, Facts, JoinToken, Node, Revision, Stored, TokenHash,
};
use crate::federation::Relationship;

/// How many commits the log of changes holds.
const LOG_LENGTH: usize = 1_000;

/// What is stored, in memory.
#[derive(Debug, Default)]
pub struct MemoryDatastore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    revision: Revision,
    entries: BTreeMap<EntryId, Arc<Entry>>,
    nodes: BTreeMap<SpiffeId, Arc<Node>>,
    bundles: BTreeMap<TrustDomain, Arc<Bundle>>,
    relationships: BTreeMap<TrustDomain, Arc<Relationship>>,
    join_tokens: BTreeMap<TokenHash, JoinToken>,
    journal: Option<Arc<[u8]>>,
    facts: Facts,
    log: VecDeque<Commit>,
}

impl MemoryDatastore {
    /// A store with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Datastore for MemoryDatastore {
    fn load(&self) -> BoxFuture<'_, Result<Stored, DatastoreError>> {
        Box::pin(async { Ok(self.with(|state| state.load())) })
    }

    fn commit<'a>(
        &'a self,
        base: Revision,
        changes: &'a [Change],
    ) -> BoxFuture<'a, Result<Revision, DatastoreError>> {
        Box::pin(async move { self.with(|state| state.commit(base, changes)) })
    }

    fn changes_since(
        &self,
        revision: Revision,
    ) -> BoxFuture<'_, Result<Vec<Commit>, DatastoreError>> {
        Box::pin(async move { self.with(|state| state.changes_since(revision)) })
    }

    fn find_room(&self, _bytes: u32) -> BoxFuture<'_, Result<(), DatastoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl State {
    fn commit(&mut self, base: Revision, changes: &[Change]) -> Result<Revision, DatastoreError> {
        if base != self.revision {
            return Err(DatastoreError::Conflict { at: self.revision });
        }
        self.revision = base.next();
        for change in changes {
            self.apply(change.clone());
        }
        self.log.push_back(Commit { revision: self.revision, changes: changes.to_vec() });
        if self.log.len() > LOG_LENGTH {
            self.log.pop_front();
        }
        Ok(self.revision)
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::PutEntry(entry) => {
                self.entries.insert(entry.id.clone(), entry);
            }
            Change::DeleteEntry(id) => {
                self.entries.remove(&id);
            }
            Change::PutNode(node) => {
                self.nodes.insert(node.id.clone(), node);
            }
            Change::DeleteNode(id) => {
                self.nodes.remove(&id);
            }
            Change::PutBundle(bundle) => {
                self.bundles.insert(bundle.trust_domain.clone(), bundle);
            }
            Change::DeleteBundle(trust_domain) => {
                self.bundles.remove(&trust_domain);
            }
            Change::PutRelationship(relationship) => {
                self.relationships.insert(relationship.trust_domain.clone(), relationship);
            }
            Change::DeleteRelationship(trust_domain) => {
                self.relationships.remove(&trust_domain);
            }
            Change::PutJoinToken(token) => {
                self.join_tokens.insert(token.hash, token);
            }
            Change::DeleteJoinToken(hash) => {
                self.join_tokens.remove(&hash);
            }
            Change::PutJournal(journal) => self.journal = Some(journal),
            Change::PutFact(fact) => self.facts.put(fact),
        }
    }

    fn load(&self) -> Stored {
        Stored {
            revision: self.revision,
            entries: self.entries.values().cloned().collect(),
            nodes: self.nodes.values().cloned().collect(),
            bundles: self.bundles.values().cloned().collect(),
            relationships: self.relationships.values().cloned().collect(),
            join_tokens: self.join_tokens.values().cloned().collect(),
            journal: self.journal.clone(),
            facts: self.facts.clone(),
        }
    }

    fn changes_since(&self, revision: Revision) -> Result<Vec<Commit>, DatastoreError> {
        let length = u64::try_from(self.log.len()).unwrap_or(u64::MAX);
        let oldest = Revision(self.revision.0.saturating_sub(length));
        if revision < oldest {
            return Err(DatastoreError::Pruned { oldest });
        }
        Ok(self.log.iter().filter(|commit| commit.revision > revision).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datastore::suite::{self, Fixture};

    struct Memory;

    impl Fixture for Memory {
        type Store = MemoryDatastore;

        async fn open(&self) -> MemoryDatastore {
            MemoryDatastore::new()
        }

        async fn reopen(&self, store: MemoryDatastore) -> MemoryDatastore {
            store
        }
    }

    suite::tests!(Memory);
}
