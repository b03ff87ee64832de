//! Writes of registration entries, in batches with one result for each item.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use steeple::clock;
use steeple::entry::{Entry, EntryContent, EntryError, EntryId};
use steeple::id::TrustDomain;
use thiserror::Error;
use uuid::{ContextV7, Timestamp, Uuid};

use super::Registry;
use super::draft::Draft;
use super::writer::{WriteError, spread};

/// A change of an entry. It is made on what is stored when it is written.
pub struct EntryUpdate {
    /// Which entry.
    pub id: EntryId,
    /// The revision that it has to be at, if that matters.
    pub expected_revision: Option<i64>,
    /// Turns what it says into what it is to say. It may be called several times.
    pub change: Box<dyn Fn(&mut EntryContent) + Send + Sync>,
}

/// Why an entry was not written. The rest of its batch is not affected.
#[derive(Clone, Debug, Error)]
pub enum EntryWriteError {
    /// There is an entry of the same identity, parent and selectors.
    #[error("similar entry already exists")]
    Similar(Arc<Entry>),
    /// There is an entry of that ID which says something else.
    #[error("entry ID {} is taken by another entry", .0.id)]
    IdTaken(Arc<Entry>),
    /// There is no such entry.
    #[error("entry not found")]
    NotFound(EntryId),
    /// The entry was changed since.
    #[error("the entry is at revision {found} and not at {expected}; read it again")]
    Revision {
        /// The revision that it is at.
        found: i64,
        /// The one that it was to be at.
        expected: i64,
    },
    /// The bundle of a trust domain that the entry federates with is missing.
    #[error("unable to find federated bundle {:?}", .0.as_str())]
    NoFederatedBundle(TrustDomain),
    /// What the entry says cannot be.
    #[error("invalid entry: {0}")]
    Invalid(EntryError),
    /// It could not be stored, nor could anything else of the batch.
    #[error(transparent)]
    NotWritten(#[from] WriteError),
}

impl Registry {
    /// Creates entries, each with the ID given or one made up. Results are in the order of items.
    pub async fn create_entries(
        &self,
        items: Vec<(Option<EntryId>, EntryContent)>,
        now: SystemTime,
    ) -> Vec<Result<Arc<Entry>, EntryWriteError>> {
        let own = self.trust_domain.clone();
        let count = items.len();
        let items: Vec<_> =
            items.into_iter().map(|(id, content)| (Chosen::new(id, now), content)).collect();
        let created_at = clock::unix_seconds(now);
        let written = self.write(move |draft| {
            let create = |(id, content): &(Chosen, EntryContent)| {
                create(draft, &own, id, content, created_at)
            };
            items.iter().map(create).collect()
        });
        spread(written.await, count)
    }

    /// Changes entries. Results are in the order of items. A change that changes nothing leaves the
    /// revision as it is.
    pub async fn update_entries(
        &self,
        items: Vec<EntryUpdate>,
    ) -> Vec<Result<Arc<Entry>, EntryWriteError>> {
        let own = self.trust_domain.clone();
        let count = items.len();
        let written =
            self.write(move |draft| items.iter().map(|item| update(draft, &own, item)).collect());
        spread(written.await, count)
    }

    /// Deletes entries. Results are in the order of items, each the entry that was.
    pub async fn delete_entries(
        &self,
        ids: Vec<EntryId>,
    ) -> Vec<Result<Arc<Entry>, EntryWriteError>> {
        let count = ids.len();
        let written = self.write(move |draft| ids.iter().map(|id| delete(draft, id)).collect());
        spread(written.await, count)
    }
}

/// Checks content, and that there is a bundle for each trust domain that it federates with, save for
/// those that it did before.
pub fn check_content(
    own: &TrustDomain,
    content: &EntryContent,
    before: &BTreeSet<TrustDomain>,
    has_bundle: impl Fn(&TrustDomain) -> bool,
) -> Result<(), EntryWriteError> {
    content.check(own).map_err(EntryWriteError::Invalid)?;
    match content.federates_with.difference(before).find(|name| !has_bundle(name)) {
        Some(missing) => Err(EntryWriteError::NoFederatedBundle(missing.clone())),
        None => Ok(()),
    }
}

/// The ID of a new entry, and whether its creator chose it.
struct Chosen {
    id: EntryId,
    by_creator: bool,
}

impl Chosen {
    fn new(id: Option<EntryId>, now: SystemTime) -> Self {
        match id {
            Some(id) => Self { id, by_creator: true },
            None => Self { id: new_id(now), by_creator: false },
        }
    }
}

/// A new ID, greater than those made up before: where a workload has several identities, the
/// oldest entry counts first, and `created_at` does not tell those of one second apart.
pub(super) fn new_id(now: SystemTime) -> EntryId {
    static LAST: Mutex<ContextV7> = Mutex::new(ContextV7::new());
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let time = Timestamp::from_unix(&*last, since.as_secs(), since.subsec_nanos());
    let text = Uuid::new_v7(time).to_string();
    #[expect(clippy::expect_used, reason = "the text of a UUID is hexadecimal digits and hyphens")]
    EntryId::new(&text).expect("a UUID is an entry ID")
}

fn create(
    draft: &mut Draft<'_>,
    own: &TrustDomain,
    chosen: &Chosen,
    content: &EntryContent,
    created_at: i64,
) -> Result<Arc<Entry>, EntryWriteError> {
    check(draft, own, content, &BTreeSet::new())?;
    if let Some(similar) = draft.similar(content) {
        return Err(EntryWriteError::Similar(Arc::clone(similar)));
    }
    if chosen.by_creator
        && let Some(other) = draft.entry(&chosen.id)
    {
        return Err(EntryWriteError::IdTaken(Arc::clone(other)));
    }
    let id = chosen.id.clone();
    let entry = Arc::new(Entry { id, revision: 0, created_at, content: content.clone() });
    draft.put_entry(Arc::clone(&entry));
    Ok(entry)
}

fn update(
    draft: &mut Draft<'_>,
    own: &TrustDomain,
    item: &EntryUpdate,
) -> Result<Arc<Entry>, EntryWriteError> {
    let Some(former) = draft.entry(&item.id).cloned() else {
        return Err(EntryWriteError::NotFound(item.id.clone()));
    };
    if let Some(expected) = item.expected_revision.filter(|expected| *expected != former.revision) {
        return Err(EntryWriteError::Revision { found: former.revision, expected });
    }
    let mut content = former.content.clone();
    (item.change)(&mut content);
    if content == former.content {
        return Ok(former);
    }
    check(draft, own, &content, &former.content.federates_with)?;
    let revision = former.revision.saturating_add(1);
    let entry = Arc::new(Entry { content, revision, ..Entry::clone(&former) });
    draft.put_entry(Arc::clone(&entry));
    Ok(entry)
}

fn delete(draft: &mut Draft<'_>, id: &EntryId) -> Result<Arc<Entry>, EntryWriteError> {
    let Some(former) = draft.entry(id).cloned() else {
        return Err(EntryWriteError::NotFound(id.clone()));
    };
    draft.delete_entry(id);
    Ok(former)
}

fn check(
    draft: &Draft<'_>,
    own: &TrustDomain,
    content: &EntryContent,
    known: &BTreeSet<TrustDomain>,
) -> Result<(), EntryWriteError> {
    check_content(own, content, known, |name| draft.bundle(name).is_some())
}

impl fmt::Debug for EntryUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EntryUpdate").field("id", &self.id).finish_non_exhaustive()
    }
}
