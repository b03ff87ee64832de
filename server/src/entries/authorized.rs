//! Which entries an agent is authorised for, and in which pages a sync tells it so.

use std::collections::HashSet;
use std::sync::Arc;

use steeple::entry::{Entry, EntryId};
use steeple::id::SpiffeId;
use steeple::selector::SelectorSet;

use super::index::EntryIndex;

/// The most entries of one page of a sync. An agent with no more than these gets them at once.
pub const SYNC_PAGE: usize = 500;

/// The entries that an agent is authorised for, in the order of their IDs.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Authorized {
    entries: Box<[Arc<Entry>]>,
}

/// What the first answer of a sync holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FirstAnswer<'a> {
    /// Everything, in one page.
    Entries(&'a [Arc<Entry>]),
    /// Pages of [`SYNC_PAGE`] that only say which entries there are at which revision; the agent
    /// asks for those it lacks.
    Revisions(&'a [Arc<Entry>]),
}

/// The IDs that what an agent is authorised for starts from: its own, and those of the node aliases
/// that it goes by. In order, each once; only those that some entry has as its parent.
#[must_use]
pub fn roots(index: &EntryIndex, agent: &SpiffeId, node: &SelectorSet) -> Vec<SpiffeId> {
    let aliases = index.aliases_of(node).map(|alias| &alias.content.spiffe_id);
    let mut roots: Vec<_> = std::iter::once(agent)
        .chain(aliases)
        .filter(|id| !id.is_server() && !index.children(id).is_empty())
        .cloned()
        .collect();
    roots.sort_unstable();
    roots.dedup();
    roots
}

impl Authorized {
    /// Every entry whose parent is one of `roots`, or the identity of an entry found so.
    #[must_use]
    pub fn below(index: &EntryIndex, roots: &[SpiffeId]) -> Self {
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        let mut reached: HashSet<&SpiffeId> = roots.iter().collect();
        let mut parents: Vec<&SpiffeId> = roots.iter().collect();
        while let Some(parent) = parents.pop() {
            let children = index.children(parent);
            entries.extend(children.iter().cloned());
            for child in children.iter().map(|child| &child.content.spiffe_id) {
                if !index.children(child).is_empty() && reached.insert(child) {
                    parents.push(child);
                }
            }
        }
        // Stable, as the children of one parent are in order already.
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Self { entries: entries.into() }
    }

    /// The entries in the order of their IDs.
    #[must_use]
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    /// The entry of this ID, if the agent is authorised for it.
    #[must_use]
    pub fn get(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        let at = self.entries.binary_search_by(|entry| entry.id.cmp(id)).ok()?;
        self.entries.get(at)
    }

    /// What to answer to the first request of a sync.
    #[must_use]
    pub fn first_answer(&self) -> FirstAnswer<'_> {
        if self.entries.len() <= SYNC_PAGE {
            FirstAnswer::Entries(&self.entries)
        } else {
            FirstAnswer::Revisions(&self.entries)
        }
    }

    /// The entries that an agent asked for, in the order of their IDs; those that it is not
    /// authorised for are left out.
    #[must_use]
    pub fn asked_for<'a>(&self, ids: impl IntoIterator<Item = &'a EntryId>) -> Vec<Arc<Entry>> {
        let mut found: Vec<_> = ids.into_iter().filter_map(|id| self.get(id)).cloned().collect();
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found.dedup_by(|a, b| a.id == b.id);
        found
    }

    /// Whether both hold the very same entries.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// Cuts `entries` into the pages of a sync, each with whether more follow. There is always one.
pub fn pages(entries: &[Arc<Entry>]) -> impl Iterator<Item = (&[Arc<Entry>], bool)> {
    let count = entries.len().div_ceil(SYNC_PAGE).max(1);
    (0..count).map(move |page| {
        let rest = entries.get(page * SYNC_PAGE..).unwrap_or_default();
        (rest.get(..SYNC_PAGE).unwrap_or(rest), page + 1 < count)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an agent with so many entries is authorised for.
    fn authorized(count: usize) -> Authorized {
        let mut index = EntryIndex::new();
        let agent: SpiffeId = "spiffe://td/spire/agent/a".parse().unwrap();
        for n in 0..count {
            let mut entry = Entry::clone(&crate::datastore::suite::plain_entry(n as u32, 0));
            entry.content.parent_id = agent.clone();
            index.insert(Arc::new(entry));
        }
        let roots = roots(&index, &agent, &SelectorSet::default());
        Authorized::below(&index, &roots)
    }

    #[test]
    fn a_sync_says_all_at_once_up_to_a_page() {
        for (count, at_once) in [(0, true), (1, true), (500, true), (501, false)] {
            let authorized = authorized(count);
            assert_eq!(authorized.entries().len(), count);
            assert!(authorized.entries().is_sorted_by(|a, b| a.id < b.id));
            let answer = authorized.first_answer();
            assert_eq!(matches!(answer, FirstAnswer::Entries(_)), at_once, "{count}");
        }
    }

    #[test]
    fn pages_hold_everything_once_and_the_last_says_so() {
        for (count, expected) in [
            (0, vec![(0, false)]),
            (499, vec![(499, false)]),
            (500, vec![(500, false)]),
            (501, vec![(500, true), (1, false)]),
            (1_001, vec![(500, true), (500, true), (1, false)]),
        ] {
            let authorized = authorized(count);
            let pages: Vec<_> = pages(authorized.entries()).collect();
            let sizes: Vec<_> = pages.iter().map(|(page, more)| (page.len(), *more)).collect();
            assert_eq!(sizes, expected);
            let joined: Vec<_> = pages.iter().flat_map(|(page, _)| page.iter().cloned()).collect();
            assert_eq!(joined, authorized.entries());
        }
    }

    #[test]
    fn who_asks_gets_what_it_may_have_in_order_and_once() {
        let authorized = authorized(5);
        let id = |text: &str| EntryId::new(text).unwrap();
        let asked = ["entry-000003", "unknown", "entry-000001", "entry-000003", "entry-000009"];
        let asked: Vec<_> = asked.into_iter().map(id).collect();
        let found = authorized.asked_for(&asked);
        let found: Vec<_> = found.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(found, ["entry-000001", "entry-000003"]);
    }
}
