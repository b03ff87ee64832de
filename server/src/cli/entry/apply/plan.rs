//! What has to be done so that a set of entries is what a file says; does none of it.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest;
use steeple::convert::id_to_proto;
use steeple::entry::EntryId;
use steeple::id::SpiffeId;
use steeple::shown;
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;
use thiserror::Error;

use super::super::difference::{self, Difference};
use super::super::draft::{Draft, DraftError};
use crate::cli::pretty;

/// The longest name of an owner, which leaves room for the rest of an ID.
const MAX_OWNER: usize = 64;

/// Whose entries these are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    /// Those whose ID starts with this name and a dot.
    Owner(String),
    /// Those with this parent.
    Parent(SpiffeId),
}

/// What has to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) creates: Vec<types::Entry>,
    pub(super) updates: Vec<Update>,
    pub(super) deletes: Vec<Delete>,
    /// In the set and not in the file, and nobody asked to delete it.
    pub(super) extra: Vec<types::Entry>,
    pub(super) conflicts: Vec<Conflict>,
    pub(super) unchanged: usize,
}

/// An entry that says something else.
#[derive(Debug, PartialEq)]
pub(super) struct Update {
    pub(super) wanted: types::Entry,
    /// The revision at which it was compared.
    pub(super) revision: i64,
    /// The foreign trust domains that it federated with then.
    pub(super) federated_with: Vec<String>,
    pub(super) differences: Vec<Difference>,
}

/// An entry that is not wanted any more.
#[derive(Debug, PartialEq)]
pub(super) struct Delete {
    pub(super) entry: types::Entry,
    /// Whether it gives what another one is to give, which cannot be there at the same time.
    pub(super) is_in_the_way: bool,
}

/// An entry of the file that cannot be, as somebody else's stands in its place.
#[derive(Debug, PartialEq)]
pub(super) struct Conflict {
    pub(super) wanted: types::Entry,
    pub(super) other: types::Entry,
}

/// Why a file says nothing that could be done.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(super) enum WantedError {
    /// A field is missing.
    #[error("entries[{index}]: {error}")]
    Draft { index: usize, error: DraftError },
    /// An entry has another parent than the set.
    #[error(
        "entries[{index}].parent_id is {found}; with --parent-id {parent} it must be that, or be left out"
    )]
    Parent { index: usize, found: SpiffeId, parent: SpiffeId },
    /// The ID will not do.
    #[error(
        "entries[{index}].entry_id is {found:?}; behind the owner's name it must be 1 to 255 characters of [A-Za-z0-9._-] in all"
    )]
    Id { index: usize, found: String },
    /// Two entries are one.
    #[error("entries[{index}] has the same {what} as entries[{first}]: {value}")]
    Twice { index: usize, first: usize, what: &'static str, value: String },
}

/// Which stored entries a set is about.
pub(super) struct Concerns<'a> {
    scope: &'a Scope,
    keys: BTreeSet<Key>,
    ids: BTreeSet<&'a str>,
}

/// What no two entries may have in common: identity, parent and selectors.
type Key = (String, String, BTreeSet<String>);

/// Reads the name of an owner.
pub(super) fn owner(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=MAX_OWNER).contains(&text.len()) && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(format!("a name has 1 to {MAX_OWNER} characters of [A-Za-z0-9_-]"))
}

/// What a file wants, complete and each entry once.
pub(super) fn wanted(scope: &Scope, drafts: Vec<Draft>) -> Result<Vec<types::Entry>, WantedError> {
    let (mut keys, mut ids) = (BTreeMap::new(), BTreeMap::new());
    let mut wanted = Vec::with_capacity(drafts.len());
    for (index, draft) in drafts.into_iter().enumerate() {
        let entry = scope.complete(index, draft)?;
        if let Some(first) = keys.insert(key(&entry), index) {
            let value = shown::spiffe_id(entry.spiffe_id.as_ref());
            let what = "SPIFFE ID, parent and selectors";
            return Err(WantedError::Twice { index, first, what, value });
        }
        let id = Some(&entry.id).filter(|id| !id.is_empty());
        if let Some((id, first)) = id.and_then(|id| Some((id, ids.insert(id.clone(), index)?))) {
            return Err(WantedError::Twice { index, first, what: "entry_id", value: id.clone() });
        }
        wanted.push(entry);
    }
    Ok(wanted)
}

impl Scope {
    /// What a server is asked for.
    pub(super) fn filter(&self) -> Option<pb::list_entries_request::Filter> {
        match self {
            Self::Owner(_) => None,
            Self::Parent(parent) => Some(pb::list_entries_request::Filter {
                by_parent_id: Some(id_to_proto(parent)),
                ..pb::list_entries_request::Filter::default()
            }),
        }
    }

    /// Whether a stored entry is of the set.
    fn owns(&self, entry: &types::Entry) -> bool {
        match self {
            Self::Owner(owner) => {
                entry.id.strip_prefix(owner).is_some_and(|rest| rest.starts_with('.'))
            }
            Self::Parent(parent) => {
                shown::spiffe_id(entry.parent_id.as_ref()) == parent.to_string()
            }
        }
    }

