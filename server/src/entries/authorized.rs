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
