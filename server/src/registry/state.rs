//! The server's memory at one revision, and how a committed change alters it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use steeple::bundle::{Bundle, Bundles};
use steeple::entry::EntryId;
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::SelectorSet;

use crate::datastore::{Change, Facts, JoinToken, Node, Revision, Stored, TokenHash};
use crate::entries::authorized;
use crate::entries::index::EntryIndex;
use crate::federation::Relationship;

/// How many changes to the children of an ID are remembered.
const RECENT: usize = 4_096;

/// Everything that the server knows.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) revision: Revision,
    pub(super) entries: EntryIndex,
    pub(super) nodes: BTreeMap<SpiffeId, Arc<Node>>,
    pub(super) bundles: Bundles,
    pub(super) relationships: BTreeMap<TrustDomain, Arc<Relationship>>,
    pub(super) join_tokens: HashMap<TokenHash, JoinToken>,
    pub(super) journal: Option<Arc<[u8]>>,
    pub(super) facts: Facts,
    /// The last revision that changed an entry.
    pub(super) entries_revision: Revision,
    /// Whose children changed, and at which revision: all that happened after `recent_since`.
    recent: VecDeque<(Revision, SpiffeId)>,
    recent_since: Revision,
}

impl State {
    pub(super) fn new(stored: Stored) -> Self {
        let mut state = Self {
            revision: stored.revision,
            entries_revision: stored.revision,
            recent_since: stored.revision,
            ..Self::default()
        };
        for entry in stored.entries {
            state.entries.insert(entry);
        }
        state.nodes = stored.nodes.into_iter().map(|node| (node.id.clone(), node)).collect();
        let bundles = stored.bundles.into_iter();
        state.bundles = bundles.map(|bundle| (bundle.trust_domain.clone(), bundle)).collect();
        let relationships = stored.relationships.into_iter();
        state.relationships = relationships.map(|one| (one.trust_domain.clone(), one)).collect();
        let tokens = stored.join_tokens.into_iter();
        state.join_tokens = tokens.map(|token| (token.hash, token)).collect();
        state.journal = stored.journal;
        state.facts = stored.facts;
        state
    }

    /// Takes over what was committed.
    pub(super) fn apply(&mut self, revision: Revision, changes: Vec<Change>) {
        self.revision = revision;
        for change in changes {
            self.apply_one(change);
        }
    }

    /// The IDs that what an agent is authorised for starts from.
    pub(super) fn roots(&self, agent: &SpiffeId) -> Vec<SpiffeId> {
        match self.nodes.get(agent) {
            Some(node) => authorized::roots(&self.entries, agent, &node.selectors),
            None => authorized::roots(&self.entries, agent, &SelectorSet::default()),
        }
    }

    /// Whose children changed after `revision`, unless that was too much to remember.
    pub(super) fn parents_changed_since(
        &self,
        revision: Revision,
    ) -> Option<impl ExactSizeIterator<Item = &SpiffeId>> {
        let start = self.recent.partition_point(|(changed, _)| *changed <= revision);
        (revision >= self.recent_since).then(|| self.recent.range(start..).map(|(_, id)| id))
    }

    fn apply_one(&mut self, change: Change) {
        match change {
            Change::PutEntry(entry) => {
                let parent_id = entry.content.parent_id.clone();
                let replaced = self.entries.insert(entry);
                if let Some(former) = replaced.map(|entry| entry.content.parent_id.clone())
                    && former != parent_id
                {
                    self.remember(former);
                }
                self.remember(parent_id);
            }
            Change::DeleteEntry(id) => self.delete_entry(&id),
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

    fn delete_entry(&mut self, id: &EntryId) {
        if let Some(gone) = self.entries.remove(id) {
            self.remember(gone.content.parent_id.clone());
        }
    }

    fn remember(&mut self, parent_id: SpiffeId) {
        self.entries_revision = self.revision;
        let revision = self.revision;
        if self.recent.back().is_some_and(|last| *last == (revision, parent_id.clone())) {
            return;
        }
        self.recent.push_back((revision, parent_id));
        if self.recent.len() > RECENT
            && let Some((forgotten, _)) = self.recent.pop_front()
        {
            self.recent_since = forgotten;
        }
    }

    /// The bundle of a trust domain, or an empty one.
    pub(super) fn bundle_or_empty(&self, trust_domain: &TrustDomain) -> Arc<Bundle> {
        let known = self.bundles.get(trust_domain).cloned();
        known.unwrap_or_else(|| Arc::new(Bundle::empty(trust_domain.clone())))
    }
}
