//! A few entries in the order of their IDs, without an allocation for the common case of one.

use std::sync::Arc;

use steeple::entry::{Entry, EntryId};

/// At least one entry, unless [`Group::remove`] said that none is left.
#[derive(Debug)]
pub(super) enum Group {
    /// One entry.
    One(Arc<Entry>),
    /// Any number, in order.
    Many(Vec<Arc<Entry>>),
}

impl Group {
    /// Adds an entry, or replaces the one of the same ID.
    pub(super) fn put(&mut self, entry: Arc<Entry>) {
        match self {
            Self::One(only) if only.id == entry.id => *only = entry,
            Self::One(only) => {
                let mut both = vec![Arc::clone(only), entry];
                both.sort_by(|a, b| a.id.cmp(&b.id));
                *self = Self::Many(both);
            }
            Self::Many(entries) => match position(entries, &entry.id) {
                Ok(at) => {
                    if let Some(place) = entries.get_mut(at) {
                        *place = entry;
                    }
                }
                Err(at) => entries.insert(at, entry),
            },
        }
    }

    /// Removes an entry, and says whether none is left.
    pub(super) fn remove(&mut self, id: &EntryId) -> bool {
        match self {
            Self::One(only) => only.id == *id,
            Self::Many(entries) => {
                if let Ok(at) = position(entries, id) {
                    entries.remove(at);
                }
                if entries.capacity() > 4 * entries.len() {
                    entries.shrink_to(2 * entries.len());
                }
                entries.is_empty()
            }
        }
    }

    /// The entries in order.
    pub(super) fn as_slice(&self) -> &[Arc<Entry>] {
        match self {
            Self::One(only) => std::slice::from_ref(only),
            Self::Many(entries) => entries,
        }
    }
}

fn position(entries: &[Arc<Entry>], id: &EntryId) -> Result<usize, usize> {
    match entries.last() {
        // Entries are loaded in order.
        Some(last) if last.id < *id => Err(entries.len()),
        Some(_) | None => entries.binary_search_by(|entry| entry.id.cmp(id)),
    }
}
