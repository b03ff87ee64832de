//! What the memory will be once the writes under decision are committed: the present state, and
//! over it what has been decided so far.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use steeple::bundle::Bundle;
use steeple::entry::{Entry, EntryContent, EntryId};
use steeple::id::{SpiffeId, TrustDomain};

use super::state::State;
use crate::datastore::{Change, Fact, JoinToken, Node, TokenHash};
use crate::entries::index::EntryIndex;
use crate::federation::Relationship;

/// A state on which writes are decided one after the other. Reads see what was decided before.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    state: &'a State,
    /// Entries that are new or changed.
    put: EntryIndex,
    /// Entries of the state that are changed or deleted.
    gone: BTreeSet<EntryId>,
    nodes: BTreeMap<SpiffeId, Option<Arc<Node>>>,
    bundles: BTreeMap<TrustDomain, Option<Arc<Bundle>>>,
    relationships: BTreeMap<TrustDomain, Option<Arc<Relationship>>>,
    join_tokens: BTreeMap<TokenHash, Option<JoinToken>>,
    journal: Option<Arc<[u8]>>,
    facts: Vec<Fact>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self {
            state,
            put: EntryIndex::new(),
            gone: BTreeSet::new(),
            nodes: BTreeMap::new(),
            bundles: BTreeMap::new(),
            relationships: BTreeMap::new(),
            join_tokens: BTreeMap::new(),
            journal: None,
            facts: Vec::new(),
        }
    }

    pub(super) fn put_entry(&mut self, entry: Arc<Entry>) {
        if self.state.entries.get(&entry.id).is_some() {
            self.gone.insert(entry.id.clone());
        }
        self.put.insert(entry);
    }

    pub(super) fn delete_entry(&mut self, id: &EntryId) {
        if self.state.entries.get(id).is_some() {
            self.gone.insert(id.clone());
        }
        self.put.remove(id);
    }

    pub(super) fn put_node(&mut self, node: Node) -> Arc<Node> {
        let node = Arc::new(node);
        self.nodes.insert(node.id.clone(), Some(Arc::clone(&node)));
        node
    }

    pub(super) fn delete_node(&mut self, id: &SpiffeId) {
        self.nodes.insert(id.clone(), None);
    }

    pub(super) fn put_bundle(&mut self, bundle: Bundle) -> Arc<Bundle> {
        let bundle = Arc::new(bundle);
        self.bundles.insert(bundle.trust_domain.clone(), Some(Arc::clone(&bundle)));
        bundle
    }

    pub(super) fn delete_bundle(&mut self, trust_domain: &TrustDomain) {
        self.bundles.insert(trust_domain.clone(), None);
    }

    pub(super) fn put_relationship(&mut self, relationship: Relationship) -> Arc<Relationship> {
        let relationship = Arc::new(relationship);
        let name = relationship.trust_domain.clone();
        self.relationships.insert(name, Some(Arc::clone(&relationship)));
        relationship
    }

    pub(super) fn delete_relationship(&mut self, trust_domain: &TrustDomain) {
        self.relationships.insert(trust_domain.clone(), None);
    }

    pub(super) fn put_join_token(&mut self, token: JoinToken) {
        self.join_tokens.insert(token.hash, Some(token));
    }

    pub(super) fn delete_join_token(&mut self, hash: TokenHash) {
        self.join_tokens.insert(hash, None);
    }

    pub(super) fn put_journal(&mut self, journal: Arc<[u8]>) {
        self.journal = Some(journal);
    }

    pub(super) fn put_fact(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// How many objects were touched, about.
    pub(super) fn len(&self) -> usize {
        self.put.len()
            + self.gone.len()
            + self.nodes.len()
            + self.bundles.len()
            + self.relationships.len()
            + self.join_tokens.len()
    }

    pub(super) fn entry(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.put.get(id).or_else(|| self.state.entries.get(id).filter(|old| self.is_left(old)))
    }

    /// An entry of the same identity, parent and selectors.
    pub(super) fn similar(&self, content: &EntryContent) -> Option<&Arc<Entry>> {
        let old = self.state.entries.similar(content).find(|old| self.is_left(old));
        old.or_else(|| self.put.similar(content).next())
    }

    pub(super) fn children(&self, parent_id: &SpiffeId) -> Vec<Arc<Entry>> {
        let old = self.state.entries.children(parent_id).iter().filter(|old| self.is_left(old));
        old.chain(self.put.children(parent_id)).cloned().collect()
    }

    pub(super) fn federating_with(&self, trust_domain: &TrustDomain) -> Vec<Arc<Entry>> {
        let old = self.state.entries.federating_with(trust_domain);
        let old = old.filter(|old| self.is_left(old));
        old.chain(self.put.federating_with(trust_domain)).cloned().collect()
    }

    /// At most `limit` entries whose time ran out before `now`.
    pub(super) fn expired_entries(&self, now: i64, limit: usize) -> Vec<EntryId> {
        let expired = self.state.entries.expired(now).filter(|id| !self.gone.contains(id));
        expired.chain(self.put.expired(now)).take(limit).cloned().collect()
    }

    pub(super) fn node(&self, id: &SpiffeId) -> Option<&Arc<Node>> {
        match self.nodes.get(id) {
            Some(decided) => decided.as_ref(),
            None => self.state.nodes.get(id),
        }
    }

    /// At most `limit` nodes that `is_wanted` picks. Nodes that were touched are left for later.
    pub(super) fn untouched_nodes(
        &self,
        limit: usize,
        is_wanted: impl Fn(&Node) -> bool,
    ) -> Vec<SpiffeId> {
        let wanted = self.state.nodes.values().filter(|node| is_wanted(node)).map(|node| &node.id);
        wanted.filter(|id| !self.nodes.contains_key(*id)).take(limit).cloned().collect()
    }

    pub(super) fn bundle(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        match self.bundles.get(trust_domain) {
            Some(decided) => decided.as_ref(),
            None => self.state.bundles.get(trust_domain),
        }
    }

    pub(super) fn relationship(&self, trust_domain: &TrustDomain) -> Option<&Arc<Relationship>> {
        match self.relationships.get(trust_domain) {
            Some(decided) => decided.as_ref(),
            None => self.state.relationships.get(trust_domain),
        }
    }

    pub(super) fn join_token(&self, hash: &TokenHash) -> Option<&JoinToken> {
        match self.join_tokens.get(hash) {
            Some(decided) => decided.as_ref(),
            None => self.state.join_tokens.get(hash),
        }
    }

    /// The tokens whose time ran out before `now`.
    pub(super) fn expired_join_tokens(&self, now: i64) -> Vec<TokenHash> {
        let tokens = self.state.join_tokens.values().filter(|token| token.expires_at < now);
        tokens.map(|token| token.hash).collect()
    }

    /// What has to be written: for each object its final state, where it had another before.
    pub(super) fn into_changes(self) -> Vec<Change> {
        let mut changes = Vec::new();
        let deleted = self.gone.into_iter().filter(|id| self.put.get(id).is_none());
        changes.extend(deleted.map(Change::DeleteEntry));
        changes.extend(self.put.iter().cloned().map(Change::PutEntry));
        let known = &self.state.nodes;
        changes.extend(settled(self.nodes, known, Change::PutNode, Change::DeleteNode));
        let known = &self.state.bundles;
        changes.extend(settled(self.bundles, known, Change::PutBundle, Change::DeleteBundle));
        let (known, put) = (&self.state.relationships, Change::PutRelationship);
        changes.extend(settled(self.relationships, known, put, Change::DeleteRelationship));
        for (hash, token) in self.join_tokens {
            match token {
                Some(token) => changes.push(Change::PutJoinToken(token)),
                None if self.state.join_tokens.contains_key(&hash) => {
                    changes.push(Change::DeleteJoinToken(hash));
                }
                None => {}
            }
        }
        changes.extend(self.journal.map(Change::PutJournal));
        changes.extend(self.facts.into_iter().map(Change::PutFact));
        changes
    }

    fn is_left(&self, entry: &Entry) -> bool {
        self.gone.is_empty() || !self.gone.contains(&entry.id)
    }
}

/// The changes that lead from what is `known` to what was decided.
fn settled<K: Ord, V>(
    decided: BTreeMap<K, Option<V>>,
    known: &BTreeMap<K, V>,
    put: fn(V) -> Change,
    delete: fn(K) -> Change,
) -> impl Iterator<Item = Change> {
    decided.into_iter().filter_map(move |(key, value)| match value {
        Some(value) => Some(put(value)),
        None => known.contains_key(&key).then(|| delete(key)),
    })
}