    /// The entry with what the scope says of it.
    fn complete(&self, index: usize, mut draft: Draft) -> Result<types::Entry, WantedError> {
        if let Self::Parent(parent) = self {
            match draft.parent_id.take() {
                Some(found) if found != *parent => {
                    return Err(WantedError::Parent { index, found, parent: parent.clone() });
                }
                Some(_) | None => draft.parent_id = Some(parent.clone()),
            }
        }
        draft.check_new().map_err(|error| WantedError::Draft { index, error })?;
        let mut entry = draft.into_entry();
        if let Self::Owner(owner) = self {
            let own = format!("{owner}.");
            if entry.id.is_empty() {
                entry.id = format!("{own}{}", fingerprint(&key(&entry)));
            } else if !entry.id.starts_with(&own) {
                entry.id.insert_str(0, &own);
            }
        }
        if !entry.id.is_empty() && EntryId::new(&entry.id).is_err() {
            return Err(WantedError::Id { index, found: entry.id });
        }
        Ok(entry)
    }
}

impl<'a> Concerns<'a> {
    pub(super) fn new(scope: &'a Scope, wanted: &'a [types::Entry]) -> Self {
        let ids = wanted.iter().map(|entry| entry.id.as_str()).filter(|id| !id.is_empty());
        Self { scope, keys: wanted.iter().map(key).collect(), ids: ids.collect() }
    }

    pub(super) fn include(&self, entry: &types::Entry) -> bool {
        self.scope.owns(entry)
            || self.ids.contains(entry.id.as_str())
            || self.keys.contains(&key(entry))
    }
}

impl Plan {
    /// Compares what is wanted with what is stored.
    pub(super) fn new(
        scope: &Scope,
        wanted: &[types::Entry],
        stored: Vec<types::Entry>,
        prune: bool,
    ) -> Self {
        let mut plan = Self::default();
        let (owned, others): (Vec<_>, Vec<_>) =
            stored.into_iter().partition(|entry| scope.owns(entry));
        let others: BTreeMap<_, _> = others.iter().map(|entry| (key(entry), entry)).collect();
        let ids: BTreeMap<_, _> = owned.iter().map(|one| (key(one), one.id.clone())).collect();
        let mut by_id: BTreeMap<_, _> =
            owned.into_iter().map(|entry| (entry.id.clone(), entry)).collect();
        for wanted in wanted {
            let key = key(wanted);
            if let Some(other) = others.get(&key) {
                let (wanted, other) = (wanted.clone(), (*other).clone());
                plan.conflicts.push(Conflict { wanted, other });
                continue;
            }
            let id = if wanted.id.is_empty() { ids.get(&key) } else { Some(&wanted.id) };
            match id.and_then(|id| by_id.remove(id)) {
                Some(actual) => plan.compare(&actual, wanted),
                None => plan.creates.push(wanted.clone()),
            }
        }
        plan.leave(by_id.into_values().collect(), prune);
        plan
    }

    fn compare(&mut self, actual: &types::Entry, wanted: &types::Entry) {
        let differences = difference::between(actual, wanted);
        if differences.is_empty() {
            self.unchanged += 1;
            return;
        }
        let wanted = types::Entry { id: actual.id.clone(), ..wanted.clone() };
        let federated_with = actual.federates_with.clone();
        let revision = actual.revision_number;
        self.updates.push(Update { wanted, revision, federated_with, differences });
    }

    /// Decides on what is in the set and not in the file.
    fn leave(&mut self, rest: Vec<types::Entry>, prune: bool) {
        let coming: BTreeSet<_> = self
            .creates
            .iter()
            .chain(self.updates.iter().map(|update| &update.wanted))
            .map(key)
            .collect();
        if prune {
            let delete = |entry: types::Entry| Delete {
                is_in_the_way: coming.contains(&key(&entry)),
                entry,
            };
            self.deletes = rest.into_iter().map(delete).collect();
        } else {
            self.extra = rest;
        }
    }
}

impl Update {
    /// The change as it goes over the wire: the fields that differ, at the revision that was read.
    pub(super) fn on_the_wire(&self) -> (types::EntryMask, types::Entry) {
        let mut mask = types::EntryMask { revision_number: true, ..types::EntryMask::default() };
        self.differences.iter().for_each(|difference| difference.field.mark(&mut mask));
        let entry = types::Entry { revision_number: self.revision, ..self.wanted.clone() };
        (mask, entry)
    }
}

fn key(entry: &types::Entry) -> Key {
    (
        shown::spiffe_id(entry.spiffe_id.as_ref()),
        shown::spiffe_id(entry.parent_id.as_ref()),
        entry.selectors.iter().map(pretty::selector_text).collect(),
    )
}

/// 128 bits of a hash of what no two entries have in common.
fn fingerprint((spiffe_id, parent_id, selectors): &Key) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for text in [spiffe_id, parent_id].into_iter().chain(selectors) {
        context.update(text.as_bytes());
        context.update(&[0]);
    }
    let hash = context.finish();
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
