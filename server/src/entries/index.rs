//! Entries by everything that they are looked up by.
//!
//! Texts that many entries have in common are kept once: a parent's ID and each selector.

use std::collections::hash_map::{Entry as Slot, RandomState};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, Hash};
use std::ops::Bound;
use std::sync::Arc;

use steeple::entry::{Entry, EntryContent, EntryId};
use steeple::id::{SpiffeId, TrustDomain};
use steeple::selector::{Selector, SelectorSet};

use super::group::Group;

/// A set of entries, each ID once.
#[derive(Debug, Default)]
pub struct EntryIndex {
    by_id: BTreeMap<EntryId, Arc<Entry>>,
    by_parent: HashMap<SpiffeId, Group>,
    by_spiffe_id: HashMap<SpiffeId, Group>,
    /// By the hash of what makes two entries similar.
    by_likeness: HashMap<u64, Group>,
    likeness: RandomState,
    by_expiry: BTreeSet<(i64, EntryId)>,
    /// Each node alias under one of its selectors: whoever has them all has that one.
    aliases: HashMap<Selector, Group>,
    /// The selectors of all entries and how many entries have each.
    selectors: HashMap<Selector, u32>,
}

impl EntryIndex {
    /// No entries.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry, or replaces the one of the same ID and returns that.
    pub fn insert(&mut self, mut entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let replaced = self.remove(&entry.id);
        self.share(&mut Arc::make_mut(&mut entry).content);
        let content = &entry.content;
        put(&mut self.by_parent, content.parent_id.clone(), &entry);
        put(&mut self.by_spiffe_id, content.spiffe_id.clone(), &entry);
        let likeness = likeness(&self.likeness, content);
        put(&mut self.by_likeness, likeness, &entry);
        if let Some(expires_at) = content.expires_at {
            self.by_expiry.insert((expires_at, entry.id.clone()));
        }
        if content.is_node_alias() {
            let crowd = |selector: &&Selector| {
                self.aliases.get(*selector).map_or(0, |group| group.as_slice().len())
            };
            if let Some(rarest) = content.selectors.iter().min_by_key(crowd) {
                put(&mut self.aliases, rarest.clone(), &entry);
            }
        }
        self.by_id.insert(entry.id.clone(), entry);
        replaced
    }

    /// Removes an entry and returns it.
    pub fn remove(&mut self, id: &EntryId) -> Option<Arc<Entry>> {
        let entry = self.by_id.remove(id)?;
        let content = &entry.content;
        take(&mut self.by_parent, content.parent_id.clone(), id);
        take(&mut self.by_spiffe_id, content.spiffe_id.clone(), id);
        let likeness = likeness(&self.likeness, content);
        take(&mut self.by_likeness, likeness, id);
        if let Some(expires_at) = content.expires_at {
            self.by_expiry.remove(&(expires_at, id.clone()));
        }
        for selector in content.selectors.iter() {
            if content.is_node_alias() {
                take(&mut self.aliases, selector.clone(), id);
            }
            self.release(selector);
        }
        Some(entry)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The entry of this ID.
    #[must_use]
    pub fn get(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.by_id.get(id)
    }

    /// All entries in the order of their IDs.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_id.values()
    }

    /// The entries after this ID, in order.
    pub fn after<'a>(
        &'a self,
        id: Option<&EntryId>,
    ) -> impl Iterator<Item = &'a Arc<Entry>> + use<'a> {
        let start = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_id.range::<EntryId, _>((start, Bound::Unbounded)).map(|(_, entry)| entry)
    }

    /// The entries with this parent, in the order of their IDs.
    #[must_use]
    pub fn children(&self, parent_id: &SpiffeId) -> &[Arc<Entry>] {
        self.by_parent.get(parent_id).map_or(&[], Group::as_slice)
    }

    /// The entries that give this identity, in the order of their IDs.
    #[must_use]
    pub fn with_spiffe_id(&self, spiffe_id: &SpiffeId) -> &[Arc<Entry>] {
        self.by_spiffe_id.get(spiffe_id).map_or(&[], Group::as_slice)
    }

    /// The entries of the same identity, parent and selectors, in the order of their IDs.
    pub fn similar(&self, content: &EntryContent) -> impl Iterator<Item = &Arc<Entry>> {
        let candidates = self.by_likeness.get(&likeness(&self.likeness, content));
        let candidates = candidates.map_or(&[][..], Group::as_slice).iter();
        candidates.filter(move |entry| {
            entry.content.spiffe_id == content.spiffe_id
                && entry.content.parent_id == content.parent_id
                && entry.content.selectors == content.selectors
        })
    }

    /// The node aliases that a node of these selectors goes by.
    pub fn aliases_of(&self, node: &SelectorSet) -> impl Iterator<Item = &Arc<Entry>> {
        let candidates = node.iter().filter_map(|selector| self.aliases.get(selector));
        candidates
            .flat_map(Group::as_slice)
            .filter(|alias| alias.content.selectors.is_subset_of(node))
    }

    /// The entries whose time ran out before `now`, in seconds since 1970, oldest first.
    pub fn expired(&self, now: i64) -> impl Iterator<Item = &EntryId> {
        self.by_expiry.iter().take_while(move |(expires_at, _)| *expires_at < now).map(|(_, id)| id)
    }

    /// The entries whose workloads get the bundle of this trust domain, in order.
    pub fn federating_with(&self, trust_domain: &TrustDomain) -> impl Iterator<Item = &Arc<Entry>> {
        self.iter().filter(move |entry| entry.content.federates_with.contains(trust_domain))
    }

    /// Replaces texts that other entries have as well by theirs.
    fn share(&mut self, content: &mut EntryContent) {
        if let Some((parent_id, _)) = self.by_parent.get_key_value(&content.parent_id) {
            content.parent_id = parent_id.clone();
        }
        content.spiffe_id = content.spiffe_id.clone().sharing(content.parent_id.trust_domain());
        let selectors = content.selectors.iter().cloned();
        content.selectors = selectors.map(|selector| self.acquire(selector)).collect();
        content.dns_names.shrink_to_fit();
    }

    fn acquire(&mut self, selector: Selector) -> Selector {
        match self.selectors.entry(selector) {
            Slot::Occupied(mut slot) => {
                *slot.get_mut() += 1;
                slot.key().clone()
            }
            Slot::Vacant(slot) => {
                let selector = slot.key().clone();
                slot.insert(1);
                selector
            }
        }
    }

    fn release(&mut self, selector: &Selector) {
        if let Some(count) = self.selectors.get_mut(selector) {
            *count -= 1;
            if *count == 0 {
                self.selectors.remove(selector);
            }
        }
    }
}

fn likeness(hasher: &RandomState, content: &EntryContent) -> u64 {
    hasher.hash_one((&content.spiffe_id, &content.parent_id, &content.selectors))
}

fn put<K: Eq + Hash>(groups: &mut HashMap<K, Group>, key: K, entry: &Arc<Entry>) {
    match groups.entry(key) {
        Slot::Occupied(mut slot) => slot.get_mut().put(Arc::clone(entry)),
        Slot::Vacant(slot) => {
            slot.insert(Group::One(Arc::clone(entry)));
        }
    }
}

fn take<K: Eq + Hash>(groups: &mut HashMap<K, Group>, key: K, id: &EntryId) {
    if let Slot::Occupied(mut slot) = groups.entry(key)
        && slot.get_mut().remove(id)
    {
        slot.remove();
    }
}
