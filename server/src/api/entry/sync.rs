//! `SyncAuthorizedEntries`: an agent learns which entries are its own, and gets those that it does
//! not have.
//!
//! An agent whose entries are few, and fit into one message, gets all of them in the first answer,
//! which is then the last. One with more gets pages of IDs and revisions, and asks for what it lacks as often as it likes.

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
use crate::api::pages::fitting;
use crate::entries::authorized::{Authorized, FirstAnswer, SYNC_PAGE, pages};

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
    if let FirstAnswer::Entries(entries) = authorized.first_answer() {
        let shown = fitting(entries.iter(), |entry| entry_to_proto(entry, &mask));
        if shown.len() == entries.len() {
            let answer = full_page(shown, false);
            return Ok(stream::once(std::future::ready(Ok(answer))).boxed());
        }
    }
    let revisions = pages(authorized.entries());
    let waiting = revisions.map(|(page, more)| sparse_page(page, more)).collect();
    let sync = Sync { authorized, requests, stop, mask, waiting, wanted: None };
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
    /// The entries that were asked for and are not sent yet, which become messages a page at a
    /// time; `None` once the last page was sent.
    wanted: Option<VecDeque<Arc<Entry>>>,
}

impl Sync {
    async fn next(mut self) -> Result<Option<(pb::SyncAuthorizedEntriesResponse, Self)>, Status> {
        loop {
            if let Some(page) = self.waiting.pop_front() {
                return Ok(Some((page, self)));
            }
            if let Some(wanted) = self.wanted.take() {
                let page = self.next_page(wanted);
                return Ok(Some((page, self)));
            }
            let Some(request) = next(&mut self.requests, &self.stop).await? else {
                return Ok(None);
            };
            // What cannot be an ID is the ID of nothing.
            let ids: Vec<_> = request.ids.iter().filter_map(|id| EntryId::new(id).ok()).collect();
            self.wanted = Some(self.authorized.asked_for(&ids).into());
        }
    }

    /// The first of the entries that are left, as many as fit. The rest waits for its turn.
    fn next_page(&mut self, mut left: VecDeque<Arc<Entry>>) -> pb::SyncAuthorizedEntriesResponse {
        let show = |entry: &Entry| entry_to_proto(entry, &self.mask);
        let mut shown = fitting(left.iter().take(SYNC_PAGE), show);
        if shown.is_empty() {
            // One that is too long for any message: the agent will say so.
            shown.extend(left.front().map(|entry| show(entry)));
        }
        left.drain(..shown.len());
        let more = !left.is_empty();
        self.wanted = more.then_some(left);
        full_page(shown, more)
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

fn full_page(entries: Vec<types::Entry>, more: bool) -> pb::SyncAuthorizedEntriesResponse {
    pb::SyncAuthorizedEntriesResponse { entry_revisions: Vec::new(), entries, more }
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
