//! The differential protocol of `SyncAuthorizedEntries`: the server lists what there is, and the
//! agent asks for what it does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use steeple::convert::stored_entry_from_proto;
use steeple::entry::{Entry, EntryId};
use steeple_proto::spire::api::server::entry::v1::{
    EntryRevision, GetAuthorizedEntriesRequest, SyncAuthorizedEntriesRequest,
    SyncAuthorizedEntriesResponse, entry_client::EntryClient,
};
use steeple_proto::spire::api::types;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tracing::warn;

use super::link::request;
use super::{KnownEntries, MAX_ANSWER};

/// How many entries are asked for at once.
const PAGE: usize = 500;

/// The most entries that a server may send. More than a node ever has, so that a server that never
/// comes to an end does not fill its memory.
const MAX_ENTRIES: usize = 1_000_000;

/// Remembers which entries could not be read, so that each is logged once.
#[derive(Debug, Default)]
pub(super) struct Unreadable(Mutex<BTreeSet<(String, i64)>>);

/// What an exchange has brought so far.
#[derive(Debug, Default)]
struct Answer {
    entries: BTreeMap<EntryId, Arc<Entry>>,
    wanted: Vec<String>,
    received: usize,
}

/// All entries, by the differential protocol.
pub(super) async fn sync(
    channel: Channel,
    known: &KnownEntries,
    unreadable: &Unreadable,
) -> Result<Vec<Arc<Entry>>, Status> {
    let (requests, stream) = mpsc::channel(1);
    let send = async |ids: Vec<String>, output_mask| {
        let message = SyncAuthorizedEntriesRequest { output_mask, ids };
        requests.send(message).await.map_err(|_closed| Status::unavailable("the stream has ended"))
    };
    send(Vec::new(), Some(mask())).await?;
    let mut client = EntryClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let pages = client.sync_authorized_entries(request(ReceiverStream::new(stream))).await?;
    let mut pages = pages.into_inner();

    let mut answer = Answer::default();
    while answer.take(next(&mut pages).await?, known, unreadable)? {}
    let wanted = std::mem::take(&mut answer.wanted);
    for ids in wanted.chunks(PAGE) {
        send(ids.to_vec(), None).await?;
        while answer.take(next(&mut pages).await?, known, unreadable)? {}
    }
    Ok(answer.entries.into_values().collect())
}

/// All entries at once, from a server without the differential protocol.
pub(super) async fn all(
    channel: Channel,
    known: &KnownEntries,
    unreadable: &Unreadable,
) -> Result<Vec<Arc<Entry>>, Status> {
    let mut client = EntryClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let message = GetAuthorizedEntriesRequest { output_mask: Some(mask()) };
    let entries = client.get_authorized_entries(request(message)).await?.into_inner().entries;
    let mut answer = Answer::default();
    let page = SyncAuthorizedEntriesResponse { entries, ..Default::default() };
    answer.take(page, known, unreadable)?;
    Ok(answer.entries.into_values().collect())
}

/// What an agent has to know of an entry. Lifetimes and names in certificates are the server's
/// business.
fn mask() -> types::EntryMask {
    types::EntryMask {
        spiffe_id: true,
        parent_id: true,
        selectors: true,
        x509_svid_ttl: false,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: true,
        dns_names: false,
        revision_number: true,
        store_svid: true,
        jwt_svid_ttl: false,
        hint: true,
        created_at: true,
        additional_attributes: true,
    }
}

async fn next(
    pages: &mut Streaming<SyncAuthorizedEntriesResponse>,
) -> Result<SyncAuthorizedEntriesResponse, Status> {
    pages.message().await?.ok_or_else(|| Status::unavailable("the answer has no end"))
}

impl Answer {
    /// Takes in one page; `true` if more belong to the same request.
    fn take(
        &mut self,
        page: SyncAuthorizedEntriesResponse,
        known: &KnownEntries,
        unreadable: &Unreadable,
    ) -> Result<bool, Status> {
        self.received += page.entries.len() + page.entry_revisions.len();
        if self.received > 2 * MAX_ENTRIES {
            return Err(Status::out_of_range("too many entries"));
        }
        for revision in page.entry_revisions {
            self.compare(revision, known);
        }
        for entry in page.entries {
            match stored_entry_from_proto(&entry) {
                Ok(entry) => self.put(entry, known),
                Err(error) if unreadable.is_new(&entry) => {
                    warn!(entry_id = entry.id, %error, "an entry cannot be read, so it is not served");
                }
                Err(_) => {}
            }
        }
        Ok(page.more)
    }

    /// Keeps what is known in this very revision, and asks for everything else.
    fn compare(&mut self, revision: EntryRevision, known: &KnownEntries) {
        let same = EntryId::new(&revision.id).ok().and_then(|id| known.get_key_value(&id)).filter(
            |(_, entry)| {
                entry.revision == revision.revision_number
                    && entry.created_at == revision.created_at
            },
        );
        match same {
            Some((id, entry)) => {
                self.entries.insert(id.clone(), Arc::clone(entry));
            }
            None => self.wanted.push(revision.id),
        }
    }

    fn put(&mut self, entry: Entry, known: &KnownEntries) {
        let same = known.get(&entry.id).filter(|known| ***known == entry);
        let entry = same.map_or_else(|| Arc::new(entry), Arc::clone);
        self.entries.insert(entry.id.clone(), entry);
    }
}

impl Unreadable {
    fn is_new(&self, entry: &types::Entry) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= 1_000 {
            seen.clear();
        }
        seen.insert((entry.id.clone(), entry.revision_number))
    }
}
