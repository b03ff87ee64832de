//! `SyncAuthorizedEntries`: an agent learns which entries are its own, and gets those that it does
//! not have.
//!
//! An agent with few entries gets all of them in the first answer, which is then the last. One with
//! many gets pages of IDs and revisions, and asks for what it lacks as often as it likes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use steeple::convert::{all_entry_fields, entry_to_proto};
use steeple::entry::{Entry, EntryId};
use steeple_proto::spire::api::server::entry::v1 as pb;
use steeple_proto::spire::api::types;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::api::error::ApiError;
use crate::entries::authorized::{Authorized, FirstAnswer, pages};

/// How long an agent may take to its next request.
const PATIENCE: Duration = Duration::from_secs(30);

type Requests = Streaming<pb::SyncAuthorizedEntriesRequest>;

/// What is sent to the agent.
pub(super) type Answers = BoxStream<'static, Result<pb::SyncAuthorizedEntriesResponse, Status>>;

/// Answers an agent that is authorised for these entries, until `stop`.
pub(super) async fn answer(
    authorized: Arc<Authorized>,
    mut requests: Requests,
    stop: CancellationToken,
) -> Result<Answers, Status> {
    let Some(first) = next(&mut requests, &stop).await? else {
        return Ok(stream::empty().boxed());
    };
    let mask = check_first(first)?;
    let waiting: VecDeque<_> = match authorized.first_answer() {
        FirstAnswer::Entries(entries) => {
            let answer = full_page(entries, false, &mask);
            return Ok(stream::once(std::future::ready(Ok(answer))).boxed());
        }
        FirstAnswer::Revisions(entries) => {
            pages(entries).map(|(page, more)| sparse_page(page, more)).collect()
        }
    };
    let sync = Sync { authorized, requests, stop, mask, waiting, wanted: VecDeque::new() };
    Ok(stream::try_unfold(sync, Sync::next).boxed())
}

/// A sync in several steps.
struct Sync {
    authorized: Arc<Authorized>,
    requests: Requests,
    stop: CancellationToken,
    mask: types::EntryMask,
    /// The pages of revisions that are not sent yet.
    waiting: VecDeque<pb::SyncAuthorizedEntriesResponse>,
    /// The pages of entries that are not sent yet, which become messages one at a time.
    wanted: VecDeque<(Vec<Arc<Entry>>, bool)>,
}

impl Sync {
    async fn next(mut self) -> Result<Option<(pb::SyncAuthorizedEntriesResponse, Self)>, Status> {
        loop {
            if let Some(page) = self.waiting.pop_front() {
                return Ok(Some((page, self)));
            }
            if let Some((page, more)) = self.wanted.pop_front() {
                let page = full_page(&page, more, &self.mask);
                return Ok(Some((page, self)));
            }
            let Some(request) = next(&mut self.requests, &self.stop).await? else {
                return Ok(None);
            };
            // What cannot be an ID is the ID of nothing.
            let ids: Vec<_> = request.ids.iter().filter_map(|id| EntryId::new(id).ok()).collect();
            let entries = self.authorized.asked_for(&ids);
            self.wanted = pages(&entries).map(|(page, more)| (page.to_vec(), more)).collect();
        }
    }
}

async fn next(
    requests: &mut Requests,
    stop: &CancellationToken,
) -> Result<Option<pb::SyncAuthorizedEntriesRequest>, Status> {
    tokio::select! {
        request = requests.message() => request,
        () = stop.cancelled() => Err(ApiError::Stopping.into()),
        () = tokio::time::sleep(PATIENCE) => {
            Err(ApiError::TooSlow("no request for 30 s").into())
        }
    }
}

/// The mask of the first request, which counts for all that follow.
fn check_first(request: pb::SyncAuthorizedEntriesRequest) -> Result<types::EntryMask, ApiError> {
    if !request.ids.is_empty() {
        return Err(ApiError::Invalid {
            field: "ids",
            expected: "specifying IDs on initial request is not supported",
        });
    }
    match request.output_mask {
        None => Ok(all_entry_fields()),
        Some(mask) if mask.revision_number => Ok(mask),
        Some(_) => Err(ApiError::Invalid {
            field: "output_mask",
            expected: "revision number cannot be masked",
        }),
    }
}

fn full_page(
    entries: &[Arc<Entry>],
    more: bool,
    mask: &types::EntryMask,
) -> pb::SyncAuthorizedEntriesResponse {
    pb::SyncAuthorizedEntriesResponse {
        entry_revisions: Vec::new(),
        entries: entries.iter().map(|entry| entry_to_proto(entry, mask)).collect(),
        more,
    }
}

fn sparse_page(entries: &[Arc<Entry>], more: bool) -> pb::SyncAuthorizedEntriesResponse {
    let revision = |entry: &Arc<Entry>| pb::EntryRevision {
        id: entry.id.to_string(),
        revision_number: entry.revision,
        created_at: entry.created_at,
    };
    pb::SyncAuthorizedEntriesResponse {
        entry_revisions: entries.iter().map(revision).collect(),
        entries: Vec::new(),
        more,
    }
}
